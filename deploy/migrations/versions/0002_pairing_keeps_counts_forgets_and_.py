"""Pairing keeps counts, forgets, and derives anew from the log"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


_DERIVED_ANEW = (
    "pair_events",
    "event_generations",
    "events",
    "generations",
    "prompts",
    "votes",
    "pairs",
    "erasures",
    "dead_letters",
    "offsets",
    "marks",
    "rules_in_force",
)
"""Everything that the log says, offsets included: workers read it again from its start, by the rules of now."""


def upgrade() -> None:
    for name in _DERIVED_ANEW:
        op.drop_table(name)
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("dead_letters", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dead_letters_reason"), ["reason"], unique=False)

    op.create_table(
        "draws",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("replies", sa.String(), nullable=False),
        sa.Column("prompt_hash", sa.String(), nullable=False),
        sa.Column("one", sa.Text(), nullable=False),
        sa.Column("other", sa.Text(), nullable=False),
        sa.Column("one_adapters", sa.Text(), nullable=False),
        sa.Column("other_adapters", sa.Text(), nullable=False),
        sa.Column("counted", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task", "replies"),
    )
    op.create_table(
        "erased_prompts",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("prompt", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task", "prompt"),
    )
    op.create_table(
        "erasure_key_in_force",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key_fingerprint", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "erasures",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("user_hash", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("log", sa.String(), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rounds_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("task", "user_hash"),
    )
    with op.batch_alter_table("erasures", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_erasures_erased_at"), ["erased_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_erasures_rounds_at"), ["rounds_at"], unique=False)

    op.create_table(
        "event_generations",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("generation_id", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task", "generation_id", "event_id"),
    )
    op.create_table(
        "events",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task", "event_id"),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index("ix_events_occurred_at", ["task", "occurred_at"], unique=False)
        batch_op.create_index("ix_events_task_user", ["task", "user"], unique=False)

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

    op.create_table(
        "late_records",
        sa.Column("log_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", "partition", "offset"),
    )
    op.create_table(
        "marks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "offsets",
        sa.Column("log_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log_id", "partition"),
    )
    op.create_table(
        "pairs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("replies", sa.String(), nullable=False),
        sa.Column("prompt_hash", sa.String(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("tools", sa.Text(), nullable=True),
        sa.Column("chosen", sa.Text(), nullable=False),
        sa.Column("rejected", sa.Text(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("votes_for", sa.Integer(), nullable=False),
        sa.Column("votes_against", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("wrong_share", sa.Float(), nullable=False),
        sa.Column("chosen_adapters", sa.Text(), nullable=False),
        sa.Column("rejected_adapters", sa.Text(), nullable=False),
        sa.Column("counted", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("pairs", schema=None) as batch_op:
        batch_op.create_index("ix_pairs_replies", ["task", "replies"], unique=True)
        batch_op.create_index("ix_pairs_split", ["task", "split", "created_at"], unique=False)

    op.create_table(
        "prompts",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("tools", sa.Text(), nullable=True),
        sa.Column("split", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task", "hash"),
    )
    op.create_table(
        "rated_replies",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("prompt_hash", sa.String(), nullable=False),
        sa.Column("reply_hash", sa.String(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("ups", sa.Integer(), nullable=False),
        sa.Column("downs", sa.Integer(), nullable=False),
        sa.Column("net", sa.Integer(), nullable=False),
        sa.Column("adapter", sa.String(), nullable=True),
        sa.Column("paired", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("task", "prompt_hash", "reply_hash"),
    )
    with op.batch_alter_table("rated_replies", schema=None) as batch_op:
        batch_op.create_index("ix_rated_replies_net", ["task", "prompt_hash", "net", "reply_hash"], unique=False)

    op.create_table(
        "ratings",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("prompt_hash", sa.String(), nullable=False),
        sa.Column("reply_hash", sa.String(), nullable=False),
        sa.Column("voter", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("up", sa.Boolean(), nullable=False),
        sa.Column("adapter", sa.String(), nullable=True),
        sa.Column("held_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task", "event_id"),
    )
    with op.batch_alter_table("ratings", schema=None) as batch_op:
        batch_op.create_index("ix_ratings_reply", ["task", "prompt_hash", "reply_hash", "voter"], unique=False)

    op.create_table(
        "removals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("user_hash", sa.String(), nullable=True),
        sa.Column("user", sa.String(), nullable=True),
        sa.Column("before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("prompts", sa.Text(), nullable=False),
        sa.Column("copies", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "retentions",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rounds_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("task", "before"),
    )
    with op.batch_alter_table("retentions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_retentions_rounds_at"), ["rounds_at"], unique=False)

    op.create_table(
        "rules_in_force",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task"),
    )
    op.create_table(
        "user_keys",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("user_hash", sa.String(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("task", "user_hash"),
    )
    op.create_table(
        "votes",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("replies", sa.String(), nullable=False),
        sa.Column("chosen_hash", sa.String(), nullable=False),
        sa.Column("rejected_hash", sa.String(), nullable=False),
        sa.Column("prompt_hash", sa.String(), nullable=False),
        sa.Column("voter", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("chosen_adapter", sa.String(), nullable=True),
        sa.Column("rejected_adapter", sa.String(), nullable=True),
        sa.Column("rests_on", sa.Text(), nullable=True),
        sa.Column("held_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("task", "event_id", "replies"),
    )
    with op.batch_alter_table("votes", schema=None) as batch_op:
        batch_op.create_index(
            "ix_votes_ready",
            ["task", "prompt_hash"],
            unique=False,
            sqlite_where=sa.text("source = 'preference'"),
            postgresql_where=sa.text("source = 'preference'"),
        )
        batch_op.create_index("ix_votes_replies", ["task", "replies", "voter"], unique=False)

    op.create_table(
        "round_events",
        sa.Column("round_id", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["round_id"],
            ["rounds.id"],
        ),
        sa.PrimaryKeyConstraint("round_id", "pair_id", "event_id"),
    )
    with op.batch_alter_table("round_events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_round_events_event_id"), ["event_id"], unique=False)

    with op.batch_alter_table("adapters", schema=None) as batch_op:
        batch_op.add_column(sa.Column("tainted_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    raise RuntimeError("There is no way back from here: start the older version with an empty database, it reads the log again.")
