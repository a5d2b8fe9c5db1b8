"""What is known of where something came from and what became of it.

Both ways: from an event over the votes and pairs that it is behind to the rounds that trained on them and the adapters that
those made; and from an adapter or a pair back to its events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Trained:
    """A round that had the pair, and the adapter that it made."""

    round_id: int
    adapter: str
    state: str
    sealed: bool
    """There is such an adapter: the round got that far."""
    split: str
    """train, or holdout: the gate judged by it."""
    tainted: bool = False
    """The adapter rests on what an erased user wrote, and never answers again."""


@dataclass(frozen=True, slots=True)
class VoteOn:
    """A vote, or a rating, and what it comes to."""

    event_id: str
    """The event that decided it; `ratings:PROMPT` stands for all ratings of two replies."""
    source: str
    standing: str
    pair_id: str
    """The pair that it speaks for, whether or not that stands now."""
    stands: bool
    rests_on: Sequence[str] = ()
    """The other feedback that says it."""
    held_by: Sequence[str] = ()
    """The events that hold the replies."""
    chosen_adapter: str | None = None
    rejected_adapter: str | None = None
    trained: Sequence[Trained] = ()


@dataclass(frozen=True, slots=True)
class OnceBehind:
    """A pair that the event was behind when rounds were planned, whether or not it is now."""

    pair_id: str
    stands: bool
    trained: Sequence[Trained]


@dataclass(frozen=True, slots=True)
class EventFound:
    """An event, and what became of it."""

    kind: ClassVar[str] = "event"
    task: str
    event_id: str
    type: str
    by: str | None
    """user, expert or criterion; none where the content is gone."""
    written_by: str | None
    """Of a generation, the adapter that wrote the replies, or `base`."""
    occurred_at: datetime
    received_at: datetime
    outcome: str
    meaning: str
    votes: Sequence[VoteOn] = ()
    """What it says, alone or with other events."""
    holds_for: Sequence[VoteOn] = ()
    """Votes of others on replies that it holds, the last first."""
    holds_for_left_out: int = 0
    in_rounds: Sequence[OnceBehind] = ()
    in_rounds_left_out: int = 0


@dataclass(frozen=True, slots=True)
class EventBehind:
    """An event behind a pair, in a word."""

    event_id: str
    type: str
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class PairFound:
    """A pair that stands, what it rests on, and what was trained on it."""

    kind: ClassVar[str] = "pair"
    id: str
    task: str
    source: str
    split: str
    prompt: Any
    chosen: Any
    rejected: Any
    chosen_adapters: Sequence[str]
    rejected_adapters: Sequence[str]
    votes_for: int
    votes_against: int
    weight: int
    wrong_share: float
    created_at: datetime
    votes: Sequence[VoteOn]
    votes_left_out: int
    events: Sequence[EventBehind]
    trained: Sequence[Trained]


@dataclass(frozen=True, slots=True)
class WithdrawnPair:
    """A pair that a round had, and that does not stand any more."""

    kind: ClassVar[str] = "withdrawn pair"
    id: str
    events: Sequence[EventBehind]
    """Those behind it when the rounds were planned."""
    trained: Sequence[Trained]


@dataclass(frozen=True, slots=True)
class PairBehind:
    """A pair that a round had, with the events that were behind it when the round was planned."""

    id: str
    split: str
    source: str | None
    """None: it was withdrawn since."""
    events: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AdapterFound:
    """An adapter, or the round that should have made it."""

    kind: ClassVar[str] = "adapter"
    name: str
    task: str
    state: str
    parents: Sequence[str]
    """What it was trained on top of, up to `base`."""
    planned_at: datetime
    finished_at: datetime | None
    sealed_at: datetime | None
    tainted_at: datetime | None
    """When it was seen to rest on what an erased user wrote."""
    why: Sequence[str]
    """The gate's reasons, or why the round failed."""
    pairs: Mapping[str, Mapping[str, int]]
    """By split and source; `withdrawn` are those that do not stand any more."""
    shown: Sequence[PairBehind]


@dataclass(frozen=True, slots=True)
class LetterFound:
    """A record of the event log that can never count."""

    kind: ClassVar[str] = "dead letter"
    id: str
    task: str | None
    event_id: str | None
    reason: str
    meaning: str
    detail: str
    received_at: datetime


Found = EventFound | PairFound | WithdrawnPair | AdapterFound | LetterFound


def as_json(found: Found) -> dict[str, Any]:
    """All that is known of it."""
    return {"kind": found.kind, **asdict(found)}
