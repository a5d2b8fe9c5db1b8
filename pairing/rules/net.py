"""From the votes on two replies to a pair: one vote a person, and the majority decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from pairing.outcomes import Outcome
from pairing.rules.votes import Source, Vote

_SURENESS: tuple[Source, ...] = get_args(Source)
"""A pair is named after the source that errs least among those of its votes."""


@dataclass(frozen=True, slots=True)
class Won:
    """The reply that won over the other, and what stands behind that."""

    chosen: str  # canonical JSON
    rejected: str  # canonical JSON
    prompt_hash: str
    source: Source
    votes_for: int
    votes_against: int
    chosen_adapter: str | None
    rejected_adapter: str | None
    events: frozenset[str]


@dataclass(frozen=True, slots=True)
class Tally:
    """The result of all votes on two replies."""

    won: Won | None
    standings: dict[tuple[str, str, str], Outcome]  # by the vote's key


def tally(votes: Sequence[Vote]) -> Tally:
    """Count votes on the same two replies to the same prompt, at least one."""
    last: dict[str, Vote] = {}
    for vote in votes:
        last[vote.voter] = max(last.get(vote.voter, vote), vote, key=lambda one: one.order)
    standings = {vote.key: Outcome.SUPERSEDED for vote in votes}
    lead = votes[0].chosen
    ahead = [vote for vote in last.values() if vote.chosen == lead]
    behind = [vote for vote in last.values() if vote.chosen != lead]
    margin = _weight(ahead) - _weight(behind)
    if margin == 0:
        return Tally(None, standings | {vote.key: Outcome.DRAW for vote in last.values()})
    if margin < 0:
        ahead, behind = behind, ahead
    standings |= {vote.key: Outcome.PAIRED for vote in ahead} | {vote.key: Outcome.OUTVOTED for vote in behind}
    return Tally(_won(ahead, behind), standings)


def _weight(votes: Sequence[Vote]) -> int:
    return len(votes)


def _won(ahead: Sequence[Vote], behind: Sequence[Vote]) -> Won:
    newest = max(ahead, key=lambda vote: vote.order)
    return Won(
        chosen=newest.chosen,
        rejected=newest.rejected,
        prompt_hash=newest.prompt_hash,
        source=min((vote.source for vote in ahead), key=_SURENESS.index),
        votes_for=_weight(ahead),
        votes_against=_weight(behind),
        chosen_adapter=newest.chosen_adapter,
        rejected_adapter=newest.rejected_adapter,
        events=frozenset().union(*(vote.events | vote.held_by for vote in (*ahead, *behind))),
    )
