"""Removes what a user's events, or a task's old events, hold from the database: in bounded steps, each a transaction.

The content goes first, and what was derived from it is marked; once that is derived again, the prompts that nobody else asked go,
and with them the evaluations of adapters on those prompts. Feedback of others on an erased generation waits for that generation
as if it had never come. A copy of it that somebody else's feedback carries is that other user's event, and stays.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, exists, select, update
from sqlmodel import Session, col

from ingest.events import event_adapter
from pairing.outcomes import DeadReason, Outcome
from pairing.rows import insert_new, select_in, table_of
from pairing.skeleton import Stripped, leave_marks, strip
from pairing.tables import AskedPrompt, DeadLetter, Erasure, GenerationVersion, Mark, Removal, StoredEvent, StoredVote
from pairing.tombstones import claimed, count, keep_stores_out, parsed

MOST_EVENTS = 2_000
"""Events that lose their content in one transaction."""
_LETTERS = 50
"""Dead letters that are read at once: each may be as large as a record."""
_events, _versions, _votes = table_of(StoredEvent), table_of(GenerationVersion), table_of(StoredVote)
_letters, _marks, _prompts = table_of(DeadLetter), table_of(Mark), table_of(AskedPrompt)


def remove_content(session: Session, removal: Removal, most: int = MOST_EVENTS) -> None:
    """Make skeletons of some of the events; once there are no more, remove their dead letters and go on to `derive`.

    In a transaction of its own, which has stored nothing.
    """
    keep_stores_out(session)
    ids = session.connection().execute(_next(removal).limit(most)).scalars().all()
    stripped = _strip(session, removal, ids)
    _count(session, removal, stripped)
    if len(ids) < most:
        _remove_letters(session, removal)
        _relabel(session, removal)
        removal.state = "derive"


def remove_prompts(session: Session, removal: Removal) -> bool:
    """Delete the prompts that only they asked, and what evaluations copied of them; False while something is still to be derived.

    In a transaction of its own, which has stored nothing.
    """
    keep_stores_out(session)
    if _to_be_derived(session, removal):
        return False
    asked = set(json.loads(removal.prompts))
    held = select(_versions.c.prompt_hash).where(_versions.c.task == removal.task, ~_versions.c.evaluation)
    orphans = asked - {row.prompt_hash for row in select_in(session, held, _versions.c.prompt_hash, asked)}
    orphans -= _preferred(session, removal.task, orphans)
    removal.copies = json.dumps(sorted(_strip_copies(session, removal, orphans)))
    for prompt in sorted(orphans):
        session.connection().execute(delete(AskedPrompt).where(_prompts.c.task == removal.task, _prompts.c.hash == prompt))
    removal.prompts, removal.state = "[]", "log"
    return True


def _next(removal: Removal) -> Select[Any]:
    """Ids of events that still have their content."""
    ids = select(_events.c.event_id).where(_events.c.task == removal.task, _events.c.body != "").order_by(_events.c.event_id)
    theirs = _events.c.user == removal.user if removal.before is None else _events.c.occurred_at < removal.before
    return ids.where(theirs)


def _outcome(removal: Removal) -> Outcome:
    return Outcome.ERASED if removal.before is None else Outcome.EXPIRED


def _strip(session: Session, removal: Removal, ids: Collection[str]) -> Stripped:
    stripped = strip(session, removal.task, ids, _outcome(removal))
    if stripped.events:
        removal.last_mark = max(removal.last_mark, leave_marks(session, removal.task, stripped))
        removal.prompts = json.dumps(sorted({*json.loads(removal.prompts), *stripped.prompts}))
    return stripped


def _count(session: Session, removal: Removal, stripped: Stripped) -> None:
    if removal.user_hash is not None:
        count(session, [(removal.task, removal.user_hash)] * len(stripped.events))


def _remove_letters(session: Session, removal: Removal) -> None:
    """A body of theirs that lost its id takes the id along all the same: what had won it becomes a dead letter."""
    for letter in _letters_of(session, removal):
        session.connection().execute(delete(DeadLetter).where(_letters.c.id == letter.id))
        said = parsed(letter.value)
        if letter.reason == DeadReason.CONFLICTING_BODY and (kept := _stored(session, removal.task, said["event_id"])):
            lost = {"id": hashlib.sha256(kept.encode()).hexdigest(), "value": kept.encode()}
            insert_new(session, DeadLetter, [letter._asdict() | lost])
            _strip(session, removal, [said["event_id"]])


def _letters_of(session: Session, removal: Removal) -> Iterator[Row[Any]]:
    last = ""
    while page := session.connection().execute(_page(last)).all():
        last = page[-1].id
        yield from (letter for letter in page if _is_theirs(removal, letter))


def _page(after: str) -> Select[Any]:
    return select(_letters).where(_letters.c.id > after).order_by(_letters.c.id).limit(_LETTERS)


def _is_theirs(removal: Removal, letter: Row[Any]) -> bool:
    if removal.before is None:
        return claimed(letter.value) == (removal.task, removal.user)
    if parsed(letter.value).get("task") != removal.task:
        return False
    lost = letter.reason == DeadReason.CONFLICTING_BODY
    happened: datetime = event_adapter.validate_json(letter.value).occurred_at if lost else letter.received_at
    return happened < removal.before


def _stored(session: Session, task: str, event_id: str) -> str | None:
    which = (_events.c.task == task, _events.c.event_id == event_id, _events.c.body != "")
    return session.connection().execute(select(_events.c.body).where(*which)).scalar()


def _relabel(session: Session, removal: Removal) -> None:
    """Of events that are both erased and expired it counts that they are expired; not before rounds were seen to."""
    if removal.before is not None:
        waits = exists().where(col(Erasure.task) == removal.task, col(Erasure.rounds_at).is_(None))
        both = (_events.c.task == removal.task, _events.c.occurred_at < removal.before, _events.c.outcome == Outcome.ERASED.value)
        session.connection().execute(update(_events).where(*both, ~waits).values(outcome=Outcome.EXPIRED.value))


def _to_be_derived(session: Session, removal: Removal) -> bool:
    """Whether there is a mark of this removal, or of an event whose prompt may be one of these and has no vote yet."""
    mine = (_marks.c.id <= removal.last_mark) | (_marks.c.kind == "event")
    return (
        session.connection().execute(select(_marks.c.id).where(_marks.c.task == removal.task, mine).limit(1)).first() is not None
    )


def _preferred(session: Session, task: str, prompts: Collection[str]) -> set[str]:
    """The prompts that ready pairs bring along: they are named by votes only."""
    voted = select(_votes.c.prompt_hash).where(_votes.c.task == task)
    return {row.prompt_hash for row in select_in(session, voted.distinct(), _votes.c.prompt_hash, prompts)}


def _strip_copies(session: Session, removal: Removal, prompts: Collection[str]) -> set[str]:
    """Evaluations on the prompts: what nobody else asked, nobody else's evaluation repeats."""
    copies = select(_versions.c.event_id).where(_versions.c.task == removal.task, _versions.c.evaluation)
    ids = {row.event_id for row in select_in(session, copies, _versions.c.prompt_hash, prompts)}
    stripped = strip(session, removal.task, ids, _outcome(removal))
    leave_marks(session, removal.task, stripped)
    return stripped.events
