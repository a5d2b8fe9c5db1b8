"""How votes stand, and the events behind them: read off when somebody asks, for any new vote may change it."""

from collections import defaultdict
from collections.abc import Collection, Mapping

from sqlmodel import Session

from pairing import ballots, ratings
from pairing.ballots import Ballot
from pairing.outcomes import Outcome
from pairing.ratings import Rating, sides
from pairing.rows import select_by
from pairing.rules.rating import counting, event_id_of, standing
from pairing.tables import Pair, RatedReply

_BY_WEIGHT = (Outcome.PAIRED, Outcome.DRAW, Outcome.OUTVOTED, Outcome.SUPERSEDED)
"""An event of several votes is known by the one that did most."""


def standings(session: Session, task: str, votes: Collection[Ballot]) -> dict[Ballot, Outcome]:
    """How each of these stored votes stands among all votes on its two replies."""
    last = counted(session, task, {vote.replies for vote in votes})
    wanted = {id_ for vote in votes for id_ in (vote.speaks_for, vote.speaks_against)}
    pairs = pairs_among(session, wanted)
    return {vote: against_others(vote, pairs) if vote in last else Outcome.SUPERSEDED for vote in votes}


def pairs_among(session: Session, ids: Collection[str]) -> set[str]:
    """Those ids that a pair has."""
    return {row[0] for row in select_by(session, Pair, ("id",), ("id",), [(id_,) for id_ in ids])}


def against_others(vote: Ballot, pairs: Collection[str]) -> Outcome:
    """How a vote that counts stands, by which of its pair and that one's reverse there is."""
    if vote.speaks_for in pairs:
        return Outcome.PAIRED
    return Outcome.OUTVOTED if vote.speaks_against in pairs else Outcome.DRAW


def counted(session: Session, task: str, replies: Collection[str]) -> set[Ballot]:
    """The votes on each of these two replies that count: of each voter the last."""
    last: dict[tuple[str, str], Ballot] = {}
    for vote in ballots.on(session, task, replies):
        other = last.get((vote.replies, vote.voter), vote)
        last[vote.replies, vote.voter] = max(vote, other, key=lambda one: one.order)
    return set(last.values())


def behind(session: Session, task: str, replies: Collection[str]) -> dict[str, set[str]]:
    """By two replies, every event behind the votes on them that count: feedback, and what holds the generations."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    matches: dict[tuple[str, str], str] = {}
    for vote in counted(session, task, replies):
        if vote.source == "rating":
            matches |= dict.fromkeys(sides(vote), vote.replies)
        else:
            found[vote.replies] |= vote.behind
    for rating in counting(ratings.of_replies(session, task, matches.keys())):
        found[matches[rating.reply]] |= {rating.event_id, rating.held_by}
    return found


def of_ratings(session: Session, task: str, rated: Collection[Rating]) -> dict[str, Outcome]:
    """By event, how each of these stored ratings stands: by those of the same reply, and by the match of that reply."""
    prompts = {rating.prompt_hash for rating in rated}
    matches = ballots.by_events(session, task, {event_id_of(prompt) for prompt in prompts})
    of_match = {side: outcome for vote, outcome in standings(session, task, matches).items() for side in sides(vote)}
    replies = {rating.reply for rating in rated}
    keys = [(task, *reply) for reply in replies]
    columns = ("prompt_hash", "reply_hash", "net")
    nets = {(row[0], row[1]): row[2] for row in select_by(session, RatedReply, columns, ("task", *columns[:2]), keys)}
    last = set(counting(ratings.of_replies(session, task, replies)))
    return {
        rating.event_id: standing(rating.up, nets[rating.reply], of_match.get(rating.reply))
        if rating in last
        else Outcome.SUPERSEDED
        for rating in rated
    }


def of_events(standing: Mapping[Ballot, Outcome]) -> dict[str, Outcome]:
    """By event that says any of the votes, the outcome of the one that did most. What only holds a reply says nothing."""
    best: dict[str, Outcome] = {}
    for vote, outcome in standing.items():
        for event_id in vote.says:
            best[event_id] = min(best.get(event_id, outcome), outcome, key=_BY_WEIGHT.index)
    return best
