"""A voter's last rating of a reply, and on PostgreSQL their last vote on two, is found without reading the others"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_LAST = ("revision", "occurred_at")


def upgrade() -> None:
    _index(_LAST)


def downgrade() -> None:
    _index(())


def _index(order: Sequence[str]) -> None:
    op.drop_index("ix_ratings_reply", table_name="ratings")
    op.create_index("ix_ratings_reply", "ratings", ["prompt_hash", "task", "reply_hash", "voter", *order])
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("ix_votes_replies", table_name="votes")
        op.create_index("ix_votes_replies", "votes", [sa.text("hashtextextended(replies, 0)"), "voter", *order])
