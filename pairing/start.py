"""What a worker makes sure of before it reads: the same log, the same split, and pairs by the present rules."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import delete, literal, select
from sqlmodel import Session, col
from sqlmodel import select as select_rows

from ingest.database import UtcDateTime
from ingest.log import LogMoved
from ingest.settings import Settings, TaskSettings
from pairing.derive import lock
from pairing.held import RECORD
from pairing.holdout import keep_holdout
from pairing.rows import insert_new, update_by
from pairing.rules.in_force import rules_of
from pairing.statements import table_of
from pairing.tables import EventGeneration, Mark, Offset, RulesInForce, StoredEvent
from pairing.tombstones import keep_erasure_key


def prepare(session: Session, settings: Settings, log_id: str) -> None:
    """See that the database belongs to this log and this split; mark what other rules derived.

    Raises:
        LogMoved: the database was read from another log.
        HoldoutChanged: the holdout key or share is another than before.
        ErasureKeyChanged: the erasure key is another than before.
        WrongSetting: there is no holdout key, or no erasure key.
    """
    keep_log(session, log_id)
    keep_holdout(session, settings.holdout)
    keep_erasure_key(session, settings.erasure)
    _mark_changed_rules(session, settings.tasks)


def keep_log(session: Session, log_id: str) -> None:
    """See that no other log was read into this database.

    Raises:
        LogMoved: one was.
    """
    other = session.exec(select_rows(Offset.log_id).where(Offset.log_id != log_id)).first()
    if other is not None:
        raise LogMoved(
            f"the database was filled from event log {other}, and the settings name {log_id}: point them back to the old "
            "log, or start with an empty database"
        )


def _mark_changed_rules(session: Session, tasks: Mapping[str, TaskSettings]) -> None:
    """Other settings derive everything again, and so does a task that the settings did not have.

    Under the task's deriving lock: what somebody derives by the old ones right now is stored first, and marked with the rest.
    """
    session.connection().execute(delete(RulesInForce).where(col(RulesInForce.task).not_in(tasks)))
    ours = {task: rules_of(settings).digest for task, settings in tasks.items()}
    kept = {rules.task: rules.digest for rules in session.exec(select_rows(RulesInForce)).all()}
    changed = [(task, digest) for task, digest in sorted(ours.items()) if kept.get(task) != digest]
    for task, _ in changed:
        lock(session, task, alone=session.get_bind().dialect.name == "sqlite")
    insert_new(session, RulesInForce, [{"task": task, "digest": digest} for task, digest in changed])
    update_by(session, RulesInForce, ("task",), ("digest",), changed)
    for task, _ in changed:
        mark_all(session, task, datetime.now(UTC))


def mark_all(session: Session, task: str, now: datetime) -> None:
    """Mark everything of a task to be derived again."""
    names, events, marks = table_of(EventGeneration), table_of(StoredEvent), table_of(Mark)
    at = literal(now, UtcDateTime)
    named = select(literal(task), literal("generation"), names.c.generation_id, at).distinct()
    named = named.where(names.c.task == task, names.c.place != RECORD)
    ready = select(literal(task), literal("event"), events.c.event_id, at)
    ready = ready.where(events.c.task == task, events.c.type == "preference")
    for marked in (named, ready):
        session.connection().execute(marks.insert().from_select(["task", "kind", "key", "left_at"], marked))
