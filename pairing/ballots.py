"""Votes as they are stored, and how they change the count on the two replies that they are about."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from json.encoder import encode_basestring_ascii
from operator import attrgetter
from typing import NamedTuple

from sqlmodel import Session

from pairing import rows
from pairing.identity import pair_id, replies_hash
from pairing.rows import delete_by, first_of, select_by
from pairing.rules.net import Tally
from pairing.rules.votes import Order, Source, Vote
from pairing.tables import StoredVote

_KEY = ("task", "replies", "voter", "event_id")


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


def changes(stored: Iterable[Ballot], derived: Iterable[Ballot]) -> Changes:
    """What is to be deleted and inserted so that the derived votes stand where the stored ones do."""
    before, after = set(stored), set(derived)
    return Changes(list(before - after), list(after - before))


def delete(session: Session, gone: Sequence[Ballot]) -> None:
    """Delete these votes."""
    delete_by(session, StoredVote, _KEY, list(map(attrgetter(*_KEY), gone)))


def inserting(session: Session, come: Sequence[Ballot]) -> AbstractContextManager[rows.Tend]:
    """Insert these votes; it goes on during the block, as with rows.inserting."""
    return rows.inserting(session, StoredVote, Ballot._fields, come)


def count(session: Session, task: str, changed: Changes, tallies: Mapping[str, Tally], counted_before: Collection[str]) -> None:
    """Bring the tallies up to date, before anything is deleted or inserted. Of each voter's votes on two replies the last counts.

    `counted_before` names the replies that had votes: only of those can there be stored ones by the same voters.
    """
    gone, come = set(changed.gone), _by_voter(changed.come)
    touched = come.keys() | {(one.replies, one.voter) for one in gone}
    keys = [(task, *key) for key in touched if key[0] in counted_before]
    before = _by_voter(_found(session, ("task", "replies", "voter"), keys))
    for key in touched:
        had = before.get(key, [])
        has = [*(one for one in had if one not in gone), *come.get(key, ())] if had else come[key]
        for ballot, step in ((_last(had), -1), (_last(has), 1)):
            if ballot:
                tallies[key[0]].side(ballot.chosen_hash).votes[ballot.source] += step


def note_adapters(session: Session, task: str, changed: Changes, tallies: Mapping[str, Tally]) -> None:
    """Keep which adapters wrote each side, over all votes; after those that go are deleted."""
    written = {one for ballot in changed.come for one in _written(ballot)}
    for replies, reply, adapter in written:
        tallies[replies].side(reply).adapters.add(adapter)
    doubtful = {one for ballot in changed.gone for one in _written(ballot)} - written
    for replies, reply, adapter in doubtful - _still_written(session, task, doubtful):
        tallies[replies].side(reply).adapters.discard(adapter)


def _found(session: Session, keys: Sequence[str], values: Collection[Sequence[str]]) -> list[Ballot]:
    return [Ballot(*row) for row in select_by(session, StoredVote, Ballot._fields, keys, values)]


def _written(ballot: Ballot) -> Iterator[tuple[str, str, str]]:
    """The adapters that wrote its replies: the two replies, that one, and the adapter."""
    if ballot.chosen_adapter is not None:
        yield ballot.replies, ballot.chosen_hash, ballot.chosen_adapter
    if ballot.rejected_adapter is not None:
        yield ballot.replies, ballot.rejected_hash, ballot.rejected_adapter


def _still_written(session: Session, task: str, written: Collection[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Those that any stored vote says: one vote of many is enough to know."""
    keys = [(task, *one) for one in written]
    found: set[tuple[str, str, str]] = set()
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
