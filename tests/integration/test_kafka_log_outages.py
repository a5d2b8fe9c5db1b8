"""The event log in Kafka when its broker is killed, away, or wants to know who asks."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from ingest.log import EventLog, LogUnavailable
from ingest.log.kafka import KafkaLog
from ingest.settings import KafkaSettings
from tests.services.kafka import Broker, apache_kafka, noida
from tests.services.log_places import numbered, place, read_all, values
from tests.services.ports import free_port

needs_kafka = pytest.mark.skipif(not os.environ.get("KAFKA_HOME"), reason="KAFKA_HOME names no Apache Kafka")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with apache_kafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running


def append_until(log: EventLog, enough: Callable[[], bool]) -> set[int]:
    """Append, as a client that sends again what was refused would; what was acknowledged."""
    promised: set[int] = set()
    number = 0
    while not enough():
        batch = range(number, number + 10)
        try:
            log.append(numbered(batch)).result(30)
        except LogUnavailable:
            time.sleep(0.2)
            continue
        promised.update(batch)
        number = batch.stop
        time.sleep(0.01)
    return promised


@needs_kafka
def test_a_killed_broker_loses_nothing_acknowledged_and_the_same_writer_goes_on(broker: Broker, tmp_path: Path) -> None:
    with contextlib.closing(place(broker, tmp_path).open()) as log, ThreadPoolExecutor(1) as thread:
        stop = threading.Event()
        appending = thread.submit(append_until, log, stop.is_set)
        try:
            time.sleep(1)
            broker.kill()
            broker.start()
            wait_for_appends(log)
        finally:
            stop.set()
        promised = appending.result(60)
        held = values(read_all(log, len(promised)))
    assert len(promised) > 20
    assert promised <= set(held)


def wait_for_appends(log: EventLog) -> None:
    """Until the log takes records again; the broker needs some seconds after its start."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(LogUnavailable):
            log.append(numbered([-1])).result(30)
            return
        time.sleep(0.2)
    raise TimeoutError("no append within a minute of the broker's start")


@needs_kafka
def test_a_reader_waits_for_a_broker_that_is_away_and_goes_on_by_itself(broker: Broker, tmp_path: Path) -> None:
    with (
        contextlib.closing(place(broker, tmp_path).open()) as log,
        contextlib.closing(log.subscribe("reader-1", lambda partition: None)) as subscription,
    ):
        log.append(numbered(range(20))).result(10)
        seen: list[int] = []
        outage = threading.Thread(target=lambda: (broker.kill(), time.sleep(1), broker.start()))
        deadline = time.monotonic() + 90
        while len(set(seen)) < 40 and time.monotonic() < deadline:
            with contextlib.suppress(LogUnavailable):
                for records in subscription.poll(0.2, 100).values():
                    seen += values(records)
            if len(seen) == 20 and not outage.ident:
                outage.start()
            elif outage.ident and not outage.is_alive() and max(seen) == 19:
                with contextlib.suppress(LogUnavailable):
                    log.append(numbered(range(20, 40))).result(30)
        outage.join()
        assert sorted(set(seen)) == list(range(40))


def test_an_append_fails_in_time_when_the_broker_is_gone(tmp_path: Path) -> None:
    with noida(tmp_path / "noida") as broker, contextlib.closing(place(broker, tmp_path).open()) as log:
        log.append(numbered(range(5))).result(10)
        broker.kill()
        start = time.monotonic()
        appended = log.append(numbered(range(5)))
        assert time.monotonic() - start < 0.5
        with pytest.raises(LogUnavailable, match=r"kafka\.bootstrap"):
            appended.result(30)
        assert time.monotonic() - start < 8  # twice the delivery time-out of these tests


def test_a_log_whose_brokers_do_not_answer_says_so_in_time_and_leaves_no_thread() -> None:
    threads = set(threading.enumerate())
    start = time.monotonic()
    with pytest.raises(LogUnavailable, match=r"kafka\.bootstrap"):
        KafkaLog(KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}"), 4)
    assert time.monotonic() - start < 15
    assert set(threading.enumerate()) <= threads


def test_a_log_without_brokers_named_says_which_setting_is_missing() -> None:
    with pytest.raises(LogUnavailable, match="WHETSTONE_KAFKA_BOOTSTRAP"):
        KafkaLog(KafkaSettings(), 4)


@needs_kafka
def test_the_settings_for_sasl_and_tls_are_what_the_broker_asks_for(tmp_path: Path) -> None:
    certificate, key = tmp_path / "broker.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    with apache_kafka(tmp_path / "kafka", secured(certificate, key), listener="SASL_SSL") as broker:
        settings = KafkaSettings(
            bootstrap=broker.bootstrap,
            security_protocol="SASL_SSL",
            sasl_mechanism="PLAIN",
            sasl_username="app",
            sasl_password=SecretStr("right"),
            ssl_cafile=certificate,
        )
        with contextlib.closing(KafkaLog(settings, 2)) as log:
            log.append(numbered(range(10))).result(10)
            assert values(read_all(log, 10)) == list(range(10))
        with pytest.raises(LogUnavailable, match="SASL"):
            KafkaLog(settings.model_copy(update={"sasl_password": SecretStr("wrong")}), 2)


def make_certificate(certificate: Path, key: Path) -> None:
    """A self-signed one for the loopback address."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)


def secured(certificate: Path, key: Path) -> str:
    """Properties of a broker with TLS and one user."""
    chain, private = (file.read_text().strip().replace("\n", "\\n") for file in (certificate, key))
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return f"""\
ssl.keystore.type=PEM
ssl.keystore.certificate.chain={chain}
ssl.keystore.key={private}
ssl.truststore.type=PEM
ssl.truststore.certificates={chain}
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config={module} required username="app" password="right" user_app="right";
"""
