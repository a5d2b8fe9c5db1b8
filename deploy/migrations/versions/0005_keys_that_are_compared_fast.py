"""Keys that are compared byte by byte, with what differs most first; pairs are found by their ids alone"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_PRIMARY: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "events": (("task", "event_id"), ("event_id", "task")),
    "event_generations": (("task", "generation_id", "place", "event_id"), ("generation_id", "task", "place", "event_id")),
    "prompts": (("task", "hash"), ("hash", "task")),
    "votes": (("task", "event_id", "replies"), ("replies", "task", "voter", "event_id")),
    "draws": (("task", "replies"), ("replies", "task")),
    "ratings": (("task", "event_id"), ("event_id", "task")),
    "rated_replies": (("task", "prompt_hash", "reply_hash"), ("prompt_hash", "task", "reply_hash")),
}
"""By table, the primary key before and after."""
_COMPARED: Mapping[str, Sequence[str]] = {
    "events": ("event_id", "user"),
    "event_generations": ("generation_id", "event_id", "prompt_hash"),  # `place` was so before
    "prompts": ("hash",),
    "votes": ("replies", "voter", "event_id", "prompt_hash"),
    "pairs": ("id",),
    "draws": ("replies",),
    "ratings": ("event_id", "prompt_hash", "reply_hash", "voter"),
    "rated_replies": ("prompt_hash", "reply_hash"),
    "dead_letters": ("id",),
    "round_pairs": ("pair_id",),
    "round_events": ("pair_id", "event_id"),
}
"""By table, the columns that are compared byte by byte from now on."""
_HELD, _READY = (
    {f"{dialect}_where": sa.text(condition) for dialect in ("sqlite", "postgresql")}
    for condition in ("prompt_hash IS NOT NULL", "source = 'preference'")
)
_Index = tuple[str, str, list[str], dict[str, Any]]
_OF_EVENTS: Sequence[_Index] = (
    ("ix_events_task_user", "events", ["task", "user"], {}),
    ("ix_events_occurred_at", "events", ["task", "occurred_at"], {}),
)
"""The same before and after."""
_BEFORE: Sequence[_Index] = (
    *_OF_EVENTS,
    ("ix_event_generations_prompt", "event_generations", ["task", "prompt_hash"], _HELD),
    ("ix_votes_replies", "votes", ["task", "replies", "voter"], {}),
    ("ix_votes_ready", "votes", ["task", "prompt_hash"], _READY),
    ("ix_pairs_replies", "pairs", ["task", "replies"], {"unique": True}),
    ("ix_ratings_reply", "ratings", ["task", "prompt_hash", "reply_hash", "voter"], {}),
    ("ix_rated_replies_net", "rated_replies", ["task", "prompt_hash", "net", "reply_hash"], {}),
)
_AFTER: Sequence[_Index] = (
    *_OF_EVENTS,
    ("ix_event_generations_prompt", "event_generations", ["prompt_hash", "task"], _HELD),
    ("ix_votes_event", "votes", ["event_id"], {"postgresql_using": "hash"}),
    ("ix_votes_ready", "votes", ["prompt_hash", "task"], _READY),
    ("ix_ratings_reply", "ratings", ["prompt_hash", "task", "reply_hash", "voter"], {}),
    ("ix_rated_replies_net", "rated_replies", ["prompt_hash", "task", "net", "reply_hash"], {}),
)


def upgrade() -> None:
    _remake(_BEFORE, {table: key for table, (_, key) in _PRIMARY.items()}, "C", sa.String, _AFTER)


def downgrade() -> None:
    _remake(_AFTER, {table: key for table, (key, _) in _PRIMARY.items()}, None, sa.Text, _BEFORE)


def _remake(
    old: Sequence[_Index],
    primary: Mapping[str, Sequence[str]],
    collation: str | None,
    place: type[sa.String],
    new: Sequence[_Index],
) -> None:
    of_postgres = op.get_bind().dialect.name == "postgresql"
    for name, table, _, _ in old:
        op.drop_index(name, table_name=table)
    if of_postgres:
        _alter(primary, collation, place)
    else:
        for table, key in primary.items():
            _copy(table, key, {"place": place().compile()})
    for name, table, columns, more in new:
        op.create_index(name, table, columns, **{"unique": False, **more})


def _alter(primary: Mapping[str, Sequence[str]], collation: str | None, place: type[sa.String]) -> None:
    """As PostgreSQL does it, in place."""
    for table, columns in _COMPARED.items():
        if table in primary:
            op.drop_constraint(f"{table}_pkey", table, type_="primary")
        for column in columns:
            op.alter_column(table, column, type_=sa.String(collation=collation))
        if table == "event_generations":
            op.alter_column(table, "place", type_=place(collation="C"))
        if table in primary:
            op.create_primary_key(f"{table}_pkey", table, list(primary[table]))


def _copy(table: str, key: Sequence[str], types: Mapping[str, str]) -> None:
    """As SQLite needs it: a table with the same columns, but for these types, and another key."""
    columns = op.get_bind().exec_driver_sql(f"PRAGMA table_info({table})").mappings().all()
    described = [
        f'"{one["name"]}" {types.get(one["name"], one["type"])}{" NOT NULL" if one["notnull"] else ""}' for one in columns
    ]
    op.rename_table(table, f"{table}_before")
    op.execute(f"CREATE TABLE {table} ({', '.join(described)}, CONSTRAINT {table}_pkey PRIMARY KEY ({', '.join(key)}))")
    op.execute(f"INSERT INTO {table} SELECT * FROM {table}_before")
    op.drop_table(f"{table}_before")
