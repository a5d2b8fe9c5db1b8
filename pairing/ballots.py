"""Votes as they are stored: the difference to the new ones is written, and the votes on the same two replies are read."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Row, select
from sqlmodel import Session

from pairing.identity import replies_hash, reply_hash
from pairing.outcomes import Outcome
from pairing.rows import delete_by, insert_all, select_in, table_of, update_by
from pairing.rules.net import Tally
from pairing.rules.votes import Vote
from pairing.tables import StoredVote

_votes = table_of(StoredVote)
_KEY = ("task", "event_id", "chosen_hash", "rejected_hash")


def replace(session: Session, task: str, event_ids: Collection[str], new: Iterable[Vote]) -> dict[str, Vote]:
    """Make these the votes that the events decided; returns, by `replies`, a vote on each two of which votes changed."""
    rows = select_in(session, select(_votes).where(_votes.c.task == task), _votes.c.event_id, event_ids)
    before = {vote.key: vote for vote in map(_vote, rows)}
    after = {vote.key: vote for vote in new}
    gone = [vote for key, vote in before.items() if after.get(key) != vote]
    come = [vote for key, vote in after.items() if before.get(key) != vote]
    delete_by(session, StoredVote, [_key(task, vote.key) for vote in gone])
    insert_all(session, StoredVote, [_row(task, vote) for vote in come])
    return {_replies(vote): vote for vote in (*gone, *come)}


def on(session: Session, task: str, replies: Iterable[str]) -> dict[str, dict[Vote, Outcome]]:
    """All votes on each two replies, of those that have any, and how each stood so far."""
    found: defaultdict[str, dict[Vote, Outcome]] = defaultdict(dict)
    for row in select_in(session, select(_votes).where(_votes.c.task == task), _votes.c.replies, replies):
        found[row.replies][_vote(row)] = Outcome(row.standing)
    return found


def write_standings(session: Session, task: str, before: Mapping[Vote, Outcome], tallies: Iterable[Tally]) -> None:
    """Keep how each counted vote stands now."""
    after = {key: standing for counted in tallies for key, standing in counted.standings.items()}
    changed = [vote.key for vote, standing in before.items() if after[vote.key] != standing]
    update_by(session, StoredVote, _KEY, [_key(task, key) | {"standing": after[key].value} for key in changed])


def by_events(session: Session, task: str, event_ids: Collection[str]) -> Iterator[tuple[Vote, Outcome]]:
    """The votes that the events decided, and how each stands."""
    for row in select_in(session, select(_votes).where(_votes.c.task == task), _votes.c.event_id, event_ids):
        yield _vote(row), Outcome(row.standing)


def _key(task: str, key: tuple[str, str, str]) -> dict[str, Any]:
    event_id, chosen, rejected = key
    return dict(zip(_KEY, (task, event_id, reply_hash(chosen), reply_hash(rejected)), strict=True))


def _replies(vote: Vote) -> str:
    return replies_hash(vote.prompt_hash, reply_hash(vote.chosen), reply_hash(vote.rejected))


def _row(task: str, vote: Vote) -> dict[str, Any]:
    revision, occurred_at, _ = vote.order
    return _key(task, vote.key) | {
        "prompt_hash": vote.prompt_hash,
        "replies": _replies(vote),
        "voter": vote.voter,
        "revision": revision,
        "occurred_at": occurred_at,
        "source": vote.source,
        "weight": 1,
        "chosen": vote.chosen,
        "rejected": vote.rejected,
        "chosen_adapter": vote.chosen_adapter,
        "rejected_adapter": vote.rejected_adapter,
        "events": json.dumps(sorted(vote.events)),
        "held_by": json.dumps(sorted(vote.held_by)),
        "standing": Outcome.SUPERSEDED.value,  # until it is counted, in the same transaction
    }


def _vote(row: Row[Any]) -> Vote:
    return Vote(
        event_id=row.event_id,
        voter=row.voter,
        order=(row.revision, row.occurred_at, row.event_id),
        source=row.source,
        prompt_hash=row.prompt_hash,
        chosen=row.chosen,
        rejected=row.rejected,
        chosen_adapter=row.chosen_adapter,
        rejected_adapter=row.rejected_adapter,
        events=frozenset(json.loads(row.events)),
        held_by=frozenset(json.loads(row.held_by)),
    )
