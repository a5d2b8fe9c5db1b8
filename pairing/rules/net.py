"""From the votes on two replies to a pair: one vote a person, and the weight of the votes decides."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from ingest.settings import SourceSettings, SourcesSettings
from pairing.rules.votes import Source

Weights = Mapping[Source, SourceSettings]
_SURENESS: tuple[Source, ...] = get_args(Source)
"""A pair is named after the source that errs least among those of its votes."""


@dataclass(slots=True)
class Side:
    """One of two replies, and what stands behind it."""

    reply: str  # canonical JSON
    reply_hash: str
    adapters: set[str] = field(default_factory=set)  # that wrote it
    votes: defaultdict[Source, int] = field(default_factory=lambda: defaultdict(int))  # for it, by source, one a voter

    @property
    def count(self) -> int:
        return sum(self.votes.values())


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


class Won(NamedTuple):
    """The reply that won over the other."""

    chosen: Side
    rejected: Side
    weight: int  # of the votes for it, less that of those against it
    source: Source
    wrong_share: float


def by_source(sources: SourcesSettings) -> Weights:
    """The settings of each source."""
    return {source: getattr(sources, source) for source in _SURENESS}


def winner(tally: Tally, sources: Weights) -> Won | None:
    """Which reply the votes prefer; None where both weigh the same."""
    margin = _weight(tally.one, sources) - _weight(tally.other, sources)
    if margin == 0:
        return None
    chosen, rejected = (tally.one, tally.other) if margin > 0 else (tally.other, tally.one)
    source = next(_behind(chosen))
    return Won(chosen, rejected, abs(margin), source, sources[source].wrong_share)


def _weight(side: Side, sources: Weights) -> int:
    return sum([count * sources[source].weight for source, count in side.votes.items()])


def _behind(side: Side) -> Iterator[Source]:
    """The sources of the votes for it, the one that errs least first."""
    return (source for source in _SURENESS if side.votes.get(source, 0) > 0)
