"""The table of serving: what every gateway process answers with at the moment."""

from datetime import datetime

from sqlalchemy import JSON
from sqlmodel import Column, Field, SQLModel

from ingest.database import UtcDateTime


class Gateway(SQLModel, table=True):
    """One gateway process. An adapter that no live gateway routes to or has requests on is drained."""

    __tablename__ = "gateways"

    id: str = Field(primary_key=True)
    heartbeat: datetime = Field(sa_type=UtcDateTime)
    routes: dict[str, str] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False), description="By task, the adapter that answers it."
    )
    in_flight: dict[str, int] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False), description="By adapter, requests not yet finished."
    )
