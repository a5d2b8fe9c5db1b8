"""The tables of rounds, adapters and releases. Stages to the right read them too."""

from datetime import datetime
from typing import Literal

from sqlalchemy import JSON, Text, UniqueConstraint
from sqlmodel import Column, Field, SQLModel

from ingest.database import KEY, UtcDateTime
from ingest.events import BASE as BASE  # the name is used by every stage to the right too

RoundState = Literal["planned", "training", "sealed", "passed", "refused", "failed", "tainted"]
"""tainted: made with what a user wrote who was erased since, or on top of an adapter that was; its pairs are new again."""


class Round(SQLModel, table=True):
    """One incremental DPO training over a fixed, recorded set of pairs. Its folder holds the manifest."""

    __tablename__ = "rounds"
    __table_args__ = (UniqueConstraint("task", "number"),)

    id: int | None = Field(default=None, primary_key=True)
    task: str = Field(index=True)
    number: int = Field(description="1, 2, ... within the task; never reused.")
    state: str = Field(default="planned", index=True, description="One of RoundState.")
    parent: str = Field(description="Adapter that training starts from, or `base`.")
    live: str = Field(description="Adapter that was live when the round was planned, or `base`.")
    attempts: int = Field(default=0, description="How often the child was started.")
    planned_at: datetime = Field(sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    train_s: float | None = Field(default=None, description="Duration of the training itself, in seconds.")
    verdict: dict | None = Field(default=None, sa_column=Column(JSON), description="The gate's verdict with its figures.")  # type: ignore[type-arg]
    error: str | None = Field(default=None, sa_column=Column(Text), description="Why the round failed, or is tainted.")

    @property
    def adapter(self) -> str:
        """Name of the adapter that this round makes."""
        return f"{self.task}-r{self.number:06d}"


class RoundPair(SQLModel, table=True):
    """A pair in a round. A pair is new until a round with it reached any verdict."""

    __tablename__ = "round_pairs"

    round_id: int = Field(primary_key=True, foreign_key="rounds.id")
    pair_id: str = Field(primary_key=True, index=True, sa_type=KEY)
    split: str = Field(description="train or holdout.")


class RoundEvent(SQLModel, table=True):
    """An event behind a pair in a round, as it was when the round was planned."""

    __tablename__ = "round_events"

    round_id: int = Field(primary_key=True, foreign_key="rounds.id")
    pair_id: str = Field(primary_key=True, sa_type=KEY)
    event_id: str = Field(primary_key=True, index=True, sa_type=KEY)


class Adapter(SQLModel, table=True):
    """A sealed LoRA. Rollout keeps it loaded while `wanted`, or while a release needs it."""

    __tablename__ = "adapters"

    name: str = Field(primary_key=True)
    task: str = Field(index=True)
    round_id: int = Field(foreign_key="rounds.id")
    parent: str
    path: str = Field(description="Absolute directory.")
    manifest_sha256: str
    sealed_at: datetime = Field(sa_type=UtcDateTime)
    wanted: bool = Field(default=False, description="Loaded without traffic, to be judged.")
    tainted_at: datetime | None = Field(
        default=None,
        sa_type=UtcDateTime,
        description="When it was seen to rest on what an erased user wrote; it never answers again.",
    )


class Release(SQLModel, table=True):
    """What shall answer a task. The newest row is wanted; the newest with `live_at` answers."""

    __tablename__ = "releases"

    id: int | None = Field(default=None, primary_key=True)
    task: str = Field(index=True)
    adapter: str = Field(description="Name of an adapter, or `base`.")
    reason: str = Field(description="gate, promote, rollback or taint.")
    asked_by: str = Field(description="`gate`, `erasure`, or the person who said so by name.")
    created_at: datetime = Field(sa_type=UtcDateTime)
    live_at: datetime | None = Field(default=None, sa_type=UtcDateTime, description="When traffic was moved to it.")
