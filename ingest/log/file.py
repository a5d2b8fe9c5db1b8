"""The SQLite file of the embedded log: its tables, and connections to it."""

import contextlib
import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ingest.log import LogUnavailable

_BUSY_TIMEOUT_S = 10.0
_SCHEMA_VERSION = 1
_SCHEMA = (
    "CREATE TABLE log (id TEXT NOT NULL)",
    # `next` outlives the records: an offset is never given twice, also after everything has expired
    "CREATE TABLE partitions (partition INTEGER PRIMARY KEY, first INTEGER NOT NULL, next INTEGER NOT NULL)",
    "CREATE TABLE records (partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL,"
    " key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL, PRIMARY KEY (partition, offset))",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
Ranges = dict[int, tuple[int, int]]
"""By partition, the first offset held and the offset of the next record."""


class FileReplaced(Exception):
    """The log's file was removed, or another one stands in its place."""


class LogFile:
    """An SQLite file that holds one log. Any number of processes may open it."""

    def __init__(self, path: Path, partitions: int) -> None:
        """Make the file when it is missing; the partitions of an existing one win.

        Raises:
            LogUnavailable: the file cannot be opened, or is no event log of this version.
        """
        self.path = path.absolute()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.beside("lock")):
                _make_private(self.path)
                self._identity = self._identity_now()
                with closing(self.connect()) as connection:
                    self.log_id = _set_up(connection, partitions)
                    self.partitions = len(ranges(connection))
        except (sqlite3.Error, OSError, FileReplaced) as error:
            raise LogUnavailable(
                f"the event log {self.path} cannot be opened: {error}. Check its rights and its disk."
            ) from error

    def beside(self, suffix: str) -> Path:
        """A file that goes with the log's."""
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def connect(self) -> sqlite3.Connection:
        """A connection that makes each commit durable; never makes the file anew.

        Raises:
            FileReplaced: this is not the file that was opened first.
        """
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,  # transactions begin where the code says
            check_same_thread=False,
        )
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                connection.execute(f"PRAGMA {pragma}")
            self.check_in_place()
        except (sqlite3.Error, FileReplaced):
            connection.close()
            raise
        return connection

    def check_in_place(self) -> None:
        """Raise FileReplaced when what was opened is no longer what the path names: writes to it would be lost."""
        if self._identity_now() != self._identity:
            raise FileReplaced(f"{self.path} was replaced by another file")

    def _identity_now(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise FileReplaced(f"{self.path} was removed") from None
        return status.st_dev, status.st_ino


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, mode: str) -> Iterator[None]:
    """BEGIN in this mode; commit at the end of the block, roll back when it raises."""
    connection.execute(f"BEGIN {mode}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back by itself
            connection.execute("ROLLBACK")
        raise


def ranges(connection: sqlite3.Connection) -> Ranges:
    """What each partition holds."""
    rows = connection.execute("SELECT partition, first, next FROM partitions").fetchall()
    return {partition: (first, following) for partition, first, following in rows}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: SQLite's switch to WAL does not wait for its turn."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_private(path: Path) -> None:
    """Make the file, readable by its owner only: it holds what people wrote. SQLite gives its other files the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # a power cut must not take the new file's name
    finally:
        os.close(directory)


def _set_up(connection: sqlite3.Connection, partitions: int) -> str:
    with transaction(connection, "IMMEDIATE"):
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO log VALUES (?)", (uuid.uuid4().hex,))
            connection.executemany("INSERT INTO partitions VALUES (?, 0, 0)", [(p,) for p in range(partitions)])
        elif version != _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"it has version {version} and this program knows version {_SCHEMA_VERSION}")
        return str(connection.execute("SELECT id FROM log").fetchone()[0])
