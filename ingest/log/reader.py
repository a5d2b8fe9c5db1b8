"""Reading the embedded log: one member at a time, by polling the file."""

import fcntl
import os
import sqlite3
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from ingest.log import LogMoved, LogUnavailable, NextOffset, Record
from ingest.log.encoding import decode_headers
from ingest.log.file import FileReplaced, LogFile, Ranges, ranges, transaction

_PAUSE_S = 0.02
_POLL_BYTES = 32_000_000
"""A poll stops after the record that reaches this, so that large records do not fill the memory."""


class EmbeddedSubscription:
    """A member of the readers of an embedded log. It reads while it holds the turn, and stands by before."""

    def __init__(self, file: LogFile, next_offset: NextOffset) -> None:
        self._file = file
        self._next_offset = next_offset
        self._turn = _Turn(file.beside("reader"))
        self._connection: sqlite3.Connection | None = None
        self._positions: dict[int, int] = {}
        self._start = 0

    def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
        """As in the Protocol."""
        deadline = time.monotonic() + timeout_s
        while True:
            batch = self._read(max_records) if self._turn.take() else {}
            rest_s = deadline - time.monotonic()
            if batch or rest_s <= 0:
                return batch
            time.sleep(min(_PAUSE_S, rest_s))

    def rewind(self, partition: int) -> None:
        """As in the Protocol."""
        self._positions.pop(partition, None)

    def assigned(self) -> frozenset[int]:
        """Every partition while this member has its turn, else none."""
        return frozenset(range(self._file.partitions)) if self._turn.mine else frozenset()

    def close(self) -> None:
        """Leave the turn to the next member."""
        self._disconnect()
        self._turn.leave()

    def _read(self, max_records: int) -> dict[int, list[Record]]:
        try:
            self._connection = self._connection or self._file.connect()
            self._file.check_in_place()
            with transaction(self._connection, "DEFERRED"):  # one snapshot: what expires meanwhile is not skipped unseen
                batch = self._read_snapshot(self._connection, ranges(self._connection), max_records)
        except FileReplaced as error:
            raise LogMoved(f"{error}: the stored offsets belong to another log") from error
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise LogUnavailable(f"the event log {self._file.path} cannot be read: {error}") from error
        self._positions.update({partition: records[-1].offset + 1 for partition, records in batch.items()})
        return batch

    def _read_snapshot(self, connection: sqlite3.Connection, held: Ranges, max_records: int) -> dict[int, list[Record]]:
        batch: dict[int, list[Record]] = {}
        bytes_left = _POLL_BYTES
        self._start += 1  # begin with another partition each time: a busy one must not starve the rest
        for partition in sorted(held, key=lambda p: (p + self._start) % len(held)):
            position = self._place(partition, *held[partition])
            if position == held[partition][1] or max_records <= 0 or bytes_left <= 0:
                continue
            records = _records(connection, partition, position, max_records, bytes_left)
            max_records -= len(records)
            bytes_left -= sum(len(record.value) for record in records)
            batch[partition] = records
        return batch

    def _place(self, partition: int, first: int, end: int) -> int:
        position = self._positions.get(partition)
        if position is None:
            stored = self._next_offset(partition)
            position = self._positions[partition] = first if stored is None else stored
        if not first <= position <= end:
            del self._positions[partition]
            raise LogMoved(f"partition {partition} holds offsets {first} to {end}, and {position} was to be read next")
        return position

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Turn:
    """An advisory lock on a file of its own; a process that dies leaves it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        self.leave = weakref.finalize(self, os.close, self._descriptor)
        self._taken = False

    @property
    def mine(self) -> bool:
        return self._taken and self.leave.alive

    def take(self) -> bool:
        """Whether it is this member's turn."""
        if not self._taken and self.leave.alive:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._taken = True
            except BlockingIOError:
                return False
        return self.mine


def _records(connection: sqlite3.Connection, partition: int, position: int, most: int, most_bytes: int) -> list[Record]:
    rows = connection.execute(
        "SELECT partition, offset, timestamp_ms, key, value, headers FROM records"
        " WHERE partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
        (partition, position, most),
    )
    records: list[Record] = []
    for number, offset, timestamp_ms, key, value, headers in rows:
        records.append(Record(number, offset, timestamp_ms, key, value, decode_headers(headers)))
        most_bytes -= len(value)
        if most_bytes <= 0:
            break
    rows.close()
    return records
