"""The worker: reads the event log, stores, derives, and goes on where it was whatever dies when."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event as Flag

from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session, select

from ingest.database import Database
from ingest.log import EventLog, LogUnavailable, open_log
from ingest.settings import Settings
from pairing.decoding import Batch, decode
from pairing.derive import Deriver, try_lock
from pairing.holdout import splitter
from pairing.rows import look_up_by_key
from pairing.start import prepare
from pairing.store import OffsetMoved, Read, advance, leave, store
from pairing.tables import Mark, Offset

logger = logging.getLogger(__name__)

_PAUSES_S = (0.2, 0.5, 1, 2, 5, 10)
_AWAY = (LogUnavailable, OperationalError, InterfaceError, PoolTimeout)
"""Errors that end by themselves: the log or the database cannot be reached or cannot write now."""


def work(settings: Settings, member: str, stop: Flag) -> None:
    """Read as `member` until `stop` is set. While the log or the database is away, wait for it, and say so.

    Raises:
        LogMoved: the log is not the one that the database was filled from, or does not hold what is to be read next.
        MemberReplaced: another process reads under the same name.
        HoldoutChanged: the holdout key or share is another than before.
        WrongSetting: there is no holdout key.
    """
    with ExitStack() as stack:
        database = Database(settings.database_url, settings.database.pool_size)
        stack.callback(database.close)
        worker: Worker | None = None
        failures = 0
        while not stop.is_set():
            try:
                worker = worker or _open(settings, database, member, stack)
                worker.turn()
                failures = 0
            except _AWAY as error:
                pause_s = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
                failures += 1
                logger.warning("waits %.1f s and tries again: %s", pause_s, _told(error))
                stop.wait(pause_s)


def _open(settings: Settings, database: Database, member: str, stack: ExitStack) -> "Worker":
    with ExitStack() as opened:
        log = open_log(settings)
        opened.callback(log.close)
        worker = Worker(settings, database, log, member)
        opened.callback(worker.close)
        stack.push(opened.pop_all())
    logger.info("reads as %s", member)
    return worker


@dataclass(frozen=True, slots=True)
class Taken:
    """What one poll brought: the stretch of each partition, and its records sorted out."""

    reads: Mapping[int, Read]
    batch: Batch


class Worker:
    """One reader of the event log. Not thread-safe."""

    def __init__(self, settings: Settings, database: Database, log: EventLog, member: str) -> None:
        """Raises as `work` does, and LogUnavailable or SQLAlchemy's errors where something is away."""
        self._settings = settings
        self._database = database
        self._log_id = log.log_id
        self._split = splitter(settings.holdout)
        self._next: dict[int, int | None] = {}  # by partition, the offset after what was polled
        self._ahead: Taken | None = None
        self._storing = ThreadPoolExecutor(1, "storing")
        with database.begin() as session:
            prepare(session, settings, log.log_id)
        self._subscription = log.subscribe(member, self._stored_offset)

    def turn(self) -> None:
        """Store what came within the poll, and derive what follows; without any, derive what others left."""
        taken, self._ahead = self._ahead or self._read(), None
        if taken is None:
            while self._derive_marked():
                pass
            return
        try:
            self._store_and_read_ahead(taken)
        except (OffsetMoved, IntegrityError) as error:  # or: another worker has just stored one of the events
            logger.info("reads again: %s", type(error).__name__)
            self._rewind(taken)
        except _AWAY:
            self._rewind(taken)
            raise
        if taken.batch.dead:
            logger.warning("%d records became dead letters: `whetstone dead-letters list` shows them", len(taken.batch.dead))

    def close(self) -> None:
        self._storing.shutdown()
        self._subscription.close()

    def _read(self) -> Taken | None:
        polled = self._subscription.poll(self._settings.pairing.poll_s, self._settings.pairing.batch_events)
        if not polled:
            return None
        reads = {number: Read(self._next[number], records[-1].offset + 1) for number, records in polled.items()}
        self._next |= {number: read.next for number, read in reads.items()}
        return Taken(reads, decode(record for records in polled.values() for record in records))

    def _store_and_read_ahead(self, taken: Taken) -> None:
        """A database server works while the next batch is read; SQLite works in this process, and is not waited for."""
        if self._database.is_sqlite:
            self._store(taken)
            return
        storing = self._storing.submit(self._store, taken)
        try:
            self._ahead = self._read()
        finally:
            storing.result()

    def _store(self, taken: Taken) -> None:
        with self._database.begin() as session:
            advance(session, self._log_id, taken.reads)
            self._take_in(session, taken.batch)

    def _take_in(self, session: Session, batch: Batch) -> None:
        """Events of a task for which another worker derives now are left to be derived afterwards."""
        look_up_by_key(session)
        for task, fresh in store(session, batch, self._split).items():
            if task in self._settings.tasks and try_lock(session, task, alone=self._database.is_sqlite):
                self._deriver(session, task).derive(fresh)
            else:
                leave(session, fresh, task in self._settings.tasks)

    def _derive_marked(self) -> bool:
        """Whether something was derived: there may be more."""
        derived = False
        for task in sorted(self._settings.tasks):  # marks of others wait until the settings have them
            with self._database.read() as session:
                if session.exec(select(Mark.id).where(Mark.task == task).limit(1)).first() is None:
                    continue
            with self._database.begin() as session:
                look_up_by_key(session)
                if try_lock(session, task, alone=self._database.is_sqlite):
                    derived |= bool(self._deriver(session, task).derive_marked())
        return derived

    def _deriver(self, session: Session, task: str) -> Deriver:
        return Deriver(session, task, self._settings.tasks[task], datetime.now(UTC))

    def _rewind(self, taken: Taken) -> None:
        """Nothing of it is stored, nor of what was read after it: read from where the database says."""
        ahead = self._ahead.reads.keys() if self._ahead else set()
        self._ahead = None
        for partition in taken.reads.keys() | ahead:
            self._subscription.rewind(partition)

    def _stored_offset(self, partition: int) -> int | None:
        with self._database.read() as session:
            row = session.get(Offset, (self._log_id, partition))
        self._next[partition] = row.next if row else None
        return self._next[partition]


def _told(error: Exception) -> str:
    """Without the statement and its values, which may hold what a user wrote."""
    return str(error.orig) if isinstance(error, OperationalError | InterfaceError) else str(error)
