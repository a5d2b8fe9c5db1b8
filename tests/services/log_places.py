"""Where the contract of the event log is tried: the embedded log and the brokers, each behind the same few calls."""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from kafka import KafkaAdminClient

from ingest.log import EventLog, NewRecord, Record, Subscription
from ingest.log.embedded import EmbeddedLog
from ingest.log.kafka import KafkaLog
from ingest.settings import KafkaSettings
from tests.services.kafka import Broker, apache_kafka, noida

KINDS = ("embedded", "noida", "apache")


class Place(Protocol):
    """One log of its own for a test."""

    def open(self, partitions: int = 4) -> EventLog: ...

    def remove(self) -> None:
        """Delete the log; the next `open` makes it anew."""
        ...


@dataclass
class EmbeddedPlace:
    file: Path

    def open(self, partitions: int = 4) -> EventLog:
        return EmbeddedLog(self.file, partitions)

    def remove(self) -> None:
        for file in self.file.parent.glob(self.file.name + "*"):
            file.unlink()


@dataclass
class KafkaPlace:
    settings: KafkaSettings

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process use this log."""
        named = {name: str(getattr(self.settings, name)) for name in ("bootstrap", "topic", "group")}
        return {"WHETSTONE_LOG": "kafka"} | {f"WHETSTONE_KAFKA_{name.upper()}": value for name, value in named.items()}

    def open(self, partitions: int = 4) -> EventLog:
        return KafkaLog(self.settings, partitions)

    def remove(self) -> None:
        with contextlib.closing(KafkaAdminClient(bootstrap_servers=self.settings.bootstrap)) as admin:
            admin.delete_topics([self.settings.topic])
            while admin.describe_topics([self.settings.topic])[0]["partitions"]:
                time.sleep(0.05)


@contextlib.contextmanager
def broker(kind: str, data_dir: Path) -> Iterator[Broker | None]:
    """The broker of a kind, or None for the embedded log. Skips the test where its Apache Kafka is missing."""
    if kind == "embedded":
        yield None
        return
    if kind == "apache" and not os.environ.get("KAFKA_HOME"):
        pytest.skip("KAFKA_HOME names no Apache Kafka")
    with (apache_kafka if kind == "apache" else noida)(data_dir) as running:
        yield running


def place(running: Broker | None, directory: Path) -> Place:
    """A log that no other test uses."""
    if running is None:
        return EmbeddedPlace(directory / "log.db")
    name = uuid.uuid4().hex
    return KafkaPlace(KafkaSettings(bootstrap=running.bootstrap, topic=f"t-{name}", group=f"g-{name}", delivery_timeout_s=4))


def numbered(numbers: Sequence[int], keys: int = 20) -> list[NewRecord]:
    """Records whose values are these numbers, under a few keys."""
    return [NewRecord(f"key-{n % keys}".encode(), str(n).encode()) for n in numbers]


def join(subscription: Subscription, within_s: float = 20) -> None:
    """Poll until the member has partitions. For a log that holds nothing yet."""
    deadline = time.monotonic() + within_s
    while not subscription.assigned() and time.monotonic() < deadline:
        assert subscription.poll(0.05, 1) == {}


def read(subscription: Subscription, wanted: int, within_s: float = 20) -> list[Record]:
    """Poll until as many records came, or the time is over; then once more for what should not come."""
    deadline = time.monotonic() + within_s
    records: list[Record] = []
    while len(records) < wanted and time.monotonic() < deadline:
        records += flat(subscription.poll(0.5, 1000))
    return records + flat(subscription.poll(0.1, 1000))


def read_all(log: EventLog, wanted: int, offsets: Mapping[int, int] | None = None) -> list[Record]:
    """What a member reads from these stored offsets on."""
    with contextlib.closing(log.subscribe("reader-1", (offsets or {}).get)) as subscription:
        return read(subscription, wanted)


def flat(batch: Mapping[int, Sequence[Record]]) -> list[Record]:
    return [record for records in batch.values() for record in records]


def values(records: Sequence[Record]) -> list[int]:
    return sorted(int(record.value) for record in records)
