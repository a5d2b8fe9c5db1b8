"""A database that a worker uses until it dies, or is overtaken, in the middle of something."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlmodel import Session

from ingest.database import Database


class Crash(BaseException):
    """The process ends here. Nothing catches it; what was not committed is rolled back."""


class ShakyDatabase(Database):
    """Counts the moments of writing transactions: before it begins, before each statement, before and after it commits.

    What another connection has locked is not waited for: all that tests do happens in one thread.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._left: int | None = None
        self._act: Callable[[], None] = lambda: None
        self._writes = False
        event.listen(self.engine, "connect", self._configure)
        event.listen(self.engine, "checkout", self._wait_for_nobody)
        event.listen(self.engine, "before_cursor_execute", lambda *_: self._moment() if self._writes else None)

    def at(self, moment: int | None, act: Callable[[], None]) -> None:
        """Do this once, at the so-manieth moment from now; None: never."""
        self._left, self._act = moment, act

    @contextmanager
    def begin(self, meanwhile: Callable[[], bool] | None = None) -> Iterator[Session]:
        """As Database.begin; `meanwhile` is done on SQLite too, as if that were a server."""
        self._moment()
        try:
            with super().begin(meanwhile) as session:
                self._writes = True
                while self.is_sqlite and meanwhile and meanwhile():
                    pass
                yield session
                self._moment()
        finally:
            self._writes = False
        self._moment()

    def _moment(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._left = None
                self._act()

    def _configure(self, connection: Any, _record: Any) -> None:
        """A crash here is that of a process and not of a machine: no need to wait for the disk."""
        if self.is_sqlite:
            connection.execute("PRAGMA synchronous=OFF")
        else:
            connection.execute("SET lock_timeout = '20ms'")
            connection.commit()

    def _wait_for_nobody(self, connection: Any, *_: Any) -> None:
        """Each time, for `truncate_wal` leaves a connection waiting as it was."""
        if self.is_sqlite:
            connection.execute("PRAGMA busy_timeout=0")
