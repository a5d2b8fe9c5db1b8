"""The second transaction: derive what is marked, and write the difference of votes, pairs and outcomes."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlmodel import Session, col
from sqlmodel import select as select_rows

from ingest.database import Database
from ingest.settings import Settings, TaskPairingSettings
from pairing import ballots, pairs
from pairing.outcomes import Outcome
from pairing.rows import select_in, table_of, update_by
from pairing.rules import derive
from pairing.rules.net import tally
from pairing.scope import lock_scope
from pairing.tables import Mark, StoredEvent

_MOST_MARKS = 5_000
_BY_WEIGHT = (Outcome.PAIRED, Outcome.DRAW, Outcome.OUTVOTED, Outcome.SUPERSEDED)
"""An event of several votes is known by the one that did most."""


def derive_marked(database: Database, settings: Settings, now: datetime) -> bool:
    """Derive some of what is marked, other workers' leavings included. Whether there may be more.

    Marks that another worker holds are left to it. What is stored after this transaction has read has marks of its own.
    """
    with database.begin() as session:
        waiting = select_rows(Mark).order_by(col(Mark.id)).limit(_MOST_MARKS).with_for_update(skip_locked=True)
        marks = session.exec(waiting).all()
        by_task: defaultdict[str, list[Mark]] = defaultdict(list)
        for mark in marks:
            by_task[mark.task].append(mark)
        for task in sorted(by_task.keys() & settings.tasks.keys()):  # others wait until the settings have them
            _derive(session, task, by_task[task], settings.tasks[task].pairing, now, alone=database.is_sqlite)
        if marks:
            session.connection().execute(delete(Mark).where(col(Mark.id).in_([mark.id for mark in marks])))
    return len(marks) == _MOST_MARKS


def _derive(session: Session, task: str, marks: Sequence[Mark], rules: TaskPairingSettings, now: datetime, alone: bool) -> None:
    scope = lock_scope(session, task, marks, alone)
    derived = derive(scope.feedback, scope.generations, rules)
    touched = ballots.replace(session, task, scope.ids, derived.votes)
    cast = ballots.on(session, task, touched)
    tallies = [tally(list(votes)) for votes in cast.values()]
    ballots.write_standings(session, task, {v: s for votes in cast.values() for v, s in votes.items()}, tallies)
    pairs.write(session, task, touched.values(), tallies, now)
    deciding = scope.ids | {key[0] for counted in tallies for key in counted.standings}
    _write_outcomes(session, task, {**derived.outcomes, **scope.decided, **_standings(session, task, deciding)})


def _standings(session: Session, task: str, deciding: Collection[str]) -> dict[str, Outcome]:
    """The outcome of each event behind the votes that these events decided."""
    best: dict[str, Outcome] = {}
    for vote, standing in ballots.by_events(session, task, deciding):
        for event_id in vote.events:
            best[event_id] = min(best.get(event_id, standing), standing, key=_BY_WEIGHT.index)
    return best


def _write_outcomes(session: Session, task: str, wanted: Mapping[str, Outcome]) -> None:
    events = table_of(StoredEvent)
    current = select(events.c.event_id, events.c.outcome).where(events.c.task == task, events.c.body != "")  # no skeletons
    changed = [
        {"task": task, "event_id": row.event_id, "outcome": wanted[row.event_id].value}
        for row in select_in(session, current, events.c.event_id, wanted)
        if row.outcome != wanted[row.event_id]
    ]
    update_by(session, StoredEvent, ["task", "event_id"], changed)
