"""Run by Alembic: compares with, and writes, the tables of all stages, in the transaction that the caller opened."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlmodel.sql.sqltypes import AutoString

from deploy.migrations.tables import compare_type, metadata
from ingest.database import UtcDateTime


def render_item(type_: str, item: Any, _autogen: AutogenContext) -> str | Literal[False]:
    """Write plain types into revisions: a revision must not change when our own types do."""
    if type_ == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if type_ == "type" and isinstance(item, AutoString):
        return "sa.String()"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata(connection.dialect.name),
    render_item=render_item,
    compare_type=compare_type,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
