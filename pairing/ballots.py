"""Votes as they are stored, and how they change the count on the two replies that they are about."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from json.encoder import encode_basestring_ascii
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from sqlmodel import Session

from pairing.identity import pair_id, replies_hash
from pairing.rows import Tend, delete_by, first_of, insert_all, select_by
from pairing.rules.net import Tally
from pairing.rules.votes import Order, Source, Vote
from pairing.statements import Model
from pairing.tables import StoredVote

_KEY = ("task", "replies", "voter", "event_id")
_LAST_FIRST = "ORDER BY revision DESC, occurred_at DESC, event_id DESC LIMIT 1"
K = TypeVar("K", bound=tuple[str, ...])
Written = tuple[str, str, str]
"""Two replies, one of them, and an adapter that wrote it."""


class Ballot(NamedTuple):
    """A row of StoredVote, column by column."""

    task: str
    event_id: str
    replies: str
    chosen_hash: str
    rejected_hash: str
    prompt_hash: str
    voter: str
    revision: int
    occurred_at: datetime
    source: Source
    chosen_adapter: str | None
    rejected_adapter: str | None
    rests_on: str | None
    held_by: str | None

    @property
    def order(self) -> Order:
        return self.revision, self.occurred_at, self.event_id

    @property
    def speaks_for(self) -> str:
        """The id of the pair that it votes for, whether or not there is one."""
        return pair_id(self.task, self.prompt_hash, self.chosen_hash, self.rejected_hash)

    @property
    def speaks_against(self) -> str:
        """The id of the pair of the same replies the other way round."""
        return pair_id(self.task, self.prompt_hash, self.rejected_hash, self.chosen_hash)

    @property
    def says(self) -> frozenset[str]:
        """The feedback that says so. All ratings of two replies decide as one event."""
        return frozenset({self.event_id, *_named(self.rests_on)})

    @property
    def holders(self) -> frozenset[str]:
        """The events that hold the two replies."""
        return frozenset(_named(self.held_by))

    @property
    def behind(self) -> frozenset[str]:
        """Every event behind the vote."""
        return self.says | self.holders


class Changes(NamedTuple):
    """Votes that go and votes that come."""

    gone: Sequence[Ballot]
    come: Sequence[Ballot]


class Beside(NamedTuple):
    """What is stored beside votes that go and come."""

    had: Mapping[tuple[str, str], Sequence[Ballot]]  # by replies and voter, all votes before; where none goes, the last
    unwritten: Collection[Written]  # what no vote says any more


def ballot_of(task: str, vote: Vote) -> Ballot:
    """The vote as it is stored."""
    chosen, rejected = vote.chosen.hash, vote.rejected.hash
    revision, occurred_at, _ = vote.order
    return Ballot(
        task,
        vote.event_id,
        replies_hash(vote.prompt_hash, chosen, rejected),
        chosen,
        rejected,
        vote.prompt_hash,
        vote.voter,
        revision,
        occurred_at,
        vote.source,
        vote.chosen_adapter,
        vote.rejected_adapter,
        _names(vote.events - {vote.event_id}),
        _names(vote.held_by),
    )


def by_events(session: Session, task: str, event_ids: Collection[str]) -> list[Ballot]:
    """The stored votes that these events decided."""
    return _found(session, ("task", "event_id"), [(task, event_id) for event_id in event_ids])


def on(session: Session, task: str, replies: Collection[str]) -> list[Ballot]:
    """All stored votes on each of these two replies."""
    return _found(session, ("task", "replies"), [(task, one) for one in replies])


def changes(stored: Iterable[Ballot], derived: Mapping[Ballot, Vote]) -> Changes:
    """What is to be deleted and inserted so that the derived votes stand where the stored ones do."""
    before = set(stored)
    return Changes(list(before - derived.keys()), list(derived.keys() - before))


def delete(session: Session, task: str, changed: Changes, counted_before: Collection[str]) -> Beside:
    """Delete the votes that go. Returns what is stored beside them, which the count needs.

    `counted_before` names the replies that had votes: only of those can there be stored ones by the same voters.
    """
    losing = {(one.replies, one.voter) for one in changed.gone}
    gaining = {(one.replies, one.voter) for one in changed.come if one.replies in counted_before}
    said = said_before(session, StoredVote, Ballot._fields, task, ("replies", "voter"), losing, gaining)
    had = _by_voter(Ballot(*row) for row in said)
    delete_by(session, StoredVote, _KEY, list(map(attrgetter(*_KEY), changed.gone)))
    doubtful = set(_written(changed.gone)) - set(_written(changed.come)) if changed.gone else set()
    return Beside(had, doubtful - _still_written(session, task, doubtful))


def said_before(
    session: Session, model: Model, columns: Sequence[str], task: str, keys: Sequence[str], losing: set[K], gaining: set[K]
) -> list[Any]:
    """The rows of the voters with these `keys`: of who loses one all, of who only gains one the last, which is what counted.

    For votes and ratings, which both have the columns of an Order.
    """
    keys, all_of, last_of = ("task", *keys), [(task, *key) for key in losing], [(task, *key) for key in gaining - losing]
    return [*select_by(session, model, columns, keys, all_of), *first_of(session, model, columns, keys, last_of, _LAST_FIRST)]


def insert(session: Session, come: Sequence[Ballot]) -> None:
    """Insert these votes."""
    insert_all(session, StoredVote, Ballot._fields, come)


def count(changed: Changes, beside: Beside, tallies: Mapping[str, Tally], tend: Tend) -> None:
    """Bring the tallies up to date while rows are inserted. Of each voter's votes on two replies the last counts."""
    gone, come = set(changed.gone), _by_voter(tend(changed.come))
    for key in tend(come.keys() | {(one.replies, one.voter) for one in gone}):
        had = beside.had.get(key, [])
        has = [*(one for one in had if one not in gone), *come.get(key, ())] if had else come[key]
        for ballot, step in ((_last(had), -1), (_last(has), 1)):
            if ballot:
                tallies[key[0]].side(ballot.chosen_hash).votes[ballot.source] += step
    for replies, reply, adapter in _written(tend(changed.come)):
        tallies[replies].side(reply).adapters.add(adapter)
    for replies, reply, adapter in beside.unwritten:
        tallies[replies].side(reply).adapters.discard(adapter)


def _found(session: Session, keys: Sequence[str], values: Collection[Sequence[str]]) -> list[Ballot]:
    return [Ballot(*row) for row in select_by(session, StoredVote, Ballot._fields, keys, values)]


def _written(ballots: Iterable[Ballot]) -> Iterator[Written]:
    """The adapters that wrote the replies, over all these votes."""
    for ballot in ballots:
        if ballot.chosen_adapter is not None:
            yield ballot.replies, ballot.chosen_hash, ballot.chosen_adapter
        if ballot.rejected_adapter is not None:
            yield ballot.replies, ballot.rejected_hash, ballot.rejected_adapter


def _still_written(session: Session, task: str, written: Collection[Written]) -> set[Written]:
    """Those that any stored vote says: one vote of many is enough to know."""
    keys = [(task, *one) for one in written]
    found: set[Written] = set()
    for side in ("chosen", "rejected"):
        columns = ("replies", f"{side}_hash", f"{side}_adapter")
        found |= {tuple(row) for row in first_of(session, StoredVote, columns, ("task", *columns), keys, "LIMIT 1")}
    return found


def _names(event_ids: Collection[str]) -> str | None:
    """As json.dumps writes a list, in a fraction of the time: each vote has one or two."""
    return f"[{', '.join(map(encode_basestring_ascii, sorted(event_ids)))}]" if event_ids else None


def _named(event_ids: str | None) -> Sequence[str]:
    found: Sequence[str] = json.loads(event_ids) if event_ids else ()
    return found


def _by_voter(ballots: Iterable[Ballot]) -> dict[tuple[str, str], list[Ballot]]:
    found: dict[tuple[str, str], list[Ballot]] = {}
    for ballot in ballots:
        found.setdefault((ballot.replies, ballot.voter), []).append(ballot)
    return found


def _last(ballots: Sequence[Ballot]) -> Ballot | None:
    if len(ballots) < 2:
        return ballots[0] if ballots else None
    return max(ballots, key=lambda ballot: ballot.order)
