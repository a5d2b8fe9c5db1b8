"""The event log in Apache Kafka, through kafka-python."""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition  # type: ignore[import-untyped]  # kafka-python has no types
from kafka.admin import OffsetSpec  # type: ignore[import-untyped]
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError  # type: ignore[import-untyped]

from ingest.log import LogError, NewRecord, NextOffset, RecordTooLarge
from ingest.log.brokers import CONNECT_TIMEOUT_MS, FRAME_BYTES, connect, find_or_make_topic, unavailable
from ingest.log.encoding import check_size
from ingest.log.kafka_reader import KafkaSubscription
from ingest.settings import KafkaSettings


class KafkaLog:
    """An event log that is a Kafka topic. Make it after a fork, never before."""

    def __init__(self, settings: KafkaSettings, partitions: int) -> None:
        """Connect, and make the topic when it is missing; the partitions of an existing one win.

        Raises:
            LogUnavailable: no broker answered within some seconds, or the topic could not be made.
        """
        self._settings = settings
        with contextlib.ExitStack() as on_error:
            self._admin = connect(KafkaAdminClient, settings, request_timeout_ms=CONNECT_TIMEOUT_MS)
            on_error.callback(self._admin.close)
            self._topic = find_or_make_topic(self._admin, settings, partitions)
            self._producer = connect(KafkaProducer, settings, **_producer_options(settings.delivery_timeout_s))
            on_error.callback(self._producer.close, timeout=1)
            _await_metadata(self._producer, settings)
            on_error.pop_all()

    @property
    def log_id(self) -> str:
        """The cluster's id and the topic's. Where brokers have no topic ids (before 2.8), the topic's name instead."""
        return self._topic.log_id

    @property
    def partitions(self) -> int:
        """As many as the topic had when this log was opened."""
        return self._topic.partitions

    def append(self, records: Sequence[NewRecord]) -> "Future[None]":
        """As in the Protocol."""
        outcome = _Outcome(len(records))
        try:
            for record in records:
                check_size(record)
            for record in records:
                sent = self._producer.send(self._topic.name, record.value, record.key, list(record.headers))
                sent.add_callback(outcome.one_done)
                sent.add_errback(self._failed, outcome)
        except RecordTooLarge as error:
            outcome.fail(error)
        except KafkaError as error:
            self._failed(outcome, error)
        return outcome.future

    def subscribe(self, member: str, next_offset: NextOffset) -> KafkaSubscription:
        """As in the Protocol."""
        return KafkaSubscription(self._settings, self._topic, member, next_offset)

    def first_offsets(self) -> Mapping[int, int]:
        """As in the Protocol."""
        return self._offsets(OffsetSpec.EARLIEST)

    def end_offsets(self) -> Mapping[int, int]:
        """As in the Protocol."""
        return self._offsets(OffsetSpec.LATEST)

    def expire(self, before_ms: int) -> None:
        """As in the Protocol. Needs the right to delete records of the topic."""
        ends = self.end_offsets()  # before the look-up by time: what arrives in between is newer and must stay
        newer = self._offsets(before_ms)
        keep_from = {partition: newer[partition] if newer[partition] >= 0 else end for partition, end in ends.items()}
        try:
            self._admin.delete_records({TopicPartition(self._topic.name, p): offset for p, offset in keep_from.items()})
        except KafkaError as error:
            raise unavailable(self._settings, error) from error

    def close(self) -> None:
        """As in the Protocol; what the brokers do not take within the delivery time-out fails."""
        with contextlib.suppress(KafkaError):  # raised when brokers are away: the futures have said so
            self._producer.close(timeout=self._settings.delivery_timeout_s + 1)
        with contextlib.suppress(KafkaError):
            self._admin.close()

    def _offsets(self, spec: OffsetSpec | int) -> dict[int, int]:
        wanted = {TopicPartition(self._topic.name, partition): spec for partition in range(self.partitions)}
        try:
            return {at.partition: found.offset for at, found in self._admin.list_partition_offsets(wanted).items()}
        except KafkaError as error:
            raise unavailable(self._settings, error) from error

    def _failed(self, outcome: "_Outcome", error: Exception) -> None:
        if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
            outcome.fail(RecordTooLarge("a record larger than the topic's max.message.bytes"))
        else:
            outcome.fail(unavailable(self._settings, error))


class _Outcome:
    """One append: done when the last of its records is, failed with the first that is not."""

    def __init__(self, records: int) -> None:
        self.future: Future[None] = Future()
        self.future.set_running_or_notify_cancel()  # what was sent cannot be called back
        self._missing = records
        self._lock = threading.Lock()
        if not records:
            self.future.set_result(None)

    def one_done(self, _metadata: object) -> None:
        with self._lock:
            self._missing -= 1
            last = self._missing == 0
        if last:
            self.future.set_result(None)

    def fail(self, error: LogError) -> None:
        with self._lock:
            first = self._missing > 0
            self._missing = -1  # from here on no success counts
        if first:
            self.future.set_exception(error)


def _producer_options(delivery_timeout_s: float) -> dict[str, object]:
    return {
        "acks": "all",
        "enable_idempotence": True,
        "batch_size": 256 * 1024,
        "linger_ms": 2,
        "delivery_timeout_ms": int(delivery_timeout_s * 1000),
        "request_timeout_ms": min(30_000, int(delivery_timeout_s * 500)),  # one retry at least within the delivery time-out
        "max_request_size": FRAME_BYTES,
        "max_block_ms": 1,  # a topic that is gone must not block the caller of append
        "allow_auto_create_topics": False,
    }


def _await_metadata(producer: KafkaProducer, settings: KafkaSettings) -> None:
    """Fetch what `send` would otherwise wait for."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_MS / 1000
    while True:
        try:
            producer.partitions_for(settings.topic)
            return
        except KafkaTimeoutError as error:
            if time.monotonic() > deadline:
                raise unavailable(settings, error) from error
            time.sleep(0.02)
        except KafkaError as error:
            raise unavailable(settings, error) from error
