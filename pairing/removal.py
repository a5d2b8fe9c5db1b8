"""Carries removals through, whatever dies when: database, event log, write-ahead logs, and then the proof.

Every step is a transaction that leaves behind what comes next, or something that may be done again without harm.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, update
from sqlmodel import Session, col, select

from ingest.database import Database
from ingest.erasure import tombstone
from ingest.log import EventLog, LogUnavailable
from ingest.settings import Settings, TaskSettings
from pairing.clean_log import clean
from pairing.derive import Deriver, may_derive
from pairing.facts import Facts
from pairing.forget import MOST_EVENTS, remove_content, remove_prompts
from pairing.retention import expiring
from pairing.rows import look_up_by_key
from pairing.scope import Start
from pairing.skeleton import Stripped
from pairing.store import Fresh
from pairing.tables import Erasure, LateRecord, Offset, Removal, Retention
from pairing.tombstones import keep_stores_out

logger = logging.getLogger(__name__)

_PAUSE_S = 5
"""After the event log could not be cleaned."""
_MOST_REMOVALS = 50
_MOST_RECORDS = 5_000


@dataclass(slots=True)
class Remover:
    """Of one worker. Where several run, each step is taken by one of them, or twice without harm."""

    settings: Settings
    database: Database
    log: EventLog
    clock: Callable[[], datetime]
    most_events: int = MOST_EVENTS
    _rests_until: float = field(default=0.0, init=False)

    def step(self) -> bool:
        """Take what comes next; whether something was done, so that more may follow at once."""
        with self.database.read() as session:
            removals = session.exec(select(Removal).order_by(col(Removal.id)).limit(_MOST_REMOVALS)).all()
        if any(self._in_database(one) for one in removals if one.state != "log"):
            return True
        return self._in_log([one for one in removals if one.state == "log"]) or self._prove()

    def _in_database(self, seen: Removal) -> bool:
        with self.database.begin() as session:
            keep_stores_out(session)
            if not may_derive(session, seen.task, self._of(seen.task), alone=self.database.is_sqlite):
                return False
            removal = session.get(Removal, seen.id)
            if removal is None or removal.state != seen.state:
                return True  # another worker was quicker
            if removal.state == "prompts":
                stripped = remove_prompts(session, removal, tombstone(self.settings.erasure))
            else:
                stripped = remove_content(session, removal, self.most_events)
            if stripped:
                self._derive(session, removal.task, stripped)
            return stripped is not None

    def _derive(self, session: Session, task: str, stripped: Stripped) -> None:
        look_up_by_key(session)
        start = Start(frozenset(stripped.generations), frozenset(stripped.events))
        Deriver(session, task, self._of(task), self.clock()).derive(Fresh(Facts(task), start))

    def _of(self, task: str) -> TaskSettings:
        """A task that the settings do not have any more may have pairs all the same."""
        return self.settings.tasks.get(task, TaskSettings())

    def _in_log(self, removals: Sequence[Removal]) -> bool:
        if time.monotonic() < self._rests_until:
            return False
        with self.database.read() as session:
            late = session.exec(select(LateRecord).where(LateRecord.log_id == self.log.log_id).limit(_MOST_RECORDS)).all()
            stored = session.exec(select(Offset).where(Offset.log_id == self.log.log_id)).all()
            before = expiring(session, self.settings.tasks) if any(one.before for one in removals) else None
        if not removals and not late:
            return False
        try:
            clean(self.log, removals, late, {one.partition: one.next for one in stored}, before)
        except LogUnavailable as error:
            self._rests_until = time.monotonic() + _PAUSE_S
            logger.warning("the event log is cleaned in %d s: %s", _PAUSE_S, error)
            return False
        with self.database.begin() as session:
            _delete_done(session, removals, late)
        return True

    def _prove(self) -> bool:
        """Write down what is done, once its bytes are in no file of the database either."""
        with self.database.read() as session:
            erasures = session.exec(select(Erasure).where(col(Erasure.erased_at).is_(None), ~_user_under_way())).all()
            retentions = session.exec(select(Retention).where(col(Retention.done_at).is_(None), ~_age_under_way())).all()
        if not (erasures or retentions) or not self.database.truncate_wal():
            return False
        with self.database.begin() as session:
            _write_proofs(session, erasures, retentions, self.clock())
        logger.info("%d users were erased, and %d tasks lost what had expired", len(erasures), len(retentions))
        return True


def _user_under_way() -> ColumnElement[bool]:
    return exists().where(col(Removal.task) == Erasure.task, col(Removal.user_hash) == Erasure.user_hash)


def _age_under_way() -> ColumnElement[bool]:
    return exists().where(col(Removal.task) == Retention.task, col(Removal.before).is_not(None))


def _delete_done(session: Session, removals: Sequence[Removal], late: Sequence[LateRecord]) -> None:
    session.connection().execute(delete(Removal).where(col(Removal.id).in_([one.id for one in removals])))
    for record in late:
        here = (col(LateRecord.partition) == record.partition, col(LateRecord.offset) == record.offset)
        session.connection().execute(delete(LateRecord).where(col(LateRecord.log_id) == record.log_id, *here))


def _write_proofs(session: Session, erasures: Sequence[Erasure], retentions: Sequence[Retention], now: datetime) -> None:
    for erasure in erasures:
        of_user = (col(Erasure.task) == erasure.task, col(Erasure.user_hash) == erasure.user_hash)
        session.connection().execute(update(Erasure).where(*of_user, col(Erasure.erased_at).is_(None)).values(erased_at=now))
    for retention in retentions:
        of_time = (col(Retention.task) == retention.task, col(Retention.before) == retention.before)
        session.connection().execute(update(Retention).where(*of_time, col(Retention.done_at).is_(None)).values(done_at=now))
