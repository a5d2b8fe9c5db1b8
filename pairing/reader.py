"""Reading the event log batch by batch.

While the database works on one batch, the one before it is freed, and the next is read and decoded, bit by bit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ingest.database import Database
from ingest.log import EventLog, LogError, LogUnavailable, Record
from ingest.settings import PairingSettings
from pairing.decoding import Batch, decode
from pairing.holdout import Splitter
from pairing.opening import opened
from pairing.store import Read
from pairing.tables import Offset

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
AWAY = (LogUnavailable, *DATABASE_AWAY)
"""Errors that end by themselves: the log or the database cannot be reached or cannot write now."""
_STEP = 8
"""Records decoded at once: as long as it takes, the database waits if it has answered just then."""
_FREED = 64
"""Objects freed at once."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one poll brought: the stretch of each partition, and its records sorted out."""

    reads: Mapping[int, Read]
    batch: Batch
    newest_s: float  # when the log got its newest record, in seconds since 1970
    remains: list[list[Any]] = field(default_factory=list)  # what is of no use any more once this is stored


@dataclass(slots=True)
class _Coming:
    """A batch that was polled and is being decoded."""

    taken: Taken
    records: Iterator[Record]
    split: Splitter
    has_more: bool = field(default=True)

    def decode(self, most: int | None = None) -> None:
        some = list(islice(self.records, most))
        decode(some, self.split, self.taken.batch)
        self.has_more = len(some) == most


class Reader:
    """One member of the log's readers, which goes on where the database says. Not thread-safe."""

    def __init__(self, database: Database, log: EventLog, member: str, split: Splitter, settings: PairingSettings) -> None:
        self._database = database
        self._log_id = log.log_id
        self._split = split
        self._poll_s = settings.poll_s
        self._batch_events = settings.batch_events
        self._next: dict[int, int | None] = {}
        self._coming: _Coming | None = None
        self._last: list[list[Any]] = []
        self._spent: list[list[Any]] = []
        self._failure: Exception | None = None
        self._asked = False
        self._subscription = log.subscribe(member, self._stored_offset)

    @property
    def next(self) -> Mapping[int, int | None]:
        """By partition, the offset after what was polled; None where nothing of it was ever stored."""
        return self._next

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions of the log that are read here now."""
        return self._subscription.assigned()

    def take(self) -> Taken | None:
        """The next batch, or None where nothing came within `poll_s`.

        Raises as Subscription.poll does, and SQLAlchemy's errors where the database is away.
        """
        self._asked = False
        if failure := self._failure:
            self._failure = None
            raise failure
        if self._coming is None:
            self._begin(self._poll_s)
        coming, self._coming = self._coming, None
        if coming is None:
            return None
        coming.decode()
        coming.taken.remains.append(list(coming.taken.batch.events.values()))
        self._spent, self._last = self._last, coming.taken.remains
        return coming.taken

    def step(self) -> bool:
        """Free what was taken before, then decode what comes after; a little at a time. Returns whether there is more to do.

        What goes wrong is raised by `take`.
        """
        if self._spent:
            del self._spent[-1][-_FREED:]  # an event is many objects: to free them all takes as long as to look the event up
            if not self._spent[-1]:
                self._spent.pop()
            return True
        if self._coming:
            self._coming.decode(_STEP)
            return self._coming.has_more
        if self._asked:
            return False
        self._asked = True
        try:
            self._begin(0)
        except (LogError, *DATABASE_AWAY) as error:
            self._failure = error
        return self._coming is not None

    def rewind(self, taken: Taken) -> None:
        """Nothing of it is stored, nor of what was read after it: read from where the database says."""
        ahead = self._coming.taken.reads.keys() if self._coming else set()
        self._coming = None
        for partition in taken.reads.keys() | ahead:
            self._subscription.rewind(partition)

    def close(self) -> None:
        self._subscription.close()

    def _begin(self, timeout_s: float) -> None:
        polled = self._subscription.poll(timeout_s, self._batch_events)
        if not polled:
            return
        reads = {number: Read(self._next[number], records[-1].offset + 1) for number, records in polled.items()}
        self._next |= {number: read.next for number, read in reads.items()}
        try:
            records = opened(self._database, [record for records in polled.values() for record in records])
        except DATABASE_AWAY:  # no keys
            for partition in polled:
                self._subscription.rewind(partition)
            raise
        newest_ms = max(records[-1].timestamp_ms for records in polled.values())
        self._coming = _Coming(Taken(reads, Batch(), newest_ms / 1000), iter(records), self._split)

    def _stored_offset(self, partition: int) -> int | None:
        with self._database.read() as session:
            row = session.get(Offset, (self._log_id, partition))
        self._next[partition] = row.next if row else None
        return self._next[partition]
