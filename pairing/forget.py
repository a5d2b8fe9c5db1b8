"""Removes what a user's events, or a task's old events, hold from the database: in bounded steps, each a transaction.

The content goes first, and what followed from it; then the prompts that nobody else asked, and with them the evaluations of
adapters on those prompts. Feedback of others on an erased generation waits for that generation
as if it had never come. A copy of it that somebody else's feedback carries is that other user's event, and stays.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, delete, exists, select, text, update
from sqlmodel import Session, col

from ingest.erasure import Tombstone
from ingest.events import UNDATED, event_adapter
from pairing.opening import read_sealed
from pairing.outcomes import DeadReason, Outcome
from pairing.rows import delete_by, insert_new, select_by
from pairing.skeleton import Stripped, strip
from pairing.statements import Model, table_of
from pairing.tables import READY, AskedPrompt, DeadLetter, Erasure, EventGeneration, Mark, Removal, StoredEvent, StoredVote
from pairing.tombstones import claimed, count, keep_prompts_out, parsed

MOST_EVENTS = 2_000
"""Events that lose their content in one transaction."""
_LETTERS = 50
"""Dead letters that are read at once: each may be as large as a record."""
_KEY = ("task", "event_id")
_events, _letters = table_of(StoredEvent), table_of(DeadLetter)
_marks, _votes = table_of(Mark), table_of(StoredVote)


def remove_content(session: Session, removal: Removal, most: int = MOST_EVENTS) -> Stripped:
    """Make skeletons of some of the events; once there are no more, remove their dead letters, and go on to `prompts`.

    In a transaction that keeps stores out, holds the task's deriving lock and derives what it returns.
    """
    ids = session.connection().execute(_next(removal).limit(most)).scalars().all()
    stripped = strip(session, removal.task, ids, _outcome(removal))
    if removal.user_hash is not None:
        count(session, [(removal.task, removal.user_hash)] * len(stripped.events))
    if len(ids) < most:
        _remove_letters(session, removal, stripped)
        _relabel(session, removal)
        removal.state = "prompts"
    removal.prompts = json.dumps(sorted({*json.loads(removal.prompts), *stripped.prompts}))
    return stripped


def remove_prompts(session: Session, removal: Removal, tombstone: Tombstone) -> Stripped | None:
    """Delete the prompts that nobody else asked, and what evaluations copied of them; None, and again later, while there are
    events of which it is not derived yet what they ask. Evaluations under way may still come: tombstones keep them out.

    In a transaction as of `remove_content`.
    """
    undecided = select(_marks.c.id).where(_marks.c.task == removal.task, _marks.c.kind == "event").limit(1)
    if session.connection().execute(undecided).first():
        return None
    orphans = _orphans(session, removal.task, json.loads(removal.prompts))
    copies = _by_prompt(session, EventGeneration, ("event_id",), removal.task, orphans)
    stripped = strip(session, removal.task, {row[0] for row in copies}, _outcome(removal))
    delete_by(session, AskedPrompt, ("task", "hash"), [(removal.task, prompt) for prompt in orphans])
    if removal.before is None:  # what has expired keeps others out by its age
        keep_prompts_out(session, removal.task, orphans, tombstone)
    if stripped.events:
        _prove_again(session, removal)
    removal.copies, removal.prompts, removal.state = json.dumps(sorted(stripped.events)), "[]", "log"
    return stripped


def _prove_again(session: Session, removal: Removal) -> None:
    """Where a log is read again, the erasure may be proven before an event of theirs shows which evaluations repeat it."""
    of_user = (col(Erasure.task) == removal.task, col(Erasure.user_hash) == removal.user_hash)
    session.connection().execute(update(Erasure).where(*of_user).values(erased_at=None))


def _next(removal: Removal) -> Select[Any]:
    """Ids of events that still have their content."""
    ids = select(_events.c.event_id).where(_events.c.task == removal.task, _events.c.body != "").order_by(_events.c.event_id)
    return ids.where(_events.c.user == removal.user if removal.before is None else _is_past(removal.before))


def _is_past(before: datetime) -> ColumnElement[bool]:
    """Older than that; what has no time of its own never is."""
    return and_(_events.c.occurred_at < before, _events.c.occurred_at > UNDATED)


def _outcome(removal: Removal) -> Outcome:
    return Outcome.ERASED if removal.before is None else Outcome.EXPIRED


def _orphans(session: Session, task: str, prompts: Collection[str]) -> list[str]:
    """Those that no event holds any more but evaluations. Of ready pairs there are votes, which rest on nothing else."""
    versions = _by_prompt(session, EventGeneration, ("prompt_hash", "evaluation"), task, prompts)
    held = {prompt for prompt, evaluation in versions if not evaluation}
    return sorted(set(prompts) - held - _ready(session, task, sorted(set(prompts) - held)))


def _ready(session: Session, task: str, prompts: Sequence[str]) -> set[str]:
    """Those that ready pairs are of."""
    of_task = select(_votes.c.prompt_hash).where(_votes.c.task == task, text(READY))
    found: set[str] = set()
    for first in range(0, len(prompts), MOST_EVENTS):
        here = of_task.where(_votes.c.prompt_hash.in_(prompts[first : first + MOST_EVENTS]))
        found |= set(session.connection().execute(here).scalars())
    return found


def _by_prompt(session: Session, model: Model, columns: Sequence[str], task: str, prompts: Collection[str]) -> list[Any]:
    return select_by(session, model, columns, ("task", "prompt_hash"), [(task, prompt) for prompt in prompts])


def _remove_letters(session: Session, removal: Removal, stripped: Stripped) -> None:
    """A body of theirs that lost its id takes the id along all the same: what had won it becomes a dead letter."""
    for letter in _letters_of(session, removal):
        session.connection().execute(delete(DeadLetter).where(_letters.c.id == letter.id))
        said = parsed(letter.value)
        if letter.reason == DeadReason.UNREADABLE:
            _bury_closed(session, removal, letter)
        elif letter.reason == DeadReason.CONFLICTING_BODY and (kept := _stored(session, removal.task, said["event_id"])):
            lost = {"id": hashlib.sha256(kept.encode()).hexdigest(), "value": kept.encode()}
            insert_new(session, DeadLetter, [letter._asdict() | lost])
            stripped.add(strip(session, removal.task, [said["event_id"]], _outcome(removal)))


def _bury_closed(session: Session, removal: Removal, letter: Row[Any]) -> None:
    """As if the sealed record had come after the erasure; where its task keeps nothing so old, only the letter goes."""
    sealed = read_sealed(letter.value)
    if sealed is None or removal.user_hash is None or select_by(session, StoredEvent, ("task",), _KEY, [sealed.key]):
        return
    at = {"occurred_at": letter.received_at, "received_at": letter.received_at}
    nothing = {"user": None, "body": "", "body_hash": "", "outcome": Outcome.ERASED.value}
    insert_new(session, StoredEvent, [{"task": sealed.task, "event_id": sealed.event_id, "type": sealed.type} | at | nothing])
    count(session, [sealed.owner])


def _letters_of(session: Session, removal: Removal) -> Iterator[Row[Any]]:
    last = ""
    while page := session.connection().execute(_page(last)).all():
        last = page[-1].id
        yield from (letter for letter in page if _is_theirs(removal, letter))


def _page(after: str) -> Select[Any]:
    return select(_letters).where(_letters.c.id > after).order_by(_letters.c.id).limit(_LETTERS)


def _is_theirs(removal: Removal, letter: Row[Any]) -> bool:
    if removal.before is None and letter.reason == DeadReason.UNREADABLE:
        sealed = read_sealed(letter.value)
        return sealed is not None and sealed.owner == (removal.task, removal.user_hash)
    if removal.before is None:
        return claimed(letter.value) == (removal.task, removal.user)
    if parsed(letter.value).get("task") != removal.task:
        return False
    lost = letter.reason == DeadReason.CONFLICTING_BODY
    happened: datetime = event_adapter.validate_json(letter.value).occurred_at if lost else letter.received_at
    return UNDATED < happened < removal.before


def _stored(session: Session, task: str, event_id: str) -> str | None:
    which = (_events.c.task == task, _events.c.event_id == event_id, _events.c.body != "")
    return session.connection().execute(select(_events.c.body).where(*which)).scalar()


def _relabel(session: Session, removal: Removal) -> None:
    """Of events that are both erased and expired it counts that they are expired; not before rounds were seen to."""
    if removal.before is not None:
        waits = exists().where(col(Erasure.task) == removal.task, col(Erasure.rounds_at).is_(None))
        both = (_events.c.task == removal.task, _is_past(removal.before), _events.c.outcome == Outcome.ERASED.value)
        session.connection().execute(update(_events).where(*both, ~waits).values(outcome=Outcome.EXPIRED.value))
