"""The event log in Apache Kafka, through kafka-python."""

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from kafka import KafkaAdminClient, TopicPartition  # type: ignore[import-untyped]  # kafka-python has no types
from kafka.admin import OffsetSpec  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]

from ingest.log import NewRecord, NextOffset
from ingest.log.brokers import CONNECT_TIMEOUT_MS, connect, find_or_make_topic, unavailable
from ingest.log.kafka_reader import KafkaSubscription
from ingest.log.kafka_writer import KafkaWriter
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
            self._writer = KafkaWriter(settings)
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
        return self._writer.append(records)

    def subscribe(self, member: str, next_offset: NextOffset) -> KafkaSubscription:
        """As in the Protocol."""
        return KafkaSubscription(self._settings, self._topic, member, next_offset)

    def first_offsets(self) -> Mapping[int, int]:
        """As in the Protocol."""
        return self._offsets(OffsetSpec.EARLIEST)

    def end_offsets(self) -> Mapping[int, int]:
        """As in the Protocol."""
        return self._offsets(OffsetSpec.LATEST)

    def expire(self, before_ms: int, until: Mapping[int, int]) -> None:
        """As in the Protocol. Needs the right to delete records of the topic."""
        newer = self._offsets(before_ms)  # -1 where none is
        keep_from = {p: min(newer[p], offset) if newer[p] >= 0 else offset for p, offset in until.items() if p in newer}
        try:
            self._admin.delete_records({TopicPartition(self._topic.name, p): offset for p, offset in keep_from.items()})
        except KafkaError as error:
            raise unavailable(self._settings, error) from error

    def close(self) -> None:
        """As in the Protocol; what the brokers do not take within the delivery time-out fails."""
        self._writer.close()
        with contextlib.suppress(KafkaError):  # raised when brokers are away
            self._admin.close()

    def _offsets(self, spec: OffsetSpec | int) -> dict[int, int]:
        wanted = {TopicPartition(self._topic.name, partition): spec for partition in range(self.partitions)}
        try:
            return {at.partition: found.offset for at, found in self._admin.list_partition_offsets(wanted).items()}
        except KafkaError as error:
            raise unavailable(self._settings, error) from error
