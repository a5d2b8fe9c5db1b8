"""Run by Alembic: compares with, and writes, the tables of all stages, in the transaction that the caller opened."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import DateTime
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

import ingest.keys
import pairing.tables
import serving.tables
import trainer.tables
from ingest.database import UtcDateTime

_STAGES = (ingest.keys, pairing.tables, trainer.tables, serving.tables)


def render_item(type_: str, item: Any, _autogen: AutogenContext) -> str | Literal[False]:
    """Write plain types into revisions: a revision must not change when our own types do."""
    if type_ == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if type_ == "type" and isinstance(item, AutoString):
        return "sa.String()"
    return False


def compare_type(_context: Any, _column: Any, _metadata_column: Any, inspected: Any, ours: Any) -> bool | None:
    if isinstance(ours, UtcDateTime):
        return not isinstance(inspected, DateTime)
    return None  # let Alembic decide


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_item=render_item,
    compare_type=compare_type,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
