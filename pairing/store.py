"""Storing: each event once, with the offsets behind it."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import update
from sqlmodel import Session, col, select

from ingest.events import Event, GenerationEvent, event_adapter
from pairing.absorb import absorb
from pairing.decoding import Batch, in_conflict
from pairing.facts import Facts, delete_names
from pairing.held import Accepted, reaches
from pairing.outcomes import Outcome
from pairing.rows import Tend, insert_all, inserting, select_by, update_by
from pairing.scope import Start
from pairing.skeleton import Stripped
from pairing.tables import DeadLetter, Mark, Offset, StoredEvent
from pairing.tombstones import Known

_LETTER = ("id", "reason", "detail", "value", "partition", "offset", "received_at")
_KEPT = ("task", "event_id", "body_hash")
_COLUMNS = ("task", "event_id", "type", "user", "occurred_at", "received_at", "body", "body_hash", "outcome")


class OffsetMoved(Exception):
    """Another worker has stored this part of the log. Nothing of the batch is kept: read again from the stored offset."""


@dataclass(frozen=True, slots=True)
class Read:
    """A stretch of a partition: from the stored offset, None for the very first, to the one to be read next."""

    start: int | None
    next: int


@dataclass(frozen=True, slots=True)
class Fresh:
    """What is new of one task: facts that are not written yet, and where else to start deriving."""

    facts: Facts
    start: Start


def advance(session: Session, log_id: str, reads: Mapping[int, Read]) -> None:
    """Move the stored offsets.

    Raises:
        OffsetMoved: one of them is not where its stretch starts.
        sqlalchemy.exc.IntegrityError: likewise, of a partition of which nothing was stored when it was read.
    """
    for partition, read in sorted(reads.items()):
        if read.start is None:
            insert_all(session, Offset, ("log_id", "partition", "next"), [(log_id, partition, read.next)])
            continue
        here = (col(Offset.log_id) == log_id, col(Offset.partition) == partition, col(Offset.next) == read.start)
        if session.connection().execute(update(Offset).where(*here).values(next=read.next)).rowcount != 1:
            raise OffsetMoved(f"partition {partition} is not at {read.start} any more")


def store(session: Session, batch: Batch, known: Known) -> dict[str, Fresh]:
    """Sort out, by task, what is new of a batch; what is erased or expired is written here, without its content."""
    freed = absorb(session, batch, known)
    return sort_out(session, batch, freed)


def sort_out(session: Session, batch: Batch, freed: Mapping[str, Stripped] | None = None) -> dict[str, Fresh]:
    """What is new of a batch, by task; of two bodies under one id the smaller hash stays. `freed` is to be derived again.

    The events themselves are written by `leave`, or with their outcome when they are derived.
    """
    freed = freed or {}
    kept = {(row[0], row[1]): row[2] for row in select_by(session, StoredEvent, _KEPT, _KEPT[:2], batch.events.keys())}
    facts = batch.without(kept) if kept or batch.facts is None else batch.facts
    batch.dead |= {letter.id: letter for letter in (in_conflict(one.body, one.record) for one in batch.lost)}
    clashes: defaultdict[str, list[Accepted]] = defaultdict(list)
    for key, body_hash in kept.items():
        if batch.events[key].body_hash != body_hash:
            clashes[key[0]].append(batch.events[key])
    fresh: dict[str, Fresh] = {}
    for task in sorted(facts.keys() | clashes.keys() | freed.keys()):
        sorting = _Sorting(session, facts.get(task) or Facts(task), batch.dead, freed.get(task))
        fresh[task] = sorting.settle(clashes[task])
    _keep_dead(session, batch.dead)
    return fresh


def _keep_dead(session: Session, letters: Mapping[str, DeadLetter]) -> None:
    kept = {row[0] for row in select_by(session, DeadLetter, ("id",), ("id",), [(id_,) for id_ in letters])}
    rows = [letter.model_dump(include={*_LETTER}) for id_, letter in letters.items() if id_ not in kept]
    insert_all(session, DeadLetter, _LETTER, [tuple(row[name] for name in _LETTER) for row in rows])


def leave(session: Session, fresh: Fresh, known_task: bool, now: datetime) -> None:
    """Write what is new, and mark it to be derived later, by whoever may: generations of which a version came, and events."""
    task, events = fresh.facts.task, fresh.facts.events
    with fresh.facts.writing_names(session):
        outcomes = {id_: _first_outcome(one.event, known_task) for id_, one in events.items()}
    with fresh.facts.writing_prompts(session):
        whole = fresh.facts.versions.keys() | fresh.start.generations
        single = {id_ for id_, one in events.items() if not one.namings or not whole.issuperset(one.reached)}
        marks = [("generation", id_) for id_ in sorted(whole)]
        marks += [("event", id_) for id_ in sorted(single | fresh.start.events)]
    with writing_events(session, events.values(), outcomes):
        pass
    insert_all(session, Mark, ("task", "kind", "key", "left_at"), [(task, *mark, now) for mark in marks])


def writing_events(
    session: Session, events: Collection[Accepted], outcomes: Mapping[str, Outcome]
) -> AbstractContextManager[Tend]:
    """Insert events with their outcomes; it goes on during the block, as with rows.inserting."""
    return inserting(session, StoredEvent, _COLUMNS, ((*one.row, outcomes[one.event.event_id].value) for one in events))


class _Sorting:
    """Sorts out the events of one task."""

    def __init__(self, session: Session, facts: Facts, dead: dict[str, DeadLetter], freed: Stripped | None) -> None:
        self._session = session
        self._facts = facts
        self._dead = dead
        self._generations: set[str] = set(freed.generations if freed else ())
        self._events: set[str] = set(freed.events if freed else ())

    def settle(self, clashes: Iterable[Accepted]) -> Fresh:
        """What is new, when these other bodies under ids that are taken have won or lost."""
        for clash in clashes:
            self._settle(clash)
        self._facts.look_up_prompts(self._session)
        return Fresh(self._facts, Start(frozenset(self._generations), frozenset(self._events)))

    def _settle(self, clash: Accepted) -> None:
        """Another body under an id that is taken."""
        here = (col(StoredEvent.task) == self._facts.task, col(StoredEvent.event_id) == clash.event.event_id)
        kept = self._session.exec(select(StoredEvent).where(*here).with_for_update()).one()
        if clash.body_hash < kept.body_hash:
            loser = kept.body.encode()
            self._replace(event_adapter.validate_json(loser), clash)
        else:
            loser = clash.body
        letter = in_conflict(loser, clash.record)
        self._dead[letter.id] = letter

    def _replace(self, old: Event, new: Accepted) -> None:
        """Take back what followed from the old body. Its votes are found when it is derived."""
        delete_names(self._session, self._facts.task, [old])
        update_by(self._session, StoredEvent, _COLUMNS[:2], _COLUMNS[2:], [(*new.row, _first_outcome(new.event, True))])
        self._facts.state(new)
        self._generations |= reaches(old)
        self._events.add(old.event_id)


def _first_outcome(event: Event, known_task: bool) -> Outcome:
    """Before anything is derived."""
    if isinstance(event, GenerationEvent):
        return Outcome.EVALUATION if event.purpose == "evaluation" else Outcome.RECORDED
    return Outcome.WAITING_FOR_GENERATION if known_task else Outcome.UNKNOWN_TASK
