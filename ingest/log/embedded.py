"""The event log in an SQLite file: nothing to install, for one machine."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path

from ingest.log import EMPTIED, LogUnavailable, NewRecord, NextOffset, RecordTooLarge
from ingest.log.encoding import check_size, encode_headers
from ingest.log.file import FileReplaced, LogFile, Ranges, ranges, transaction
from ingest.log.partitioner import partition_of
from ingest.log.reader import EmbeddedSubscription
from ingest.log.writer import Writer

_STEP = 5_000
"""Records deleted, or looked at, in one transaction: appends wait for no more than that."""
_READERS_TIMEOUT_MS = 1_000
"""How long readers of an older state are waited for: they keep it in the write-ahead log."""


class EmbeddedLog:
    """An event log in one file, appended to and read by several processes of one machine.

    One thread a process commits what waits as a group, so a commit's wait for the disk is shared. One member at a time
    reads: a second one gets nothing until the first has closed or died.
    """

    def __init__(self, file: Path, partitions: int) -> None:
        """Open the log, or make it; the partitions of an existing one win.

        Raises:
            LogUnavailable: the file cannot be opened.
        """
        self._file = LogFile(file, partitions)
        self._writer = Writer(self._file)

    @property
    def log_id(self) -> str:
        """Made with the file."""
        return self._file.log_id

    @property
    def partitions(self) -> int:
        """As many as the file was made with."""
        return self._file.partitions

    def append(self, records: Sequence[NewRecord]) -> "Future[None]":
        """As in the Protocol. Either all records of the call are in the log or none."""
        try:
            for record in records:
                check_size(record)
        except RecordTooLarge as error:
            refused: Future[None] = Future()
            refused.set_exception(error)
            return refused
        return self._writer.append(
            [(partition_of(r.key, self.partitions), r.key, r.value, encode_headers(r.headers)) for r in records]
        )

    def subscribe(self, member: str, next_offset: NextOffset) -> EmbeddedSubscription:
        """As in the Protocol; the first member to poll reads everything."""
        return EmbeddedSubscription(self._file, next_offset)

    def first_offsets(self) -> Mapping[int, int]:
        """As in the Protocol."""
        return {partition: first for partition, (first, _) in self._ranges().items()}

    def end_offsets(self) -> Mapping[int, int]:
        """As in the Protocol."""
        return {partition: end for partition, (_, end) in self._ranges().items()}

    def expire(self, before_ms: int, until: Mapping[int, int]) -> None:
        """As in the Protocol. What was deleted is overwritten with zeros."""
        with self._removing() as connection:
            for partition, (first, end) in ranges(connection).items():
                keep_from = _first_not_before(connection, partition, before_ms, end)
                _expire(connection, partition, first, min(keep_from, until.get(partition, first)))

    def forget(self, until: Mapping[int, int], holding: Sequence[bytes], is_theirs: Callable[[bytes], bool]) -> int:
        """As in Forgets. Values are looked at one by one: memory does not grow with the log."""
        emptied = 0
        with self._removing() as connection:
            for partition, (first, end) in ranges(connection).items():
                last = min(end, until.get(partition, first))
                for start in range(first, last, _STEP):
                    found = _holding(connection, partition, range(start, min(start + _STEP, last)), holding, is_theirs)
                    _empty(connection, [(partition, offset) for offset in found])
                    emptied += len(found)
        return emptied

    def empty(self, places: Sequence[tuple[int, int]]) -> None:
        """As in Forgets."""
        with self._removing() as connection:
            _empty(connection, places)

    def close(self) -> None:
        """As in the Protocol."""
        self._writer.close()

    @contextmanager
    def _removing(self) -> Iterator[sqlite3.Connection]:
        """What is removed in the block is overwritten with zeros, in the WAL too."""
        try:
            with closing(self._file.connect()) as connection:
                yield connection
                connection.execute(f"PRAGMA busy_timeout = {_READERS_TIMEOUT_MS}")
                is_read = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except (sqlite3.Error, OSError, FileReplaced) as error:
            raise LogUnavailable(f"records of {self._file.path} cannot be removed: {error}") from error
        if is_read:
            raise LogUnavailable(f"{self._file.path} is being read: what was removed is still in its write-ahead log")

    def _ranges(self) -> Ranges:
        try:
            with closing(self._file.connect()) as connection:
                return ranges(connection)
        except (sqlite3.Error, OSError, FileReplaced) as error:
            raise LogUnavailable(f"the event log {self._file.path} cannot be read: {error}") from error


def _first_not_before(connection: sqlite3.Connection, partition: int, before_ms: int, end: int) -> int:
    row = connection.execute(
        "SELECT offset FROM records WHERE partition = ? AND timestamp_ms >= ? ORDER BY offset LIMIT 1", (partition, before_ms)
    ).fetchone()
    return int(row[0]) if row else end


def _expire(connection: sqlite3.Connection, partition: int, first: int, keep_from: int) -> None:
    while first < keep_from:
        first = min(first + _STEP, keep_from)
        with transaction(connection, "IMMEDIATE"):
            connection.execute("DELETE FROM records WHERE partition = ? AND offset < ?", (partition, first))
            connection.execute("UPDATE partitions SET first = max(first, ?) WHERE partition = ?", (first, partition))


def _holding(
    connection: sqlite3.Connection, partition: int, offsets: range, holding: Sequence[bytes], is_theirs: Callable[[bytes], bool]
) -> list[int]:
    """Those of the offsets. SQLite looks for the bytes; of what holds them, one value at a time is read."""
    either = " OR ".join(["instr(value, ?)"] * len(holding))
    rows = connection.execute(
        f"SELECT offset, value FROM records WHERE partition = ? AND offset >= ? AND offset < ? AND ({either})",
        (partition, offsets.start, offsets.stop, *holding),
    )
    return [offset for offset, value in rows if is_theirs(value)]


def _empty(connection: sqlite3.Connection, places: Sequence[tuple[int, int]]) -> None:
    if places:
        with transaction(connection, "IMMEDIATE"):
            statement = "UPDATE records SET value = ?, headers = ? WHERE partition = ? AND offset = ?"
            connection.executemany(statement, [(b"", encode_headers(EMPTIED), *place) for place in places])
