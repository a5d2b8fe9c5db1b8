"""PostgreSQL finds rows of its four largest tables by short forms of their keys; SQLite stays as it is"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_PRIMARY: Mapping[str, Sequence[str]] = {
    "event_generations": ("generation_id", "task", "place", "event_id"),
    "prompts": ("hash", "task"),
    "votes": ("replies", "task", "voter", "event_id"),
    "pairs": ("id",),
}
"""By table, the primary key before."""
_HELD = sa.text("prompt_hash IS NOT NULL")


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in _PRIMARY:
        op.drop_constraint(f"{table}_pkey", table, type_="primary")
    op.drop_index("ix_event_generations_prompt", table_name="event_generations")
    asked, generation = sa.text("hashtextextended(prompt_hash, 0)"), sa.text("hashtextextended(generation_id, 0)")
    op.create_index("ix_event_generations_asked", "event_generations", [asked], postgresql_where=_HELD)
    op.create_index("ix_event_generations_place", "event_generations", [generation, "place"])
    op.execute("ALTER TABLE prompts ADD CONSTRAINT prompts_key EXCLUDE USING hash ((hash || task) WITH =)")
    op.create_index("ix_votes_replies", "votes", [sa.text("hashtextextended(replies, 0)"), "voter"])
    op.create_index("ix_pairs_id", "pairs", [sa.text("substr(id, 1, 15)")])


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for name, table in (
        ("ix_event_generations_asked", "event_generations"),
        ("ix_event_generations_place", "event_generations"),
        ("ix_votes_replies", "votes"),
        ("ix_pairs_id", "pairs"),
    ):
        op.drop_index(name, table_name=table)
    op.drop_constraint("prompts_key", "prompts")
    op.create_index("ix_event_generations_prompt", "event_generations", ["prompt_hash", "task"], postgresql_where=_HELD)
    for table, key in _PRIMARY.items():
        op.create_primary_key(f"{table}_pkey", table, list(key))
