"""Kafka clients: their common settings, and the topic of the event log."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka import KafkaAdminClient  # type: ignore[import-untyped]  # kafka-python has no types
from kafka.errors import KafkaError, TopicAlreadyExistsError  # type: ignore[import-untyped]
from kafka.net.compat import KafkaNetClient  # type: ignore[import-untyped]

from ingest.log import MAX_RECORD_BYTES, LogUnavailable
from ingest.settings import KafkaSettings

logging.getLogger("kafka").setLevel(logging.WARNING)  # its debug lines hold keys and values: what people wrote
logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_MS = 10_000
FRAME_BYTES = MAX_RECORD_BYTES + 1024 * 1024
"""A record of the largest size with what Kafka puts around it."""
_Client = TypeVar("_Client")


@dataclass(frozen=True, slots=True)
class Topic:
    """The topic that is the event log."""

    name: str
    log_id: str
    partitions: int


def connect(make: Callable[..., _Client], settings: KafkaSettings, **options: Any) -> _Client:
    """A client of kafka-python, connected.

    Raises:
        LogUnavailable: no broker answered within CONNECT_TIMEOUT_MS, or none is named, or it refused us.
    """
    connections: list[Any] = []

    def connection(**config: Any) -> Any:
        connections.append(KafkaNetClient(**config))
        return connections[-1]

    try:
        return make(kafka_client=connection, **_common(settings), **options)
    except (KafkaError, OSError, ValueError) as error:
        for left in connections:
            left.close()  # a client whose constructor raises leaves its thread running
        raise unavailable(settings, error) from error


def unavailable(settings: KafkaSettings, error: Exception) -> LogUnavailable:
    """Says what failed and what to do. kafka-python's own texts hold whole requests, so only the error's name is kept."""
    return LogUnavailable(
        f"Kafka at {settings.bootstrap} cannot be used ({type(error).__name__}): "
        "see that it runs, and that kafka.bootstrap and the settings for SASL and TLS are right"
    )


def find_or_make_topic(admin: KafkaAdminClient, settings: KafkaSettings, partitions: int) -> Topic:
    """The topic that the settings name; one that exists is taken as it is.

    Raises:
        LogUnavailable: it could not be read or made.
    """
    try:
        found = admin.describe_topics([settings.topic])[0]
        if not found["partitions"]:
            _make_topic(admin, settings, partitions)
            found = admin.describe_topics([settings.topic])[0]
        # not by describe_cluster, which fails on brokers before 3.7
        cluster_id = admin._manager.cluster.cluster_id
    except KafkaError as error:
        raise unavailable(settings, error) from error
    if found["topic_id"] is None:
        logger.warning("the broker has no topic ids: a topic made anew is told from the old one only by its offsets")
    return Topic(settings.topic, f"{cluster_id}/{found['topic_id'] or settings.topic}", len(found["partitions"]))


def _make_topic(admin: KafkaAdminClient, settings: KafkaSettings, partitions: int) -> None:
    configs = {
        "cleanup.policy": "delete",
        "retention.ms": "-1",  # Kafka's default deletes after a week, read or not
        "retention.bytes": "-1",
        "max.message.bytes": str(FRAME_BYTES),
        "min.insync.replicas": "2" if settings.replication_factor > 2 else "1",
    }
    topic = {"num_partitions": partitions, "replication_factor": settings.replication_factor, "configs": configs}
    try:
        admin.create_topics({settings.topic: topic})
    except TopicAlreadyExistsError:
        logger.info("another process made the topic first")
    admin.wait_for_topics([settings.topic])


def _common(settings: KafkaSettings) -> dict[str, Any]:
    if settings.bootstrap is None:
        raise LogUnavailable("no Kafka is named: set kafka.bootstrap (WHETSTONE_KAFKA_BOOTSTRAP=HOST:PORT)")
    return {
        "bootstrap_servers": settings.bootstrap.split(","),
        "client_id": "whetstone",
        "bootstrap_timeout_ms": CONNECT_TIMEOUT_MS,
        "reconnect_backoff_max_ms": 1000,  # the default of 30 s would outlast most restarts of a broker
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.sasl_password and settings.sasl_password.get_secret_value(),
        "ssl_cafile": settings.ssl_cafile and str(settings.ssl_cafile),
        "ssl_certfile": settings.ssl_certfile and str(settings.ssl_certfile),
        "ssl_keyfile": settings.ssl_keyfile and str(settings.ssl_keyfile),
    }
