"""From the votes on two replies to a pair: one vote a person, and the weight of the votes decides."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import get_args

from ingest.settings import SourcesSettings
from pairing.rules.votes import Source

_SURENESS: tuple[Source, ...] = get_args(Source)
"""A pair is named after the source that errs least among those of its votes."""


@dataclass(slots=True)
class Side:
    """One of two replies, and what stands behind it."""

    reply: str  # canonical JSON
    reply_hash: str
    adapters: set[str] = field(default_factory=set)  # that wrote it
    votes: Counter[Source] = field(default_factory=Counter)  # for it, by source, one a voter

    @property
    def count(self) -> int:
        return self.votes.total()


@dataclass(slots=True)
class Tally:
    """All votes on two replies to one prompt."""

    prompt_hash: str
    replies: str  # names the two, whichever leads
    one: Side
    other: Side

    def side(self, reply_hash: str) -> Side:
        """The side of this reply."""
        return self.one if self.one.reply_hash == reply_hash else self.other

    @property
    def is_empty(self) -> bool:
        return not (self.one.count or self.other.count)


@dataclass(frozen=True, slots=True)
class Won:
    """The reply that won over the other."""

    chosen: Side
    rejected: Side
    weight: int  # of the votes for it, less that of those against it
    source: Source
    wrong_share: float


def winner(tally: Tally, sources: SourcesSettings) -> Won | None:
    """Which reply the votes prefer; None where both weigh the same."""
    margin = _weight(tally.one, sources) - _weight(tally.other, sources)
    if margin == 0:
        return None
    chosen, rejected = (tally.one, tally.other) if margin > 0 else (tally.other, tally.one)
    source = next(_behind(chosen))
    return Won(chosen, rejected, abs(margin), source, getattr(sources, source).wrong_share)


def _weight(side: Side, sources: SourcesSettings) -> int:
    return sum(count * getattr(sources, source).weight for source, count in side.votes.items())


def _behind(side: Side) -> Iterator[Source]:
    """The sources of the votes for it, the one that errs least first."""
    return (source for source in _SURENESS if side.votes[source] > 0)
