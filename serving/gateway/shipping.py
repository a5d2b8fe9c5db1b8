"""Moves spooled generations into the event log: those of this process, and those that dead gateways left behind."""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from threading import Event, Thread
from time import monotonic

from ingest.log import EventLog, LogError, NewRecord, RecordTooLarge
from ingest.sealing import Seal
from serving.gateway import spool as spools
from serving.gateway.metrics import SHIPPED, SPOOL_BYTES, UNRECORDED
from serving.gateway.spool import Spool, SpoolFile

logger = logging.getLogger(__name__)

_PAUSES_S = (0.1, 0.5, 2, 5)
_ADOPT_EVERY_S = 5
_TRUNCATE_EVERY_S = 5
"""What was shipped stays in the write-ahead log for no longer."""
_LAST_TRY_S = 2


class Shipper:
    """A thread that ships, in order, whatever the event log does; it opens the log itself, and waits for one that is away.

    It seals what Kafka may not have in clear, and not whoever spools: the keys of users are in the database, and while that is
    away only shipping waits, never a reply. What was shipped is in no file of the spool soon after.
    """

    def __init__(self, spool: Spool, open_log: Callable[[], EventLog], seal: Seal | None = None) -> None:
        self._spool = spool
        self._open_log = open_log
        self._seal = seal or as_they_are
        self._log: EventLog | None = None
        self._stopping = Event()
        self._failures = 0
        self._adopt_at = 0.0
        self._truncate_at = 0.0
        self._has_leavings = False
        self._thread = Thread(target=self._run, name="spool-shipper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ship what is left if the log takes it at once; else it stays on disk for the next gateway."""
        self._spool.close()
        self._stopping.set()
        self._spool.arrived.set()
        self._thread.join(_LAST_TRY_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._try_to_ship()
            self._wait()
        self._try_to_ship()
        self._let_go()

    def _let_go(self) -> None:
        with closing(self._spool.file.connect(durable=False)) as connection:
            empty = not spools.oldest(connection)[1]
        if empty:
            self._spool.file.remove()
        self._spool.file.release()
        if self._log:
            self._log.close()

    def _wait(self) -> None:
        if self._failures:
            self._stopping.wait(_PAUSES_S[min(self._failures, len(_PAUSES_S)) - 1])
        else:
            self._spool.arrived.wait(_ADOPT_EVERY_S)

    def _try_to_ship(self) -> None:
        self._spool.arrived.clear()
        try:
            self._log = self._log or self._open_log()
            self._ship_own(self._log)
            self._ship_abandoned(self._log)
        except (LogError, sqlite3.Error) as error:
            self._failures += 1
            if self._failures == 1:
                logger.warning("generations wait in the spool: %s", error)
        else:
            if self._failures:
                logger.info("generations are shipped again")
            self._failures = 0

    def _ship_own(self, log: EventLog) -> None:
        with closing(self._spool.file.connect(durable=False)) as connection:
            self._has_leavings |= ship(connection, log, self._seal) > 0
            if self._has_leavings and monotonic() >= self._truncate_at:
                self._has_leavings, self._truncate_at = not spools.truncate(connection), monotonic() + _TRUNCATE_EVERY_S
            self._spool.used_bytes = spools.used_bytes(connection)
        SPOOL_BYTES.set(self._spool.used_bytes)

    def _ship_abandoned(self, log: EventLog) -> None:
        if monotonic() < self._adopt_at:
            return
        self._adopt_at = monotonic() + _ADOPT_EVERY_S
        for file in SpoolFile.abandoned(self._spool.file.path.parent):
            try:
                adopt(file, log, self._seal)
            except sqlite3.Error as error:
                logger.error("cannot read the spool %s of a dead gateway: %s", file.path.stem, error)
            finally:
                file.release()


def as_they_are(records: Sequence[NewRecord]) -> Sequence[NewRecord]:
    """Seals nothing."""
    return records


def ship(connection: sqlite3.Connection, log: EventLog, seal: Seal) -> int:
    """Append everything spooled to the log, oldest first; forget each batch once it is durable there.

    Raises:
        LogError: the log did not take a batch, or it could not be sealed; it and what follows stay spooled.
    """
    shipped = 0
    while True:
        last, batch = spools.oldest(connection)
        if not batch:
            return shipped
        _append(log, seal(batch))
        spools.forget(connection, last)
        SHIPPED.inc(len(batch))
        shipped += len(batch)


def _append(log: EventLog, batch: Sequence[NewRecord]) -> None:
    """One record that no log takes must hold nothing else up."""
    try:
        log.append(batch).result()
    except RecordTooLarge as error:
        if len(batch) == 1:
            UNRECORDED.inc()
            logger.error("the generation %s is lost: %s", batch[0].key.decode(), error)
            return
        for record in batch:
            _append(log, [record])


def adopt(file: SpoolFile, log: EventLog, seal: Seal) -> None:
    """Ship the spool of a dead gateway, then delete it. Raises as `ship` does."""
    with closing(file.connect(durable=False)) as connection:
        count = ship(connection, log, seal)
    logger.info("shipped %d generations that the dead gateway %s had spooled", count, file.path.stem)
    file.remove()
