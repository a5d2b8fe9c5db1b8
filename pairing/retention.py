"""Retention by age: an event as others are, "before this time", made by the clock once an hour."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlmodel import Session, col

from ingest.settings import Settings
from pairing.rows import insert_new
from pairing.tables import Removal, Retention
from pairing.tombstones import cutoffs, start

EVERY_S = 3600


def let_expire(session: Session, settings: Settings, now: datetime) -> None:
    """Say of each task that keeps its events for a time what has grown too old, and have it removed."""
    said = cutoffs(session)
    for task, of_task in settings.tasks.items():
        if of_task.retention.days is None:
            continue
        before = due_before(now, of_task.retention.days)
        if task not in said or said[task] < before:
            earlier = (col(Retention.task) == task, col(Retention.done_at).is_not(None))
            session.connection().execute(delete(Retention).where(*earlier))
            insert_new(session, Retention, [{"task": task, "before": before}])
            start(session, [Removal(task=task, before=before)])


def due_before(now: datetime, days: float) -> datetime:
    """The full hour before which events are older than these days."""
    return (now - timedelta(days=days)).replace(minute=0, second=0, microsecond=0)


def expiring(session: Session, tasks: Collection[str]) -> datetime | None:
    """Before when the event log holds nothing that any of the tasks keeps. A task without retention keeps it whole."""
    before = {task: at for task, at in cutoffs(session).items() if task in tasks}
    return min(before.values()) if before and before.keys() == set(tasks) else None
