"""The spool: generations wait in an SQLite file on this machine's disk until the event log has them.

One file per gateway process, held by a lock on a file beside it. Whatever kills the process, the records stay, and any gateway
that finds the lock free ships them.
"""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Self

from ingest.log import NewRecord

logger = logging.getLogger(__name__)

_BATCH_RECORDS = 500
_BATCH_BYTES = 4_000_000
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS records "
    "(seq INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, value BLOB NOT NULL, received_at BLOB NOT NULL)"
)
_SIDE_FILES = ("", "-wal", "-shm", ".lock")


class SpoolError(Exception):
    """The generation is not on disk: the spool is full, closed, or cannot be written."""


class SpoolFile:
    """One spool file and the lock on it. Every thread opens connections of its own."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, directory: Path, name: str) -> Self:
        """A new, empty spool, held by this process until it ends."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"{name}.db"
        lock = _try_lock(path)
        if lock is None:
            raise SpoolError(f"The spool {path.name} is held by another process.")
        file = cls(path, lock)
        file.connect(durable=True).close()
        return file

    @classmethod
    def abandoned(cls, directory: Path) -> Iterator[Self]:
        """The spools that no living process holds; each is held by this one from here on."""
        for path in sorted(directory.glob("*.db")):
            lock = _try_lock(path)
            if lock is None:
                continue
            if path.exists():  # else another gateway shipped and removed it before we had the lock
                yield cls(path, lock)
            else:
                _lock_file(path).unlink(missing_ok=True)
                os.close(lock)

    def connect(self, durable: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(_SCHEMA)
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA secure_delete=ON")
        return connection

    def remove(self) -> None:
        """Delete the file. The lock stays held until it is released."""
        for suffix in _SIDE_FILES:
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def release(self) -> None:
        """Let another process hold the file."""
        os.close(self._lock)


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _try_lock(path: Path) -> int | None:
    lock = os.open(_lock_file(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def append(connection: sqlite3.Connection, records: Sequence[NewRecord]) -> None:
    """Store the records in one transaction; on disk on return when the connection is durable."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(
            "INSERT INTO records (key, value, received_at) VALUES (?, ?, ?)",
            [(record.key, record.value, dict(record.headers)["received-at"]) for record in records],
        )
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def oldest(connection: sqlite3.Connection) -> tuple[int, list[NewRecord]]:
    """The oldest records, as many as fit a batch, and the number of the last of them; 0 and none when all are shipped."""
    last, size = 0, 0
    batch: list[NewRecord] = []
    query = "SELECT seq, key, value, received_at FROM records ORDER BY seq LIMIT ?"
    for seq, key, value, received_at in connection.execute(query, (_BATCH_RECORDS,)):
        if batch and size + len(value) > _BATCH_BYTES:
            break
        last, size = seq, size + len(value)
        batch.append(NewRecord(key, value, (("received-at", received_at),)))
    return last, batch


def forget(connection: sqlite3.Connection, upto: int) -> None:
    """Delete the records that the log has. Need not be durable: shipped twice is harmless."""
    connection.execute("DELETE FROM records WHERE seq <= ?", (upto,))


def truncate(connection: sqlite3.Connection) -> bool:
    """See that what was forgotten is in no file of the spool; False when somebody writes just now: try again."""
    connection.execute("PRAGMA busy_timeout = 100")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold records."""
    query = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    return int(connection.execute(query).fetchone()[0])


class Spool:
    """Puts records on disk from any thread: one writer thread, one commit for all that wait."""

    def __init__(self, file: SpoolFile, max_bytes: int) -> None:
        self.file = file
        self.used_bytes = 0
        self.arrived = Event()  # set when there is something to ship
        self._max_bytes = max_bytes
        self._waiting: SimpleQueue[tuple[NewRecord, Future[None]] | None] = SimpleQueue()
        self._closed = False
        self._writer = Thread(target=self._write, name="spool-writer", daemon=True)
        self._writer.start()

    @property
    def has_room(self) -> bool:
        return self.used_bytes < self._max_bytes

    def put(self, record: NewRecord) -> "Future[None]":
        """Done when the record is on disk; raises SpoolError when it will not be. Never blocks."""
        done: Future[None] = Future()
        if self._closed or not self.has_room:
            done.set_exception(SpoolError("The spool is closed." if self._closed else "The spool is full."))
        else:
            self._waiting.put((record, done))
        return done

    def close(self) -> None:
        """Write what waits, then stop writing."""
        self._closed = True
        self._waiting.put(None)
        self._writer.join()

    def _write(self) -> None:
        with closing(self.file.connect(durable=True)) as connection:
            going_on = True
            while going_on:
                batch, going_on = self._next()
                if batch:
                    self._store(connection, batch)

    def _next(self) -> tuple[list[tuple[NewRecord, "Future[None]"]], bool]:
        batch: list[tuple[NewRecord, Future[None]]] = []
        try:
            item = self._waiting.get()
            while item:
                batch.append(item)
                item = self._waiting.get_nowait()
        except Empty:
            return batch, True
        return batch, False

    def _store(self, connection: sqlite3.Connection, batch: list[tuple[NewRecord, "Future[None]"]]) -> None:
        try:
            append(connection, [record for record, _ in batch])
            self.used_bytes = used_bytes(connection)
        except sqlite3.Error as error:
            logger.error("cannot write the spool: %s", error)
            for _, done in batch:
                done.set_exception(SpoolError(f"The spool cannot be written: {error}"))
        else:
            self.arrived.set()
            for _, done in batch:
                done.set_result(None)
