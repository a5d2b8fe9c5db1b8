"""Where events stand in their generation, instead of the hashes of those that hold it

Of several carried versions of a generation another one may count now: everything is derived again.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_HELD = sa.text("prompt_hash IS NOT NULL")
_KEPT = ("task", "generation_id", "event_id", "prompt_hash", "evaluation", "user")


def upgrade() -> None:
    of_postgres = op.get_bind().dialect.name == "postgresql"
    by, edit_of = (
        f"e.body::json ->> '{name}'" if of_postgres else f"json_extract(e.body, '$.{name}')" for name in ("by", "edit_of")
    )
    place = f"""CASE
        WHEN e.type = 'generation' THEN ' '
        WHEN e.type = 'regeneration' OR (e.type = 'edit' AND {edit_of} IS NOT NULL) THEN ''
        WHEN e.type IN ('acceptance', 'rating') THEN 'alone'
        WHEN e.type = 'score' THEN 'score'
        ELSE coalesce({by}, 'user') || coalesce(' ' || e."user", '') END"""
    _remake(sa.Column("place", sa.Text(collation="C" if of_postgres else None), nullable=False), ("place", "event_id"), place)


def downgrade() -> None:
    _remake(
        sa.Column("rank", sa.String(), nullable=True),
        ("event_id",),
        "CASE WHEN n.prompt_hash IS NOT NULL THEN CASE WHEN e.type = 'generation' THEN '0' ELSE '1' END || e.body_hash END",
    )


def _remake(column: sa.Column[str], key: Sequence[str], value: str) -> None:
    """The table with another column, and the value of that."""
    op.drop_index("ix_event_generations_prompt", table_name="event_generations")
    op.rename_table("event_generations", "event_generations_before")
    op.create_table(
        "event_generations",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("generation_id", sa.String(), nullable=False),
        column,
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("prompt_hash", sa.String(), nullable=True),
        sa.Column("evaluation", sa.Boolean(), nullable=True),
        sa.Column("user", sa.String(), nullable=True),
    )
    names, kept = (", ".join(f'{table}"{name}"' for name in _KEPT) for table in ("", "n."))
    op.execute(
        f"INSERT INTO event_generations ({names}, {column.name}) SELECT {kept}, {value} FROM event_generations_before n "
        "JOIN events e ON e.task = n.task AND e.event_id = n.event_id WHERE e.body <> ''"
    )
    op.drop_table("event_generations_before")
    with op.batch_alter_table("event_generations", schema=None) as batch_op:
        batch_op.create_primary_key("event_generations_pkey", ["task", "generation_id", *key])
        batch_op.create_index(
            "ix_event_generations_prompt", ["task", "prompt_hash"], unique=False, sqlite_where=_HELD, postgresql_where=_HELD
        )
    op.execute("DELETE FROM rules_in_force")
