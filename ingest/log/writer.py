"""The one thread of a process that writes to the embedded log: what waits is committed in one transaction."""

import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from ingest.log import LogUnavailable
from ingest.log.file import FileReplaced, LogFile, ranges, transaction

logger = logging.getLogger(__name__)
_GROUP_BYTES = 8_000_000
"""A group is closed when it holds this much, so that nobody waits for a very long transaction."""
Row = tuple[int, bytes, bytes, bytes]
"""Partition, key, value, headers."""


@dataclass(frozen=True, slots=True)
class _Append:
    rows: Sequence[Row]
    done: "Future[None]"

    @property
    def size(self) -> int:
        return sum(len(key) + len(value) + len(headers) for _, key, value, headers in self.rows)


class Writer:
    """Appends in the order of the calls. A group is on disk before any of its futures is done."""

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._waiting: SimpleQueue[_Append | None] = SimpleQueue()
        self._closing = Lock()
        self._closed = False
        self._failing = False
        self._thread = Thread(target=self._run, name="embedded-log-writer", daemon=True)
        self._thread.start()

    def append(self, rows: Sequence[Row]) -> "Future[None]":
        """Queue the rows. The future raises LogUnavailable when they could not be committed: then none was."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # what is queued is written: a caller that gives up cannot call it back
        with self._closing:
            if self._closed:
                done.set_exception(LogUnavailable("the event log is closed"))
            else:
                self._waiting.put(_Append(rows, done))
        return done

    def close(self) -> None:
        """Write what was queued, then end the thread."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            group, last = self._next_group()
            self._write(group)
        self._disconnect()

    def _next_group(self) -> tuple[list[_Append], bool]:
        """Everything that waits, up to the size of a group; and whether it is the last."""
        group: list[_Append] = []
        size = 0
        item = self._waiting.get()
        while item is not None:
            group.append(item)
            size += item.size
            if size >= _GROUP_BYTES:
                return group, False
            try:
                item = self._waiting.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _write(self, group: Sequence[_Append]) -> None:
        try:
            self._commit([row for append in group for row in append.rows])
        except (sqlite3.Error, OSError, FileReplaced) as error:
            self._disconnect()
            self._say_failed(error)
            for append in group:
                append.done.set_exception(LogUnavailable(f"the event log {self._file.path} cannot be written: {error}"))
            return
        self._failing = False
        for append in group:
            append.done.set_result(None)

    def _commit(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        self._connection = self._connection or self._file.connect()
        self._file.check_in_place()
        with transaction(self._connection, "IMMEDIATE"):
            _insert(self._connection, rows, time.time_ns() // 1_000_000)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _say_failed(self, error: Exception) -> None:
        if not self._failing:
            logger.error("the event log cannot be written: %s", error)
        self._failing = True


def _insert(connection: sqlite3.Connection, rows: Iterable[Row], timestamp_ms: int) -> None:
    following = {partition: end for partition, (_, end) in ranges(connection).items()}
    by_partition: dict[int, list[tuple[int, int, int, bytes, bytes, bytes]]] = defaultdict(list)
    for partition, key, value, headers in rows:
        by_partition[partition].append((partition, following[partition], timestamp_ms, key, value, headers))
        following[partition] += 1
    for partition, records in by_partition.items():
        connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", records)
        connection.execute("UPDATE partitions SET next = ? WHERE partition = ?", (following[partition], partition))
