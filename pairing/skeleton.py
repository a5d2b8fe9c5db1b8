"""Skeletons: stored events whose content was removed. Task, id, type, times and outcome stay, for idempotency and lineage.

A skeleton has no user, and an empty body and body hash: nobody can tell from it what it said or whose it was. What was derived
from the content is not touched here: the marks that are left see to it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlmodel import Session

from ingest.events import Event, Feedback, Generation, PreferenceEvent, event_adapter
from pairing.identity import prompt_hash, prompt_json, tools_json
from pairing.outcomes import Outcome
from pairing.rows import delete_by, insert_all, select_in, table_of, update_by
from pairing.tables import EventGeneration, GenerationVersion, Mark, StoredEvent

_events, _names, _marks = table_of(StoredEvent), table_of(EventGeneration), table_of(Mark)


@dataclass(slots=True)
class Stripped:
    """What events were about whose content was removed."""

    events: set[str] = field(default_factory=set)
    generations: set[str] = field(default_factory=set)
    prompts: set[str] = field(default_factory=set)


def strip(session: Session, task: str, event_ids: Collection[str], outcome: Outcome) -> Stripped:
    """Make skeletons of stored events, with this outcome, or `applied` for an erasure. Those that are some already stay."""
    columns = (_events.c.event_id, _events.c.type, _events.c.body)
    with_content = select(*columns).where(_events.c.task == task, _events.c.body != "").with_for_update()
    rows = select_in(session, with_content, _events.c.event_id, event_ids)
    stripped = Stripped({row.event_id for row in rows})
    for event in (event_adapter.validate_json(row.body) for row in rows):
        _note(stripped, event)
        if held := held_by(event):
            delete_by(session, GenerationVersion, [_which(event) | {"generation_id": held.generation_id}])
    named = select(_names.c.event_id, _names.c.generation_id).where(_names.c.task == task)
    stripped.generations |= {row.generation_id for row in select_in(session, named, _names.c.event_id, stripped.events)}
    delete_by(session, EventGeneration, [{"task": task, "event_id": id_} for id_ in sorted(stripped.events)])
    update_by(session, StoredEvent, ["task", "event_id"], [_emptied(task, row.event_id, row.type, outcome) for row in rows])
    return stripped


def leave_marks(session: Session, task: str, stripped: Stripped) -> int:
    """Have derived again what rested on the content; returns the id of the newest mark."""
    marks = [("generation", id_) for id_ in stripped.generations] + [("event", id_) for id_ in stripped.events]
    insert_all(session, Mark, [{"task": task, "kind": kind, "key": key} for kind, key in sorted(marks)])
    return int(session.connection().execute(select(func.max(_marks.c.id)).where(_marks.c.task == task)).scalar() or 0)


def held_by(event: Event) -> Generation | None:
    """The generation that an event holds whole."""
    if isinstance(event, Feedback):
        return event.generation
    return event if isinstance(event, Generation) else None


def prompts_of(events: Iterable[Event]) -> set[str]:
    """Hashes of the prompts that these events hold, as AskedPrompt has them."""
    asked = (event if isinstance(event, PreferenceEvent) else held_by(event) for event in events)
    return {prompt_hash(prompt_json(one.prompt), tools_json(one.tools)) for one in asked if one}


def _note(stripped: Stripped, event: Event) -> None:
    stripped.prompts |= prompts_of([event])
    if held := held_by(event):
        stripped.generations.add(held.generation_id)


def _which(event: Event) -> dict[str, str]:
    return {"task": event.task, "event_id": event.event_id}


def _emptied(task: str, event_id: str, type_: str, outcome: Outcome) -> dict[str, str | None]:
    kept = Outcome.APPLIED if type_ == "erasure" else outcome
    return {"task": task, "event_id": event_id, "user": None, "body": "", "body_hash": "", "outcome": kept.value}
