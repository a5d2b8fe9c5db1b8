"""Reading the event log from Kafka, as a static member of a consumer group; offsets are kept elsewhere."""

import contextlib
import threading
import time
from collections.abc import Collection, Mapping, Sequence

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # kafka-python has no types
from kafka.consumer.fetcher import ConsumerRecord  # type: ignore[import-untyped]
from kafka.errors import (  # type: ignore[import-untyped]
    FencedInstanceIdError,
    KafkaError,
    LogTruncationError,
    OffsetOutOfRangeError,
)

from ingest.log import LogMoved, MemberReplaced, NextOffset, Record
from ingest.log.brokers import CONNECT_TIMEOUT_MS, Topic, connect, unavailable
from ingest.settings import KafkaSettings

_SLICE_S = 0.2
"""Partitions that came during a poll are read from after this at the latest."""
_JOIN_MS = 1_000
"""How long a poll waits for the group at least: other members may be busy, and it ends once the member has joined."""
_REPLACED = "another process of the consumer group goes by this member's name: give each reader a name of its own"
_OPTIONS = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",  # an offset that is gone must stop the reader, never move it
    "session_timeout_ms": 15_000,
    "metadata_max_age_ms": 10_000,  # how long a topic made anew may go unnoticed
    "allow_auto_create_topics": False,
}


class KafkaSubscription:
    """A member of the consumer group. A member that closed or died keeps its partitions for 15 s, to come back to."""

    def __init__(self, settings: KafkaSettings, topic: Topic, member: str, next_offset: NextOffset) -> None:
        self._settings = settings
        self._topic = topic
        self._next_offset = next_offset
        self._consumer = connect(KafkaConsumer, settings, group_id=settings.group, group_instance_id=member, **_OPTIONS)
        self._newcomers = _Newcomers(self._consumer)
        self._consumer.subscribe([topic.name], listener=self._newcomers)
        self._closed = False

    def poll(self, timeout_s: float, max_records: int) -> Mapping[int, Sequence[Record]]:
        """As in the Protocol."""
        deadline = time.monotonic() + timeout_s
        while True:
            rest_s = max(0.0, deadline - time.monotonic())
            batch = self._poll_once(min(rest_s, _SLICE_S), max_records)
            if batch or rest_s <= _SLICE_S:
                return batch

    def rewind(self, partition: int) -> None:
        """As in the Protocol."""
        at = TopicPartition(self._topic.name, partition)
        if at in self._consumer.assignment():
            self._newcomers.on_partitions_assigned([at])

    def assigned(self) -> frozenset[int]:
        """As in the Protocol."""
        return frozenset(at.partition for at in self._consumer.assignment())

    def close(self) -> None:
        """As in the Protocol."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(KafkaError):  # raised when brokers are away
                self._consumer.close(autocommit=False, timeout_ms=CONNECT_TIMEOUT_MS)

    def _poll_once(self, timeout_s: float, max_records: int) -> dict[int, list[Record]]:
        try:
            self._join()
            self._place_newcomers()
            polled = self._consumer.poll(timeout_ms=timeout_s * 1000, max_records=max_records)
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            raise LogMoved(f"topic {self._topic.name} does not hold the offsets to be read next: {error}") from error
        except FencedInstanceIdError as error:
            raise MemberReplaced(_REPLACED) from error
        except KafkaError as error:
            raise unavailable(self._settings, error) from error
        self._check_topic()
        self._check_membership()
        return {at.partition: [_record(message) for message in messages] for at, messages in polled.items()}

    def _join(self) -> None:
        """See that partitions given to this member come to it.

        kafka-python joins on while nobody polls, but throws away or forgets what comes of it then: a member that had joined
        before its metadata came, and polls for less time than joining takes, would wait for its partitions for ever.
        """
        group = self._consumer._coordinator
        if group._join_task is not None:
            group.request_rejoin()
        if group.need_rejoin():
            group.poll(timeout_ms=_JOIN_MS)

    def _place_newcomers(self) -> None:
        """Seek in the caller's thread: the listener's must not wait for a database."""
        for at in self._newcomers.waiting():
            stored = self._next_offset(at.partition)
            with contextlib.suppress(ValueError, KeyError):  # it went to another member in the meantime
                if stored is None:
                    self._consumer.seek_to_beginning(at)
                else:
                    self._consumer.seek(at, stored)
                self._consumer.resume(at)
            self._newcomers.on_partitions_revoked([at])

    def _check_topic(self) -> None:
        topic_id = self._consumer._cluster.topic_id(self._topic.name)  # from the last metadata: costs no request
        if topic_id is not None and not self._topic.log_id.endswith(f"/{topic_id}"):
            raise LogMoved(f"topic {self._topic.name} was made anew: the stored offsets belong to the old one")

    def _check_membership(self) -> None:
        """kafka-python keeps a replaced member's error to itself: it stops the heartbeat and goes on fetching."""
        group = self._consumer._coordinator
        if group.stable() and not group.need_rejoin() and not group._heartbeat_enabled:
            raise MemberReplaced(_REPLACED)


class _Newcomers(ConsumerRebalanceListener):  # type: ignore[misc]  # untyped base
    """Partitions that came (back) and are held still until they are placed. Called from the client's IO thread."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._waiting: set[TopicPartition] = set()
        self._lock = threading.Lock()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        with self._lock:
            for at in assigned:
                self._consumer.pause(at)
                self._consumer.seek(at, 0)  # any position: without one the client asks for a committed offset, and raises
            self._waiting.update(assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        with self._lock:
            self._waiting.difference_update(revoked)

    def waiting(self) -> list[TopicPartition]:
        with self._lock:
            return list(self._waiting)


def _record(message: ConsumerRecord) -> Record:
    headers = tuple(message.headers)
    return Record(message.partition, message.offset, message.timestamp, message.key or b"", message.value or b"", headers)
