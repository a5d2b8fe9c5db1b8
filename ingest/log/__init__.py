"""The event log: append-only, partitioned by key, durable. One Protocol, two implementations, one contract suite."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol, runtime_checkable

from ingest.settings import Settings

MAX_RECORD_BYTES = 32 * 1024 * 1024
"""The largest record, key and headers included, that a log takes."""
Headers = tuple[tuple[str, bytes], ...]
EMPTIED: Headers = (("erased", b""),)
"""The headers of a record whose content was removed: its value is empty, its key and its offset stay."""
SEALED = ("sealed", b"aes-256-gcm")
"""The header of a record whose value is encrypted under its user's key; see ingest.sealing."""
NextOffset = Callable[[int], int | None]
"""From a partition to the offset to read next, or None where nothing of it was ever stored."""


class NewRecord(NamedTuple):
    """A record to append. Equal keys share a partition, in the order of their appends."""

    key: bytes
    value: bytes
    headers: Headers = ()


class Record(NamedTuple):
    """A record as the log holds it."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: Headers


def is_emptied(record: Record) -> bool:
    """Whether the record's content was removed: it holds nothing to read."""
    return record.headers == EMPTIED


class LogError(Exception):
    """The event log could not do what was asked."""


class LogUnavailable(LogError):
    """The event log cannot be reached or cannot write now. Nothing was acknowledged: try again."""


class RecordTooLarge(LogError):
    """The log never takes a record of this size, and took nothing of this append: do not send it again."""


class MemberReplaced(LogError):
    """Another process reads under this member's name. Reading here must stop."""


class LogMoved(LogError):
    """The log does not hold the stored offset any more, or is another log. Reading must stop: a person decides."""


class Subscription(Protocol):
    """One member's share of the log's partitions. Not thread-safe."""

    def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
        """Records by partition, each partition's in the order of its offsets; empty after `timeout_s` without any.

        A partition that comes (back) to this member is read from what `next_offset` says at that moment.

        Raises:
            LogUnavailable: the log cannot be reached; poll again later.
            LogMoved: the log no longer holds the wanted offset, or its id has changed.
            MemberReplaced: another process subscribed under the same member name.
        """
        ...

    def rewind(self, partition: int) -> None:
        """Read the partition again from what `next_offset` says: its records were not stored."""
        ...

    def assigned(self) -> frozenset[int]:
        """The partitions that this member reads now."""
        ...

    def close(self) -> None: ...


class EventLog(Protocol):
    """Appends from any thread; reads through subscriptions."""

    @property
    def log_id(self) -> str:
        """Never the same for two logs, also where one was made anew under the same name."""
        ...

    @property
    def partitions(self) -> int: ...

    def append(self, records: Sequence[NewRecord]) -> "Future[None]":
        """Done when every record is durable (embedded: on disk; Kafka: on all in-sync replicas). Never blocks.

        The future raises LogUnavailable when that did not happen in time; some records may still be in the log, so the
        caller sends the same events again and relies on their ids. It raises RecordTooLarge for a record that the log
        never takes. What waits is held in memory without a limit: the caller bounds what it has in flight.
        """
        ...

    def subscribe(self, member: str, next_offset: NextOffset) -> Subscription:
        """Join the readers as `member`, a name that stays the same over restarts.

        Kafka: a consumer group shares the partitions out, and `member` is the group_instance_id (letters, digits, `.`, `_`
        and `-`). Embedded: one member at a time reads every partition, and the others stand by until it has gone.

        Raises:
            LogUnavailable: the log cannot be reached.
        """
        ...

    def first_offsets(self) -> Mapping[int, int]:
        """By partition, the offset of the oldest record still held. Raises LogUnavailable."""
        ...

    def end_offsets(self) -> Mapping[int, int]:
        """By partition, the offset that the next record will get. Raises LogUnavailable."""
        ...

    def expire(self, before_ms: int, until: Mapping[int, int]) -> None:
        """Delete each partition's records up to its first one that is not older than this, and before its offset in `until`.

        Of a partition that `until` does not name none is deleted. Raises LogUnavailable.
        """
        ...

    def close(self) -> None:
        """Wait for what was appended, then let go of everything."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """An event log that can remove the content of single records before they expire. Kafka cannot."""

    def forget(self, until: Mapping[int, int], holding: Sequence[bytes], is_theirs: Callable[[bytes], bool]) -> int:
        """Empty the records whose value holds one of these bytes and is, as a whole, one of theirs; returns how many.

        Of each partition in `until`, it looks at the records before that offset.

        Done when the bytes are in no file of the log any more. Again, it finds nothing.

        Raises:
            LogUnavailable: not done yet; somebody still reads an older state, or the file cannot be written.
        """
        ...

    def empty(self, places: Sequence[tuple[int, int]]) -> None:
        """Empty the records at these partitions and offsets, where they are still held. Raises as `forget` does."""
        ...


def open_log(settings: Settings) -> EventLog:
    """The event log that the settings name; makes its topic or tables when they are missing.

    Raises:
        LogUnavailable: the brokers do not answer, or the file cannot be opened.
    """
    if settings.log == "kafka":
        from ingest.log.kafka import KafkaLog

        return KafkaLog(settings.kafka, settings.partitions)
    from ingest.log.embedded import EmbeddedLog

    return EmbeddedLog(settings.log_file, settings.partitions)
