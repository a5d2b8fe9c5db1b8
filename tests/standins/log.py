"""An event log in memory, for tests within one process. It keeps what EventLog promises, except over the process's end."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from ingest.log import EMPTIED, LogMoved, LogUnavailable, NewRecord, NextOffset, Record
from ingest.log.partitioner import partition_of


@dataclass
class _Partition:
    records: list[Record] = field(default_factory=list)
    first: int = 0

    @property
    def end(self) -> int:
        return self.first + len(self.records)


class MemoryLog:
    """An EventLog. `away = True` makes it unavailable."""

    def __init__(self, partitions: int = 4) -> None:
        self.away = False
        self._log_id = uuid.uuid4().hex
        self._partitions = [_Partition() for _ in range(partitions)]
        self.changed = threading.Condition()
        self._members: dict[str, MemorySubscription] = {}

    @property
    def log_id(self) -> str:
        return self._log_id

    @property
    def partitions(self) -> int:
        return len(self._partitions)

    @property
    def records(self) -> list[Record]:
        """Everything held, partition by partition."""
        return [record for partition in self._partitions for record in partition.records]

    def append(self, records: Sequence[NewRecord]) -> "Future[None]":
        done: Future[None] = Future()
        if self.away:
            done.set_exception(LogUnavailable("The log is away."))
            return done
        with self.changed:
            for new in records:
                number = partition_of(new.key, self.partitions)
                part = self._partitions[number]
                now_ms = time.time_ns() // 1_000_000
                part.records.append(Record(number, part.end, now_ms, new.key, new.value, new.headers))
            self.changed.notify_all()
        done.set_result(None)
        return done

    def subscribe(self, member: str, next_offset: NextOffset) -> "MemorySubscription":
        with self.changed:
            self._members[member] = subscription = MemorySubscription(self, member, next_offset)
        return subscription

    def share_of(self, member: str) -> frozenset[int]:
        """Partitions are dealt out to the members in the order of their names."""
        members = sorted(self._members)
        if member not in members:
            return frozenset()
        return frozenset(range(members.index(member), self.partitions, len(members)))

    def leave(self, member: str) -> None:
        with self.changed:
            self._members.pop(member, None)

    def read(self, partition: int, offset: int, most: int) -> Sequence[Record]:
        self._check()
        part = self._partitions[partition]
        if not part.first <= offset <= part.end:
            raise LogMoved(f"Partition {partition} does not hold offset {offset}.")
        return part.records[offset - part.first : offset - part.first + most]

    def first_offsets(self) -> Mapping[int, int]:
        self._check()
        return {number: part.first for number, part in enumerate(self._partitions)}

    def end_offsets(self) -> Mapping[int, int]:
        self._check()
        return {number: part.end for number, part in enumerate(self._partitions)}

    def expire(self, before_ms: int, until: Mapping[int, int]) -> None:
        with self.changed:
            for number, part in enumerate(self._partitions):
                while part.records and part.records[0].timestamp_ms < before_ms and part.first < until.get(number, 0):
                    part.records.pop(0)
                    part.first += 1

    def forget(self, until: Mapping[int, int], holding: Sequence[bytes], is_theirs: Callable[[bytes], bool]) -> int:
        self._check()
        seen = [one for one in self.records if one.offset < until.get(one.partition, 0)]
        theirs = [one for one in seen if any(part in one.value for part in holding) and is_theirs(one.value)]
        self.empty([(one.partition, one.offset) for one in theirs])
        return len(theirs)

    def empty(self, places: Sequence[tuple[int, int]]) -> None:
        self._check()
        with self.changed:
            for number, offset in places:
                part = self._partitions[number]
                if offset >= part.first:
                    at = offset - part.first
                    part.records[at] = part.records[at]._replace(value=b"", headers=EMPTIED)

    def close(self) -> None:
        """Nothing to let go of."""

    def _check(self) -> None:
        if self.away:
            raise LogUnavailable("The log is away.")


class MemorySubscription:
    """A Subscription to a MemoryLog."""

    def __init__(self, log: MemoryLog, member: str, next_offset: NextOffset) -> None:
        self._log = log
        self._member = member
        self._next_offset = next_offset
        self._positions: dict[int, int] = {}

    def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
        deadline = time.monotonic() + timeout_s
        with self._log.changed:
            while not (found := self._read(max_records)) and time.monotonic() < deadline:
                self._log.changed.wait(max(0.0, deadline - time.monotonic()))
        return found

    def rewind(self, partition: int) -> None:
        self._positions.pop(partition, None)

    def assigned(self) -> frozenset[int]:
        return self._log.share_of(self._member)

    def close(self) -> None:
        self._log.leave(self._member)

    def _read(self, left: int) -> dict[int, Sequence[Record]]:
        mine = self.assigned()
        self._positions = {number: self._start(number) for number in sorted(mine)}
        found: dict[int, Sequence[Record]] = {}
        for number, position in self._positions.items():
            if records := self._log.read(number, position, left):
                found[number] = records
                self._positions[number] += len(records)
                left -= len(records)
        return found

    def _start(self, partition: int) -> int:
        if partition in self._positions:
            return self._positions[partition]
        stored = self._next_offset(partition)
        return self._log.first_offsets()[partition] if stored is None else stored
