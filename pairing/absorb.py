"""What is never stored with its content: events of users who were erased, and events older than their task keeps them.

A body that is erased or expired takes its id with it: the event is a skeleton, and whatever other body came under that id is a
dead letter. An erasure itself is such a body: only its tombstone keeps it. So it does not matter which of them came first, nor
whether the erasure came before, between or after them.

A sealed record whose key was destroyed is a skeleton too: its user's tombstone says so, and nothing of it needs to be read.
And so is the evaluation of an adapter on a prompt that went with its user: a round under way does not know yet.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

from sqlmodel import Session

from ingest.events import UNDATED, ErasureEvent
from ingest.log import Record
from pairing.decoding import Batch, in_conflict, received_at, unreadable
from pairing.held import Accepted
from pairing.identity import Key
from pairing.opening import Closed, destroy_keys
from pairing.outcomes import Outcome
from pairing.rows import insert_all, insert_new, select_by, update_by
from pairing.skeleton import Stripped, prompts_of, strip
from pairing.tables import LateRecord, Removal, StoredEvent
from pairing.tombstones import (
    Known,
    ask,
    claimed,
    count,
    cutoffs,
    erased_among,
    erased_of,
    gone_among,
    keep_removals_out,
    start,
    under_way,
)

_KEY = ("task", "event_id")
_COLUMNS = (*_KEY, "type", "user", "occurred_at", "received_at", "body", "body_hash", "outcome")
_BY_RANK = (Outcome.APPLIED, Outcome.EXPIRED, Outcome.ERASED)
"""Of several bodies under one id, what the skeleton says."""


def absorb(session: Session, batch: Batch, known: Known) -> dict[str, Stripped]:
    """Take what is erased or expired out of the batch, and store skeletons in its place. What is left of the batch counts.

    Returns, by task, the events whose content went with it: what followed from them is to be derived again.
    """
    keep_removals_out(session)
    ask(session, batch.erasures, known)
    claims = {id_: claim for id_, letter in batch.dead.items() if (claim := claimed(letter.value))}
    erased, before = erased_of(session, {*batch.users, *claims.values()}, known.tombstone), cutoffs(session)
    gone = gone_among(session, batch.judged, known.tombstone)
    closed = _erased_and_closed(session, batch)
    # keys that ingest made, not knowing that they were erased
    destroy_keys(session, {(task, hash_) for (task, _), hash_ in erased.items()} | {one.sealed.owner for one in closed})
    doomed, expired = _doomed(batch, erased, gone, before) if batch.erasures or erased or gone or before else ([], [])
    _note_late(session, batch, claims, erased, gone, expired, known)
    for id_, claim in claims.items():
        if claim in erased:
            del batch.dead[id_]
    if not doomed and not closed:
        return {}
    _take_out(batch, [one for one, _ in doomed], [one.key for one in closed])
    _note_prompts(session, [(one, erased[one.user]) for one, _ in doomed if one.user in erased])
    bodies = [*(_Doomed.of(one, fate, erased) for one, fate in doomed), *map(_Doomed.closed, closed)]
    return _bury(session, batch, bodies, before, known)


class _Doomed(NamedTuple):
    """What is to be known of a body that is not stored."""

    key: Key
    type: str
    occurred_at: datetime
    record: Record
    fate: Outcome
    user_hash: str | None = None
    """Whose erasure it counts for."""

    @classmethod
    def of(cls, accepted: Accepted, fate: Outcome, erased: Mapping[Key, str]) -> Self:
        event = accepted.event
        user_hash = erased.get((event.task, str(event.user))) if fate is Outcome.ERASED else None
        return cls(accepted.key, event.type, event.occurred_at, accepted.record, fate, user_hash)

    @classmethod
    def closed(cls, closed: Closed) -> Self:
        """When it happened nobody can read any more: it counts when the log took it."""
        sealed, record = closed.sealed, closed.record
        return cls(closed.key, sealed.type, received_at(record), record, Outcome.ERASED, sealed.user_hash)


def _erased_and_closed(session: Session, batch: Batch) -> list[Closed]:
    """Sealed records of erased users, which stay closed. The others become dead letters."""
    erased = erased_among(session, {one.sealed.owner for one in batch.closed})
    for one in batch.closed:
        if one.sealed.owner not in erased:
            letter = unreadable(one.record)
            batch.dead[letter.id] = letter
    return [one for one in batch.closed if one.sealed.owner in erased]


def _doomed(
    batch: Batch, erased: Mapping[Key, str], gone: Collection[Key], before: Mapping[str, datetime]
) -> tuple[list[tuple[Accepted, Outcome]], list[Accepted]]:
    """What is not to be stored, and why; and of all records those that are too old."""
    arrived = (*batch.events.values(), *batch.lost)
    doomed = [(one, fate) for one in arrived if (fate := _fate(one, erased, gone, before))]
    fates = (*doomed, *((one, _fate(one, erased, gone, before)) for one in batch.again))
    return doomed, [one for one, fate in fates if fate is Outcome.EXPIRED]


def _fate(accepted: Accepted, erased: Mapping[Key, str], gone: Collection[Key], before: Mapping[str, datetime]) -> Outcome | None:
    event = accepted.event
    if isinstance(event, ErasureEvent):
        return Outcome.APPLIED
    if event.task in before and UNDATED < event.occurred_at < before[event.task]:
        return Outcome.EXPIRED
    return Outcome.ERASED if accepted.user in erased or accepted.judged in gone else None


def _note_late(
    session: Session,
    batch: Batch,
    claims: Mapping[str, Key],
    erased: Mapping[Key, str],
    gone: Collection[Key],
    expired: Sequence[Accepted],
    known: Known,
) -> None:
    """Records that came after the event log was looked through for their user, their prompt, or their age."""
    if known.log != "removed" or not (erased or gone or expired):
        return
    looking = under_way(session, {(task, hash_) for (task, _), hash_ in erased.items()})
    late = {key for key, hash_ in erased.items() if (key[0], hash_) not in looking}
    every = (*batch.events.values(), *batch.lost, *batch.again)
    arrived = (one for one in every if not isinstance(one.event, ErasureEvent))
    places = {(one.record.partition, one.record.offset) for one in arrived if one.user in late or one.judged in gone}
    places |= {(batch.dead[id_].partition, batch.dead[id_].offset) for id_, claim in claims.items() if claim in late}
    places |= {(one.record.partition, one.record.offset) for one in expired}
    rows = [{"log_id": known.log_id, "partition": partition, "offset": offset} for partition, offset in sorted(places)]
    insert_new(session, LateRecord, rows)


def _note_prompts(session: Session, of_erased: Sequence[tuple[Accepted, str]]) -> None:
    """Evaluations may repeat the prompts all the same, where a log is read again: they are looked for."""
    prompts: defaultdict[Key, set[str]] = defaultdict(set)
    for one, user_hash in of_erased:
        prompts[one.event.task, user_hash] |= prompts_of([one.event])
    asked = {key: json.dumps(sorted(of_user)) for key, of_user in prompts.items() if of_user}
    start(session, [Removal(task=key[0], user_hash=key[1], state="prompts", prompts=of_user) for key, of_user in asked.items()])


def _take_out(batch: Batch, doomed: Sequence[Accepted], closed: Sequence[Key]) -> None:
    """Leave the doomed out of the batch; what is left under one of their ids is lost to them."""
    bodies, ids = {id(one) for one in doomed}, {*(one.key for one in doomed), *closed}
    others = [one for one in (*batch.events.values(), *batch.lost) if id(one) not in bodies]
    batch.events = {one.key: one for one in batch.events.values() if one.key not in ids}
    batch.lost = [one for one in others if batch.events.get(one.key) is not one]
    batch.facts = None


def _bury(
    session: Session,
    batch: Batch,
    doomed: Sequence[_Doomed],
    before: Mapping[str, datetime],
    known: Known,
) -> dict[str, Stripped]:
    best: dict[Key, _Doomed] = {}
    for one in sorted(doomed, key=lambda one: (_BY_RANK.index(one.fate), one.occurred_at)):
        best.setdefault(one.key, one)
    kept = {(row[0], row[1]): _Kept(*row) for row in select_by(session, StoredEvent, _Kept._fields, _KEY, list(best))}
    new = {key: one for key, one in best.items() if key not in kept}
    insert_all(session, StoredEvent, _COLUMNS, [_skeleton(one) for one in new.values()])
    count(session, [(key[0], one.user_hash) for key, one in new.items() if one.user_hash])
    gone = erased_of(session, {(row.task, row.user) for row in kept.values() if row.user is not None}, known.tombstone)
    freed: defaultdict[str, Stripped] = defaultdict(Stripped)
    for key, row in sorted(kept.items()):
        came = best[key]
        if not row.body:
            _outrank(session, row, came)
        elif (row.task, row.user) in gone or (row.task in before and UNDATED < row.occurred_at < before[row.task]):
            _rename(session, row, came)
        else:
            letter = in_conflict(row.body.encode(), came.record)
            batch.dead[letter.id] = letter
            freed[row.task].add(strip(session, row.task, [row.event_id], came.fate))
            _rename(session, row, came)
    return dict(freed)


class _Kept(NamedTuple):
    """What is stored under the id of a doomed event."""

    task: str
    event_id: str
    user: str | None
    occurred_at: datetime
    body: str
    outcome: str


def _outrank(session: Session, kept: _Kept, came: _Doomed) -> None:
    """Of two skeletons the same one stays, whichever came first."""
    if _BY_RANK.index(came.fate) < _BY_RANK.index(Outcome(kept.outcome)):
        update_by(session, StoredEvent, _KEY, ("type", "outcome"), [(*kept[:2], came.type, came.fate)])


def _rename(session: Session, kept: _Kept, came: _Doomed) -> None:
    """An erasure takes the id over, also from content that is to be removed yet: its skeleton will be the erasure's."""
    if came.fate is Outcome.APPLIED:
        update_by(session, StoredEvent, _KEY, ("type",), [(*kept[:2], came.type)])


def _skeleton(one: _Doomed) -> tuple[Any, ...]:
    return *one.key, one.type, None, one.occurred_at, received_at(one.record), "", "", one.fate
