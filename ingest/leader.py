"""One process of a kind at a time for one database: a lock that is gone when its holder dies."""

import fcntl
import os
import zlib
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from ingest.database import Database


class Lock(Protocol):
    """Held by one process; gone when that dies."""

    def held(self) -> bool:
        """True when this process holds it; tries to take it when not."""
        ...

    def release(self) -> None: ...


def open_lock(database: Database, run_dir: Path, name: str) -> Lock:
    """The lock of that name: a file beside SQLite, an advisory lock in PostgreSQL."""
    return FileLock(run_dir / f"{name}.lock") if database.is_sqlite else AdvisoryLock(database, name)


class FileLock:
    """For SQLite: everything runs on one machine."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def held(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # on a lock that is held already: nothing happens
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        os.close(self._file)


class AdvisoryLock:
    """For PostgreSQL: held by a connection of its own, and lost with it."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._number = zlib.crc32(f"whetstone {name}".encode())
        self._connection: Connection | None = None

    def held(self) -> bool:
        try:
            return self._still_held() if self._connection else self._take()
        except SQLAlchemyError:
            self.release()
            raise

    def release(self) -> None:
        if self._connection:
            self._connection.invalidate()  # closes the session itself, and with it the lock
            self._connection.close()
        self._connection = None

    def _still_held(self) -> bool:
        assert self._connection
        self._connection.execute(text("SELECT 1"))
        return True

    def _take(self) -> bool:
        connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if connection.execute(text("SELECT pg_try_advisory_lock(:number)"), {"number": self._number}).scalar():
            self._connection = connection
            return True
        connection.close()
        return False
