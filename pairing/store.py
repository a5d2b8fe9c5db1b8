"""The first transaction: events and the offsets behind them, together or not at all."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session, col

from ingest.events import (
    ChoiceEvent,
    ErasureEvent,
    Event,
    Feedback,
    Generation,
    GenerationEvent,
    PreferenceEvent,
    RatingEvent,
    RegenerationEvent,
    ScoreEvent,
    canonical,
    event_adapter,
    fingerprint,
)
from pairing.absorb import absorb
from pairing.decoding import Accepted, Batch, in_conflict, received_at
from pairing.holdout import Splitter
from pairing.identity import prompt_hash, prompt_json, tools_json
from pairing.outcomes import Outcome
from pairing.rows import delete_by, insert_all, insert_new, select_in, table_of, update_by
from pairing.tables import AskedPrompt, DeadLetter, EventGeneration, GenerationVersion, Mark, Offset, StoredEvent
from pairing.tombstones import Known

Row = dict[str, Any]


class OffsetMoved(Exception):
    """Another worker has stored this part of the log. Nothing of the batch is kept: read again from the stored offset."""


@dataclass(frozen=True, slots=True)
class Read:
    """A stretch of a partition: from the stored offset, None for the very first, to the one to be read next."""

    start: int | None
    next: int


def advance(session: Session, log_id: str, reads: Mapping[int, Read]) -> None:
    """Move the stored offsets.

    Raises:
        OffsetMoved: one of them is not where its stretch starts.
    """
    for partition, read in sorted(reads.items()):
        if read.start is None:
            moved = bool(insert_new(session, Offset, [{"log_id": log_id, "partition": partition, "next": read.next}]))
        else:
            here = (col(Offset.log_id) == log_id, col(Offset.partition) == partition, col(Offset.next) == read.start)
            moved = session.connection().execute(update(Offset).where(*here).values(next=read.next)).rowcount == 1
        if not moved:
            raise OffsetMoved(f"partition {partition} is not at {read.start} any more")


def store(session: Session, batch: Batch, split: Splitter, tasks: Collection[str], known: Known) -> None:
    """Add what is new of a batch, and mark what must be derived again. The same batch again changes nothing."""
    absorb(session, batch, known)
    rows = {key: _event_row(accepted, tasks) for key, accepted in batch.events.items()}
    inserted = {tuple(key) for key in insert_new(session, StoredEvent, list(rows.values()))}
    facts = _Facts(split)
    for key, accepted in batch.events.items():
        if key in inserted:
            facts.add(accepted.event)
    clashes = [accepted for key, accepted in batch.events.items() if key not in inserted]
    lost = [in_conflict(one.body, one.record) for one in batch.lost]
    dead = batch.dead | {letter.id: letter for letter in (*lost, *_settle(session, clashes, rows, facts))}
    facts.write(session)
    insert_new(session, DeadLetter, [letter.model_dump() for letter in dead.values()])


def _settle(
    session: Session, clashes: Sequence[Accepted], rows: Mapping[tuple[str, str], Row], facts: "_Facts"
) -> list[DeadLetter]:
    """Events whose id is stored already: most were sent twice; of two bodies the smaller hash stays."""
    by_task: defaultdict[str, dict[str, Accepted]] = defaultdict(dict)
    for clash in clashes:
        by_task[clash.event.task][clash.event.event_id] = clash
    dead: list[DeadLetter] = []
    events = table_of(StoredEvent)
    for task, of_task in sorted(by_task.items()):
        statement = select(events.c.event_id, events.c.body_hash, events.c.body).where(events.c.task == task).with_for_update()
        for kept in select_in(session, statement, events.c.event_id, of_task):
            clash = of_task[kept.event_id]
            if clash.body_hash < kept.body_hash:
                _replace(session, event_adapter.validate_json(kept.body), clash, rows[clash.key], facts)
                dead.append(in_conflict(kept.body.encode(), clash.record))
            elif clash.body_hash > kept.body_hash:
                dead.append(in_conflict(clash.body, clash.record))
    return dead


def _replace(session: Session, old: Event, new: Accepted, row: Row, facts: "_Facts") -> None:
    """Take back what followed from the old body. Its votes are found, by the event's own mark, when it is derived."""
    which = {"task": old.task, "event_id": old.event_id}
    for model in (EventGeneration, GenerationVersion):
        delete_by(session, model, [which])
    update_by(session, StoredEvent, ["task", "event_id"], [row])
    facts.mark(old)
    facts.marks.add((old.task, "event", old.event_id))
    facts.add(new.event)


@dataclass(slots=True)
class _Facts:
    """Rows that follow from single events, each event seen once."""

    split: Splitter
    names: list[Row] = field(default_factory=list)
    versions: list[Row] = field(default_factory=list)
    prompts: dict[tuple[str, str], Row] = field(default_factory=dict)
    marks: set[tuple[str, str, str]] = field(default_factory=set)

    def add(self, event: Event) -> None:
        which = {"task": event.task, "event_id": event.event_id}
        self.names += [{**which, "generation_id": id_} for id_ in _named(event)]
        held = _held(event)
        if held:
            self.versions.append({**which, **_version(event, held), "prompt_hash": self._prompt(event.task, held)})
        if isinstance(event, PreferenceEvent):
            self._prompt(event.task, event)
        self.mark(event)

    def mark(self, event: Event) -> None:
        held = _held(event)
        self.marks |= {(event.task, "generation", id_) for id_ in _named(event) | ({held.generation_id} if held else set())}
        if isinstance(event, PreferenceEvent):
            self.marks.add((event.task, "event", event.event_id))

    def write(self, session: Session) -> None:
        insert_new(session, AskedPrompt, list(self.prompts.values()))
        insert_new(session, EventGeneration, self.names)
        insert_new(session, GenerationVersion, self.versions)
        insert_all(session, Mark, [{"task": task, "kind": kind, "key": key} for task, kind, key in sorted(self.marks)])

    def _prompt(self, task: str, asked: Generation | PreferenceEvent) -> str:
        prompt, tools = prompt_json(asked.prompt), tools_json(asked.tools)
        hashed = prompt_hash(prompt, tools)
        if (task, hashed) not in self.prompts:
            split = self.split(asked.prompt)
            self.prompts[task, hashed] = {"task": task, "hash": hashed, "prompt": prompt, "tools": tools, "split": split}
        return hashed


def _event_row(accepted: Accepted, tasks: Collection[str]) -> Row:
    event = accepted.event
    return {
        "task": event.task,
        "event_id": event.event_id,
        "type": event.type,
        "user": event.user,
        "occurred_at": event.occurred_at,
        "received_at": received_at(accepted.record),
        "body": accepted.body.decode(),
        "body_hash": accepted.body_hash,
        "outcome": _first_outcome(event, tasks).value,
    }


def _first_outcome(event: Event, tasks: Collection[str]) -> Outcome:
    """Before anything is derived."""
    if isinstance(event, GenerationEvent):
        return Outcome.EVALUATION if event.purpose == "evaluation" else Outcome.RECORDED
    if event.task not in tasks:
        return Outcome.UNKNOWN_TASK
    return Outcome.NOT_PAIRED_YET if isinstance(event, ScoreEvent | RatingEvent) else Outcome.WAITING_FOR_GENERATION


def _named(event: Event) -> set[str]:
    """The generations that a feedback is about."""
    match event:
        case GenerationEvent() | PreferenceEvent() | ErasureEvent():
            return set()
        case ChoiceEvent():
            return {ref.generation_id for ref in event.shown}
        case RegenerationEvent():
            return {event.reply.generation_id, event.replacement}
        case _:
            return {event.reply.generation_id}


def _held(event: Event) -> Generation | None:
    """The generation that an event holds whole."""
    if isinstance(event, GenerationEvent):
        return event
    return event.generation if isinstance(event, Feedback) else None


def _version(event: Event, held: Generation) -> Row:
    content = held.model_dump(mode="json", include={*Generation.model_fields, "purpose"}, exclude_defaults=True)
    return {
        "generation_id": held.generation_id,
        "rank": f"{0 if isinstance(event, GenerationEvent) else 1}{fingerprint(canonical(content))}",
        "evaluation": isinstance(event, GenerationEvent) and event.purpose == "evaluation",
        "user": event.user,
    }
