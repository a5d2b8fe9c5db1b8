"""The worker: reads the event log, stores, derives, and goes on where it was whatever dies when."""

import gc
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from threading import Event as Flag

from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlmodel import Session, select

from ingest.database import Database
from ingest.erasure import tombstone
from ingest.keys import KeyRing
from ingest.log import EventLog, Forgets, LogUnavailable, open_log
from ingest.settings import Settings
from pairing import observe
from pairing.derive import Deriver, may_derive
from pairing.holdout import splitter
from pairing.reader import AWAY, Reader, Taken
from pairing.removal import Remover
from pairing.retention import EVERY_S, let_expire
from pairing.rows import look_up_by_key
from pairing.serve import served
from pairing.start import prepare
from pairing.store import OffsetMoved, advance, leave, store
from pairing.tables import Mark
from pairing.tombstones import Known, loss

logger = logging.getLogger(__name__)

_MEASURE_EVERY_S = 5.0
_COLLECT_EVERY_S = 60.0
"""Looking for garbage takes some 0.1 s."""
_PAUSES_S = (0.2, 0.5, 1, 2, 5, 10)
_REMOVALS_A_TURN = 8
"""Steps of removals, so that a long one does not keep new events waiting."""


def work(settings: Settings, member: str, stop: Flag) -> None:
    """Read as `member` until `stop` is set. While the log or the database is away, wait for it, and say so.

    Raises:
        LogMoved: the log is not the one that the database was filled from, or does not hold what is to be read next.
        MemberReplaced: another process reads under the same name.
        HoldoutChanged: the holdout key or share is another than before.
        ErasureKeyChanged: the erasure key is another than before.
        WrongSetting: there is no holdout key, or no erasure key.
    """
    with ExitStack() as stack:
        database = Database(settings.database_url, settings.database.pool_size)
        stack.callback(database.close)
        stack.enter_context(served(settings.pairing, KeyRing(database)))
        leave_garbage_for_later()
        worker: Worker | None = None
        failures = 0
        while not stop.is_set():
            try:
                worker = worker or _open(settings, database, member, stack)
                worker.turn()
                failures = 0
            except AWAY as error:
                if worker and not isinstance(error, LogUnavailable):
                    worker.measure_what_waits()
                pause_s = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
                failures += 1
                logger.warning("waits %.1f s and tries again: %s", pause_s, _told(error))
                stop.wait(pause_s)


def leave_garbage_for_later() -> None:
    """A batch makes some hundred thousand objects without cycles: looking through them again and again is half its time.

    The worker collects what cycles there are now and then.
    """
    gc.freeze()
    gc.disable()


def _open(settings: Settings, database: Database, member: str, stack: ExitStack) -> "Worker":
    with ExitStack() as opened:
        log = open_log(settings)
        opened.callback(log.close)
        worker = Worker(settings, database, log, member, time.monotonic)
        opened.callback(worker.close)
        stack.push(opened.pop_all())
    logger.info("reads as %s", member)
    return worker


class Worker:
    """One reader of the event log. Not thread-safe."""

    def __init__(
        self, settings: Settings, database: Database, log: EventLog, member: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises as `work` does, and LogUnavailable or SQLAlchemy's errors where something is away."""
        self._settings = settings
        self._database = database
        self._log = log
        self._log_id = log.log_id
        self._monotonic = monotonic
        self._look_at = self._measure_at = self._collect_at = monotonic()
        split = splitter(settings.holdout)
        self._known = Known(tombstone(settings.erasure), log.log_id, loss(settings, isinstance(log, Forgets)))
        self._remover = Remover(settings, database, log, lambda: datetime.now(UTC))
        self._expire_at = monotonic()
        self._unstored: Taken | None = None
        with database.begin() as session:
            prepare(session, settings, log.log_id)
        self._reader = Reader(database, log, member, split, settings.pairing)

    def turn(self) -> None:
        """Store what came within the poll, and derive what follows; now and then what was left to be derived, or removed."""
        taken = self._reader.take()
        if taken:
            self._take(taken)
        if taken is None or self._monotonic() >= self._look_at:
            self._do_what_is_left()
            self._look_at = self._monotonic() + self._settings.pairing.poll_s
        if self._monotonic() >= self._measure_at:
            self._measure(taken)
            self._measure_at = self._monotonic() + _MEASURE_EVERY_S
        if self._monotonic() >= self._collect_at:
            gc.collect()
            self._collect_at = self._monotonic() + _COLLECT_EVERY_S

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions of the log that this worker reads now."""
        return self._reader.assigned

    def close(self) -> None:
        self._reader.close()

    def _do_what_is_left(self) -> None:
        while self._derive_marked():
            pass
        if self._monotonic() >= self._expire_at:
            with self._database.begin() as session:
                let_expire(session, self._settings, datetime.now(UTC))
            self._expire_at = self._monotonic() + EVERY_S
        for _ in range(_REMOVALS_A_TURN):
            if not self._remover.step():
                break

    def _take(self, taken: Taken) -> None:
        try:
            self._store(taken)
        except (OffsetMoved, IntegrityError) as error:  # or: another worker has just stored one of the events
            logger.info("reads again: %s", type(error).__name__)
            self._reader.rewind(taken)
        except AWAY:
            self._reader.rewind(taken)
            self._unstored = self._unstored or taken
            raise
        else:
            self._unstored = None
            observe.note_batch(taken.batch, self._settings.tasks, time.time())
            if taken.batch.dead:
                logger.warning("%d records became dead letters: `whetstone dead-letters list` shows them", len(taken.batch.dead))

    def _measure(self, taken: Taken | None) -> None:
        """What waits, for the metrics. A log that does not answer says so when it is read."""
        with suppress(LogUnavailable):
            lag = observe.note_lag(self._log.end_offsets(), self._reader.next)
            with self._database.read() as session:
                observe.note_oldest(session, taken.newest_s if taken and lag else None, time.time())

    def measure_what_waits(self) -> None:
        """As far as that can be told while the database is away."""
        if self._unstored:
            starts = {partition: read.start for partition, read in self._unstored.reads.items()}
            with suppress(LogUnavailable):
                observe.note_lag(self._log.end_offsets(), {**self._reader.next, **starts})
            observe.note_unstored(self._unstored.batch, time.time())

    def _store(self, taken: Taken) -> None:
        with self._database.begin(meanwhile=self._reader.step) as session:
            advance(session, self._log_id, taken.reads)
            self._take_in(session, taken)

    def _take_in(self, session: Session, taken: Taken) -> None:
        """Events of a task for which another worker derives now, or by other settings, are left to be derived afterwards."""
        look_up_by_key(session)
        for task, fresh in store(session, taken.batch, self._known).items():
            if task in self._settings.tasks and self._may_derive(session, task):
                done = self._deriver(session, task).derive(fresh)
                observe.note_outcomes(task, done.outcomes)
                taken.remains.extend(done.remains)
            else:
                leave(session, fresh, task in self._settings.tasks, datetime.now(UTC))

    def _derive_marked(self) -> bool:
        """Whether something was derived: there may be more."""
        derived = False
        for task in sorted(self._settings.tasks):  # marks of others wait until the settings have them
            with self._database.read() as session:
                if session.exec(select(Mark.id).where(Mark.task == task).limit(1)).first() is None:
                    continue
            with self._database.begin() as session:
                look_up_by_key(session)
                if self._may_derive(session, task):
                    outcomes, more = self._deriver(session, task).derive_marked()
                    observe.note_outcomes(task, outcomes)
                    derived |= more
        return derived

    def _may_derive(self, session: Session, task: str) -> bool:
        return may_derive(session, task, self._settings.tasks[task], alone=self._database.is_sqlite)

    def _deriver(self, session: Session, task: str) -> Deriver:
        return Deriver(session, task, self._settings.tasks[task], datetime.now(UTC))


def _told(error: Exception) -> str:
    """Without the statement and its values, which may hold what a user wrote."""
    return str(error.orig) if isinstance(error, OperationalError | InterfaceError) else str(error)
