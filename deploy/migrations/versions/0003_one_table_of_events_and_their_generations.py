"""One table of events and their generations; votes tell feedback from what holds it; erased prompts

Votes of before hold both in `rests_on`: their tasks are derived again.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_HELD = sa.text("prompt_hash IS NOT NULL")
_NAMED = "n.task = generations.task AND n.generation_id = generations.generation_id AND n.event_id = generations.event_id"
_COLUMNS = 'task, generation_id, event_id, rank, prompt_hash, evaluation, "user"'


def upgrade() -> None:
    with op.batch_alter_table("event_generations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("rank", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("prompt_hash", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("evaluation", sa.Boolean(), nullable=True))
        batch_op.add_column(sa.Column("user", sa.String(), nullable=True))
    op.execute(f"DELETE FROM event_generations AS n WHERE EXISTS (SELECT 1 FROM generations WHERE {_NAMED})")
    op.execute(f"INSERT INTO event_generations ({_COLUMNS}) SELECT {_COLUMNS} FROM generations")
    op.drop_table("generations")
    with op.batch_alter_table("event_generations", schema=None) as batch_op:
        batch_op.create_index(
            "ix_event_generations_prompt", ["task", "prompt_hash"], unique=False, sqlite_where=_HELD, postgresql_where=_HELD
        )
    op.create_table(
        "erased_prompts",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("prompt", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task", "prompt"),
    )
    with op.batch_alter_table("votes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("held_by", sa.Text(), nullable=True))
    op.execute("DELETE FROM rules_in_force")


def downgrade() -> None:
    with op.batch_alter_table("votes", schema=None) as batch_op:
        batch_op.drop_column("held_by")
    op.drop_table("erased_prompts")
    op.execute("DELETE FROM rules_in_force")
    op.create_table(
        "generations",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("generation_id", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("rank", sa.String(), nullable=False),
        sa.Column("prompt_hash", sa.String(), nullable=False),
        sa.Column("evaluation", sa.Boolean(), nullable=False),
        sa.Column("user", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("task", "generation_id", "event_id"),
    )
    with op.batch_alter_table("generations", schema=None) as batch_op:
        batch_op.create_index("ix_generations_prompt", ["task", "prompt_hash"], unique=False)
    op.execute(f"INSERT INTO generations ({_COLUMNS}) SELECT {_COLUMNS} FROM event_generations WHERE rank IS NOT NULL")
    op.drop_index("ix_event_generations_prompt", table_name="event_generations")
    with op.batch_alter_table("event_generations", schema=None) as batch_op:
        for column in ("user", "evaluation", "prompt_hash", "rank"):
            batch_op.drop_column(column)
