"""The tables of pairing: stored events, where the log was read to, votes, pairs, dead letters.

In a key what differs most stands first: then one comparison a step finds a row. PostgreSQL finds names, prompts, votes and pairs
by short forms of their keys. That each event and each prompt is there once it sees to by itself; of names that holds because they
are written with their event, and of votes and pairs because what is there is read before, under the lock of their task.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, Text, text
from sqlmodel import Column, Field, SQLModel

from ingest.database import KEY, UtcDateTime
from pairing.short_keys import beginning, found_by, hashed, joined, once_by, only

HELD = "prompt_hash IS NOT NULL"
"""Events that hold a generation."""
READY = "source = 'preference'"
"""Votes of ready pairs: no generation holds their prompt."""


class StoredEvent(SQLModel, table=True):
    """An event, once. Of two bodies under one id the one with the smaller hash."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_task_user", "task", "user"), Index("ix_events_occurred_at", "task", "occurred_at"))

    event_id: str = Field(primary_key=True, sa_type=KEY)
    task: str = Field(primary_key=True)
    type: str
    user: str | None = Field(None, sa_type=KEY, description="Opaque id of the end user; none once its content is removed.")
    occurred_at: datetime = Field(sa_type=UtcDateTime)
    received_at: datetime = Field(sa_type=UtcDateTime, description="When the event log took it.")
    body: str = Field(
        sa_column=Column(Text, nullable=False), description="As the log holds it, canonical JSON; empty once removed."
    )
    body_hash: str = Field(description="SHA-256 of the body; empty as that is: little content can be guessed by its hash.")
    outcome: str = Field(description="One of Outcome; of feedback that voted `voted`, and `standing` says how that stands.")


class EventGeneration(SQLModel, table=True):
    """An event names a generation, or holds it: the gateway's record, or a feedback that carries it."""

    __tablename__ = "event_generations"
    __table_args__ = (
        only("sqlite", Index("ix_event_generations_prompt", "prompt_hash", "task", sqlite_where=text(HELD))),
        found_by("ix_event_generations_asked", hashed.of("prompt_hash"), postgresql_where=text(HELD)),
        found_by("ix_event_generations_place", hashed.of("generation_id"), "place"),
    )

    generation_id: str = Field(primary_key=True, sa_type=KEY)
    task: str = Field(primary_key=True)
    place: str = Field(
        primary_key=True,
        sa_type=KEY,
        description="As held.place_of says, in the order of code points: what must be derived together stands together. Set "
        "aside, as held.settled says, is what can change nothing any more unless something else goes.",
    )
    event_id: str = Field(primary_key=True, sa_type=KEY)
    prompt_hash: str | None = Field(None, sa_type=KEY, description="Of the generation that it holds; none where it does not.")
    evaluation: bool | None = Field(None, description="Likewise.")
    user: str | None = Field(None, description="Likewise.")


class AskedPrompt(SQLModel, table=True):
    """A prompt with its tools."""

    __tablename__ = "prompts"
    __table_args__ = (once_by("prompts_key", joined.of("hash", "task")),)

    hash: str = Field(primary_key=True, sa_type=KEY, description="SHA-256 of prompt and tools.")
    task: str = Field(primary_key=True)
    prompt: str = Field(sa_column=Column(Text, nullable=False), description="Prompt as canonical JSON.")
    tools: str | None = Field(None, sa_column=Column(Text), description="Tools as canonical JSON.")
    split: str = Field(description="train or holdout, for ever.")


class StoredVote(SQLModel, table=True):
    """What one event says about two replies to one prompt: this one over that one."""

    __tablename__ = "votes"
    __table_args__ = (
        Index("ix_votes_event", "event_id", postgresql_using="hash"),
        found_by("ix_votes_replies", hashed.of("replies"), "voter", "revision", "occurred_at"),
        # ready pairs among them: what nothing but a vote says of a prompt
        Index("ix_votes_ready", "prompt_hash", "task", sqlite_where=text(READY), postgresql_where=text(READY)),
    )

    replies: str = Field(
        primary_key=True, sa_type=KEY, description="SHA-256 of the prompt and the two replies, whichever is chosen."
    )
    task: str = Field(primary_key=True)
    voter: str = Field(primary_key=True, sa_type=KEY, description="Who has one vote on these two replies.")
    event_id: str = Field(
        primary_key=True, sa_type=KEY, description="The event that decided it: of a chain, the one that closed it."
    )
    chosen_hash: str
    rejected_hash: str
    prompt_hash: str = Field(sa_type=KEY)
    revision: int = Field(sa_type=BigInteger, description="With occurred_at and event_id: which is last. -1: none given.")
    occurred_at: datetime = Field(sa_type=UtcDateTime)
    source: str
    chosen_adapter: str | None = Field(None, description="Adapter that wrote it, or `base`; none: a person did, or nobody said.")
    rejected_adapter: str | None = None
    rests_on: str | None = Field(None, sa_column=Column(Text), description="JSON list: the other feedback that says it.")
    held_by: str | None = Field(None, sa_column=Column(Text), description="JSON list: the events that hold the replies.")


class Pair(SQLModel, table=True):
    """A prompt, a chosen and a rejected reply, and how the votes on them stand."""

    __tablename__ = "pairs"
    __table_args__ = (
        Index("ix_pairs_split", "task", "split", "created_at"),
        found_by("ix_pairs_id", beginning.of("id")),
    )

    id: str = Field(primary_key=True, sa_type=KEY, description="SHA-256 of task, prompt, tools, chosen, rejected; never changes.")
    task: str
    replies: str = Field(description="SHA-256 of the prompt and the two replies, whichever is chosen; its votes have the same.")
    prompt_hash: str
    prompt: str = Field(sa_column=Column(Text, nullable=False), description="Prompt as canonical JSON.")
    tools: str | None = Field(None, sa_column=Column(Text), description="Tools as canonical JSON.")
    chosen: str = Field(sa_column=Column(Text, nullable=False), description="Reply as canonical JSON.")
    rejected: str = Field(sa_column=Column(Text, nullable=False), description="Reply as canonical JSON.")
    source: str = Field(description="Of the sources on its side, the one that errs least.")
    split: str = Field(description="train or holdout.")
    votes_for: int
    votes_against: int
    weight: int = Field(description="Weight of the votes for it, less that of those against it.")
    wrong_share: float = Field(description="Assumed share of wrong labels of its source.")
    chosen_adapters: str = Field(
        sa_column=Column(Text, nullable=False),
        description="JSON list: the adapters that wrote it, `base` among them. None: a person.",
    )
    rejected_adapters: str = Field(sa_column=Column(Text, nullable=False), description="JSON list, as of the chosen reply.")
    counted: str = Field(sa_column=Column(Text, nullable=False), description="JSON: by source, votes for and against it.")
    created_at: datetime = Field(sa_type=UtcDateTime, description="When the row was made; no part of the content.")


class Draw(SQLModel, table=True):
    """Two replies with votes of equal weight on either side: no pair."""

    __tablename__ = "draws"

    replies: str = Field(primary_key=True, sa_type=KEY)
    task: str = Field(primary_key=True)
    prompt_hash: str
    one: str = Field(sa_column=Column(Text, nullable=False), description="Reply as canonical JSON.")
    other: str = Field(sa_column=Column(Text, nullable=False), description="Reply as canonical JSON.")
    one_adapters: str = Field(sa_column=Column(Text, nullable=False), description="JSON list.")
    other_adapters: str = Field(sa_column=Column(Text, nullable=False), description="JSON list.")
    counted: str = Field(
        sa_column=Column(Text, nullable=False), description="JSON: by source, votes for the one and for the other."
    )


class StoredRating(SQLModel, table=True):
    """A thumb up or down for one reply to one prompt."""

    __tablename__ = "ratings"
    __table_args__ = (Index("ix_ratings_reply", "prompt_hash", "task", "reply_hash", "voter", "revision", "occurred_at"),)

    event_id: str = Field(primary_key=True, sa_type=KEY)
    task: str = Field(primary_key=True)
    prompt_hash: str = Field(sa_type=KEY)
    reply_hash: str = Field(sa_type=KEY)
    voter: str = Field(sa_type=KEY)
    revision: int = Field(sa_type=BigInteger, description="As of a vote.")
    occurred_at: datetime = Field(sa_type=UtcDateTime)
    up: bool
    adapter: str | None = None
    held_by: str = Field(description="Event that holds the generation.")


class RatedReply(SQLModel, table=True):
    """A reply that people rated. Unless it is level or stands in a pair by rating, it is an unpaired example."""

    __tablename__ = "rated_replies"
    __table_args__ = (Index("ix_rated_replies_net", "prompt_hash", "task", "net", "reply_hash"),)

    prompt_hash: str = Field(primary_key=True, sa_type=KEY)
    task: str = Field(primary_key=True)
    reply_hash: str = Field(primary_key=True, sa_type=KEY)
    reply: str = Field(sa_column=Column(Text, nullable=False), description="Reply as canonical JSON.")
    ups: int
    downs: int
    net: int = Field(description="ups - downs.")
    adapter: str | None = None
    paired: bool = Field(description="It stands in a pair by rating.")


class Erasure(SQLModel, table=True):
    """The proof that a user was erased, and what keeps their later events out. Kept for ever, and names nobody."""

    __tablename__ = "erasures"

    task: str = Field(primary_key=True)
    user_hash: str = Field(primary_key=True, description="HMAC-SHA256 of task and user under erasure.key.")
    event_id: str = Field(description="The event that asked for it; of several the first.")
    asked_at: datetime = Field(sa_type=UtcDateTime, description="When that happened.")
    events: int = Field(0, description="Events whose content was removed, or refused when they came.")
    log: str = Field(description="removed, encrypted or retention: how the event log loses what it holds of them.")
    erased_at: datetime | None = Field(
        None, index=True, sa_type=UtcDateTime, description="When no file held their content any more, but as `log` says."
    )
    rounds_at: datetime | None = Field(
        None, index=True, sa_type=UtcDateTime, description="When the rounds and adapters trained on it had been seen to."
    )


class Retention(SQLModel, table=True):
    """The event "before this time": what a task's events of earlier times hold is removed. The latest counts."""

    __tablename__ = "retentions"

    task: str = Field(primary_key=True)
    before: datetime = Field(primary_key=True, sa_type=UtcDateTime)
    done_at: datetime | None = Field(None, sa_type=UtcDateTime, description="When no file but Kafka's held their content.")
    rounds_at: datetime | None = Field(
        None, index=True, sa_type=UtcDateTime, description="When the rounds that froze some of it had been seen to."
    )


class Removal(SQLModel, table=True):
    """A removal under way: of a user, or of what is older than a time. Deleted when it is done, and with it the user's id."""

    __tablename__ = "removals"

    id: int | None = Field(default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    task: str
    user_hash: str | None = Field(default=None, description="As in Erasure.")
    user: str | None = Field(default=None, description="Whom to look for; none where only prompts are left to remove.")
    before: datetime | None = Field(default=None, sa_type=UtcDateTime, description="As in Retention.")
    state: str = Field(default="content", description="content, prompts or log: what comes next.")
    prompts: str = Field(default="[]", sa_type=Text, description="JSON list: hashes of their prompts.")
    copies: str = Field(default="[]", sa_type=Text, description="JSON list: evaluations of such prompts.")


class LateRecord(SQLModel, table=True):
    """A record of the event log that came after its user was erased, or too old. Deleted when the log has lost its content."""

    __tablename__ = "late_records"

    log_id: str = Field(primary_key=True)
    partition: int = Field(primary_key=True)
    offset: int = Field(sa_type=BigInteger, primary_key=True)


class ErasedPrompt(SQLModel, table=True):
    """A prompt that went with an erased user: evaluations that repeat it are not kept, however late. Kept for ever."""

    __tablename__ = "erased_prompts"

    task: str = Field(primary_key=True)
    prompt: str = Field(primary_key=True, description="HMAC-SHA256 of the task and the prompt's hash under erasure.key.")


class ErasureKeyInForce(SQLModel, table=True):
    """One row: the key under which erased users are remembered. Another one would know none of them."""

    __tablename__ = "erasure_key_in_force"

    id: int = Field(default=1, primary_key=True)
    key_fingerprint: str


class DeadLetter(SQLModel, table=True):
    """A record of the event log that can never count."""

    __tablename__ = "dead_letters"

    id: str = Field(
        primary_key=True, sa_type=KEY, description="SHA-256 of the value: the same record again is the same dead letter."
    )
    reason: str = Field(index=True, description="One of DeadReason.")
    detail: str = Field(sa_column=Column(Text, nullable=False), description="What exactly is wrong.")
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False), description="The record as it came.")
    partition: int
    offset: int = Field(sa_type=BigInteger, description="Where in the event log the value, or the one in conflict with it, came.")
    received_at: datetime = Field(sa_type=UtcDateTime)


class Offset(SQLModel, table=True):
    """Where a partition of the event log is to be read next. Changed in the transaction that stores its events."""

    __tablename__ = "offsets"

    log_id: str = Field(primary_key=True)
    partition: int = Field(primary_key=True)
    next: int = Field(sa_type=BigInteger)


class Mark(SQLModel, table=True):
    """Something that is still to be derived. Rows are added and deleted, never changed: none is lost to a race."""

    __tablename__ = "marks"

    id: int | None = Field(None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    task: str
    kind: str = Field(description="generation or event.")
    key: str
    left_at: datetime = Field(sa_type=UtcDateTime)


class RulesInForce(SQLModel, table=True):
    """The settings by which a task's pairs were derived: other ones derive everything again."""

    __tablename__ = "rules_in_force"

    task: str = Field(primary_key=True)
    digest: str


class HoldoutInForce(SQLModel, table=True):
    """One row: what decides which conversations are held out. It must never change."""

    __tablename__ = "holdout_in_force"

    id: int = Field(default=1, primary_key=True)
    key_fingerprint: str
    share: float


for _model in (EventGeneration, AskedPrompt, StoredVote, Pair):
    only("sqlite", SQLModel.metadata.tables[str(_model.__tablename__)].primary_key)
