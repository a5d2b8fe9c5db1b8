"""What is never stored with its content: events of users who were erased, and events older than their task keeps them.

A body that is erased or expired takes its id with it: the event is a skeleton, and whatever other body came under that id is a
dead letter. An erasure itself is such a body: only its tombstone keeps it. So it does not matter which of them came first, nor
whether the erasure came before, between or after them.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select
from sqlmodel import Session

from ingest.events import ErasureEvent
from pairing.decoding import Accepted, Batch, in_conflict, received_at
from pairing.outcomes import Outcome
from pairing.rows import insert_all, insert_new, select_in, table_of, update_by
from pairing.skeleton import leave_marks, prompts_of, strip
from pairing.tables import DeadLetter, LateRecord, Removal, StoredEvent
from pairing.tombstones import (
    Key,
    Known,
    ask,
    claimed,
    count,
    cutoffs,
    erased_of,
    keep_removals_out,
    under_way,
)

_events = table_of(StoredEvent)
_BY_RANK = (Outcome.APPLIED, Outcome.EXPIRED, Outcome.ERASED)
"""Of several bodies under one id, what the skeleton says."""


def absorb(session: Session, batch: Batch, known: Known) -> None:
    """Take what is erased or expired out of the batch, and store skeletons in its place. What is left of the batch counts."""
    keep_removals_out(session)
    arrived = [*batch.events.values(), *batch.lost]
    ask(session, [one.event for one in arrived if isinstance(one.event, ErasureEvent)], known)
    claims = {id_: claim for id_, letter in batch.dead.items() if (claim := claimed(letter.value))}
    users = {user for one in arrived if (user := _user(one))}
    erased, before = erased_of(session, {*users, *claims.values()}, known.tombstone), cutoffs(session)
    _note_late(session, batch, claims, erased, known)
    doomed = [(one, fate) for one in arrived if (fate := _fate(one, erased, before))]
    if doomed:
        _take_out(batch, doomed)
        _bury(session, doomed, erased, before)
        _note_prompts(session, [(one, erased[user]) for one, _ in doomed if (user := _user(one)) in erased])
    for id_, claim in claims.items():
        if claim in erased:
            del batch.dead[id_]


def _user(accepted: Accepted) -> Key | None:
    return (accepted.event.task, accepted.event.user) if accepted.event.user is not None else None


def _fate(accepted: Accepted, erased: Mapping[Key, str], before: Mapping[str, datetime]) -> Outcome | None:
    event = accepted.event
    if isinstance(event, ErasureEvent):
        return Outcome.APPLIED
    if event.task in before and event.occurred_at < before[event.task]:
        return Outcome.EXPIRED
    return Outcome.ERASED if _user(accepted) in erased else None


def _note_late(session: Session, batch: Batch, claims: Mapping[str, Key], erased: Mapping[Key, str], known: Known) -> None:
    """Records that came after the event log was looked through for their user."""
    if known.log != "removed" or not erased:
        return
    looking = under_way(session, [(task, hash_) for (task, _), hash_ in erased.items()])
    late = {key for key, hash_ in erased.items() if (key[0], hash_) not in looking}
    arrived = (one for one in (*batch.events.values(), *batch.lost) if not isinstance(one.event, ErasureEvent))
    places = {(one.record.partition, one.record.offset) for one in arrived if _user(one) in late}
    places |= {(batch.dead[id_].partition, batch.dead[id_].offset) for id_, claim in claims.items() if claim in late}
    rows = [{"log_id": known.log_id, "partition": partition, "offset": offset} for partition, offset in sorted(places)]
    insert_new(session, LateRecord, rows)


def _note_prompts(session: Session, of_erased: Sequence[tuple[Accepted, str]]) -> None:
    """Evaluations may repeat the prompts all the same, where a log is read again: they are looked for."""
    prompts: defaultdict[Key, set[str]] = defaultdict(set)
    for one, user_hash in of_erased:
        prompts[one.event.task, user_hash] |= prompts_of([one.event])
    rows = [
        {"task": task, "user_hash": hash_, "state": "derive", "prompts": json.dumps(sorted(asked))}
        for (task, hash_), asked in sorted(prompts.items())
        if asked
    ]
    insert_all(session, Removal, rows)


def _take_out(batch: Batch, doomed: Sequence[tuple[Accepted, Outcome]]) -> None:
    """Leave the doomed out of the batch; what is left under one of their ids is lost to them."""
    bodies, ids = {id(one) for one, _ in doomed}, {one.key for one, _ in doomed}
    others = [one for one in (*batch.events.values(), *batch.lost) if id(one) not in bodies]
    batch.events = {one.key: one for one in batch.events.values() if one.key not in ids}
    batch.lost = [one for one in others if batch.events.get(one.key) is not one]


def _bury(
    session: Session, doomed: Sequence[tuple[Accepted, Outcome]], erased: Mapping[Key, str], before: Mapping[str, datetime]
) -> None:
    best: dict[Key, tuple[Accepted, Outcome]] = {}
    for one in sorted(doomed, key=lambda pair: (_BY_RANK.index(pair[1]), pair[0].event.occurred_at)):
        best.setdefault(one[0].key, one)
    rows = {key: _skeleton(one, outcome) for key, (one, outcome) in best.items()}
    new = {tuple(key) for key in insert_new(session, StoredEvent, list(rows.values()))}
    buried = [(one.event.task, _user(one)) for key, (one, outcome) in best.items() if key in new and outcome is Outcome.ERASED]
    count(session, [(task, erased[user]) for task, user in buried if user])
    by_task: defaultdict[str, set[str]] = defaultdict(set)
    for task, event_id in best.keys() - new:
        by_task[task].add(event_id)
    for task, ids in sorted(by_task.items()):
        for kept in _kept(session, task, ids):
            is_doomed = (task, kept.user) in erased or (task in before and kept.occurred_at < before[task])
            _settle(session, kept, *best[task, kept.event_id], is_doomed)


def _settle(session: Session, kept: Row[Any], came: Accepted, outcome: Outcome, is_doomed: bool) -> None:
    """A skeleton's id is taken. Content of somebody else goes to the dead letters; doomed content is left to its removal."""
    change = {"task": kept.task, "event_id": kept.event_id}
    if kept.body and not is_doomed:
        insert_new(session, DeadLetter, [in_conflict(kept.body.encode(), came.record).model_dump()])
        leave_marks(session, kept.task, strip(session, kept.task, [kept.event_id], outcome))
    if outcome is Outcome.APPLIED:
        change |= {"type": came.event.type}
    if not kept.body and _BY_RANK.index(outcome) < _BY_RANK.index(Outcome(kept.outcome)):
        change |= {"outcome": outcome.value}
    if len(change) > 2:
        update_by(session, StoredEvent, ["task", "event_id"], [change])


def _kept(session: Session, task: str, ids: set[str]) -> list[Row[Any]]:
    return select_in(session, select(_events).where(_events.c.task == task).with_for_update(), _events.c.event_id, ids)


def _skeleton(accepted: Accepted, outcome: Outcome) -> dict[str, Any]:
    event = accepted.event
    return {
        "task": event.task,
        "event_id": event.event_id,
        "type": event.type,
        "user": None,
        "occurred_at": event.occurred_at,
        "received_at": received_at(accepted.record),
        "body": "",
        "body_hash": "",
        "outcome": outcome.value,
    }
