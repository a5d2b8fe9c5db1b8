"""Appending to the event log in Kafka, through outages of its brokers."""

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python has no types
from kafka.errors import (  # type: ignore[import-untyped]
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from ingest.log import LogError, LogUnavailable, NewRecord, RecordTooLarge
from ingest.log.brokers import CONNECT_TIMEOUT_MS, FRAME_BYTES, connect, unavailable
from ingest.log.encoding import check_size
from ingest.settings import KafkaSettings

logger = logging.getLogger(__name__)
_PAUSE_S = 0.5


class KafkaWriter:
    """A producer, replaced once it failed to deliver.

    kafka-python 3.0 never sends again after a batch that was already on its way has expired: it drops its producer id and
    does not ask for another. Until the new producer is connected, appends fail at once.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        """Connect. Raises LogUnavailable."""
        self._settings = settings
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._reconnecting: threading.Thread | None = None
        self._producer: KafkaProducer | None = _connected(settings)

    def append(self, records: Sequence[NewRecord]) -> "Future[None]":
        """As `EventLog.append`."""
        outcome = _Outcome(len(records))
        producer = self._producer
        try:
            for record in records:
                check_size(record)
            if producer is None:
                raise LogUnavailable(f"Kafka at {self._settings.bootstrap} did not answer in time; connecting to it again")
            for record in records:
                sent = producer.send(self._settings.topic, record.value, record.key, list(record.headers))
                sent.add_callback(outcome.one_done)
                sent.add_errback(self._failed, producer, outcome)
        except LogError as error:
            outcome.fail(error)
        except KafkaError as error:
            self._failed(producer, outcome, error)
        return outcome.future

    def close(self) -> None:
        """Wait for what was appended, up to the delivery time-out."""
        with self._lock:
            self._closing.set()
            producer, self._producer = self._producer, None
        if producer is not None:
            _close(producer, self._settings.delivery_timeout_s + 1)
        if self._reconnecting is not None:
            self._reconnecting.join()

    def _failed(self, producer: KafkaProducer, outcome: "_Outcome", error: Exception) -> None:
        """Runs in the producer's own thread, too: must not wait for it."""
        if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
            outcome.fail(RecordTooLarge("a record larger than the topic's max.message.bytes"))
            return
        outcome.fail(unavailable(self._settings, error))
        with self._lock:
            if self._producer is producer and not self._closing.is_set():
                logger.error("Kafka took no records in time (%s): connecting again", type(error).__name__)
                self._producer = None
                self._reconnecting = threading.Thread(
                    target=self._reconnect, args=(producer,), name="kafka-reconnect", daemon=True
                )
                self._reconnecting.start()

    def _reconnect(self, failed: KafkaProducer) -> None:
        _close(failed, timeout_s=0)  # first: what it still holds must not come after newer records of the same key
        while not self._closing.is_set():
            try:
                producer = _connected(self._settings)
            except LogUnavailable:
                self._closing.wait(_PAUSE_S)
                continue
            with self._lock:
                if not self._closing.is_set():
                    self._producer = producer
                    logger.info("connected to Kafka again")
                    return
            _close(producer, timeout_s=0)


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


def _connected(settings: KafkaSettings) -> KafkaProducer:
    """A producer that knows the topic, so that `send` waits for nothing."""
    producer = connect(KafkaProducer, settings, **_options(settings.delivery_timeout_s))
    deadline = time.monotonic() + CONNECT_TIMEOUT_MS / 1000
    while True:
        try:
            producer.partitions_for(settings.topic)
            return producer
        except KafkaError as error:
            if time.monotonic() > deadline or not isinstance(error, KafkaTimeoutError):
                _close(producer, timeout_s=0)
                raise unavailable(settings, error) from error
        time.sleep(0.02)


def _options(delivery_timeout_s: float) -> dict[str, object]:
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


def _close(producer: KafkaProducer, timeout_s: float) -> None:
    with contextlib.suppress(KafkaError):  # records that it could not deliver in time: their futures say so
        producer.close(timeout=timeout_s)
        return
    producer._sender.force_close()  # a `close` that raises leaves the producer's thread running
    producer._sender.join(timeout=5)
