"""How votes stand, and the events behind them: read off when somebody asks, for any new vote may change it."""

from collections.abc import Collection, Mapping

from sqlmodel import Session

from pairing import ballots
from pairing.ballots import Ballot
from pairing.identity import pair_id
from pairing.outcomes import Outcome
from pairing.rows import select_by
from pairing.tables import Pair

_BY_WEIGHT = (Outcome.PAIRED, Outcome.DRAW, Outcome.OUTVOTED, Outcome.SUPERSEDED)
"""An event of several votes is known by the one that did most."""


def standings(session: Session, task: str, votes: Collection[Ballot]) -> dict[Ballot, Outcome]:
    """How each of these stored votes stands among all votes on its two replies."""
    last: dict[tuple[str, str], Ballot] = {}
    for vote in ballots.on(session, task, {vote.replies for vote in votes}):
        other = last.get((vote.replies, vote.voter), vote)
        last[vote.replies, vote.voter] = max(vote, other, key=lambda one: one.order)
    wanted = {_pair(vote) for vote in votes} | {_reverse(vote) for vote in votes}
    pairs = {row[0] for row in select_by(session, Pair, ("id",), ("id",), [(id_,) for id_ in wanted])}
    return {vote: _standing(vote, last[vote.replies, vote.voter], pairs) for vote in votes}


def of_events(standing: Mapping[Ballot, Outcome]) -> dict[str, Outcome]:
    """By event behind any of the votes, the outcome of the one that did most."""
    best: dict[str, Outcome] = {}
    for vote, outcome in standing.items():
        for event_id in vote.behind:
            best[event_id] = min(best.get(event_id, outcome), outcome, key=_BY_WEIGHT.index)
    return best


def _standing(vote: Ballot, last: Ballot, pairs: Collection[str]) -> Outcome:
    if last != vote:
        return Outcome.SUPERSEDED
    if _pair(vote) in pairs:
        return Outcome.PAIRED
    return Outcome.OUTVOTED if _reverse(vote) in pairs else Outcome.DRAW


def _pair(vote: Ballot) -> str:
    return pair_id(vote.task, vote.prompt_hash, vote.chosen_hash, vote.rejected_hash)


def _reverse(vote: Ballot) -> str:
    return pair_id(vote.task, vote.prompt_hash, vote.rejected_hash, vote.chosen_hash)
