"""The feedback API over real processes: a real server, the real embedded log, real brokers."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.examples import EXAMPLES
from ingest.log.embedded import EmbeddedLog
from tests.services.ingest import PATIENCE_S, Ingest, ingest
from tests.services.kafka import Broker, apache_kafka, noida

CHOICE = EXAMPLES["choice"]
needs_kafka = pytest.mark.skipif("KAFKA_HOME" not in os.environ, reason="KAFKA_HOME names no Apache Kafka")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Ingest]:
    with ingest(tmp_path) as made:
        yield made


def logged(service: Ingest) -> list[dict[str, Any]]:
    """Every event in the embedded log."""
    log = EmbeddedLog(service.directory / "log.db", 4)
    reader = log.subscribe("test", lambda _: None)
    wanted, events = sum(log.end_offsets().values()), []
    while len(events) < wanted:
        for records in reader.poll(1, 1_000).values():
            events += [json.loads(record.value) for record in records]
    reader.close()
    log.close()
    return events


def test_what_was_answered_with_202_is_in_the_log_after_a_kill(service: Ingest) -> None:
    service.start()
    service.wait_for("/readyz", 200)
    accepted: list[str] = []

    def send_until_it_dies(client: int) -> None:
        for number in range(100_000):
            event_id = f"{client}-{number}"
            try:
                answer = service.send({**CHOICE, "event_id": event_id})
            except httpx.TransportError:
                return
            assert answer.status_code == 202
            accepted.append(event_id)

    clients = [threading.Thread(target=send_until_it_dies, args=(number,)) for number in range(4)]
    for client in clients:
        client.start()
    while len(accepted) < 100 and any(client.is_alive() for client in clients):
        time.sleep(0.01)
    service.end(signal.SIGKILL)
    for client in clients:
        client.join()
    assert len(accepted) >= 100
    assert set(accepted) <= {event["event_id"] for event in logged(service)}


def test_a_killed_service_goes_on_where_it_was(service: Ingest) -> None:
    service.start()
    service.wait_for("/readyz", 200)
    assert service.send(CHOICE).status_code == 202
    service.end(signal.SIGKILL)
    service.start()
    service.wait_for("/readyz", 200)
    assert service.send({**CHOICE, "event_id": "second"}).status_code == 202
    assert {event["event_id"] for event in logged(service)} == {CHOICE["event_id"], "second"}


def test_the_same_event_twice_is_accepted_twice_with_equal_bytes(service: Ingest) -> None:
    service.start()
    service.wait_for("/readyz", 200)
    reordered = dict(reversed(CHOICE.items()))
    assert [service.send(event).status_code for event in (CHOICE, reordered)] == [202, 202]
    first, second = logged(service)
    assert first == second


def test_a_malformed_event_gets_422_with_the_fields_name_and_leaves_nothing(service: Ingest) -> None:
    service.start()
    service.wait_for("/readyz", 200)
    answer = service.send({"events": [CHOICE, {**CHOICE, "shown": []}]}, "/v1/feedback/batch")
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["events.1.shown"]
    assert logged(service) == []


def test_a_chunked_body_without_end_is_cut_off(tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 10_000

    with ingest(tmp_path, WHETSTONE_INGEST_MAX_REQUEST_BYTES="100000") as service:
        service.start()
        headers = {"Authorization": f"Bearer {service.key}", "Content-Type": "application/json"}
        try:
            answer = httpx.post(f"{service.url}/v1/feedback", content=endless(), headers=headers, timeout=PATIENCE_S)
        except httpx.WriteError:
            return  # the server hung up before the client had looked for its answer
        assert answer.status_code == 413


def test_a_log_that_is_away_at_the_start_is_used_once_it_is_there(service: Ingest) -> None:
    in_the_way = service.directory / "log.db"
    in_the_way.mkdir()
    service.start()
    answer = service.send(CHOICE)
    assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
    service.wait_for("/readyz", 503)
    in_the_way.rmdir()
    service.wait_for("/readyz", 200)
    assert service.send(CHOICE).status_code == 202


@pytest.mark.parametrize("start_broker", [noida, pytest.param(apache_kafka, marks=needs_kafka)])
def test_a_broker_that_goes_away_means_503_until_it_is_back(
    tmp_path: Path, start_broker: Callable[[Path], AbstractContextManager[Broker]]
) -> None:
    with start_broker(tmp_path / "broker") as broker:
        kafka = {
            "WHETSTONE_LOG": "kafka",
            "WHETSTONE_KAFKA_BOOTSTRAP": broker.bootstrap,
            "WHETSTONE_KAFKA_DELIVERY_TIMEOUT_S": "2",
        }
        broker.stop()
        with ingest(tmp_path, **kafka) as service:
            service.start()
            assert service.send(CHOICE).status_code == 503
            broker.start()
            service.wait_for("/readyz", 200)
            assert service.send(CHOICE).status_code == 202
            broker.stop()
            answer = service.send(CHOICE)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            broker.start()
            service.wait_for("/readyz", 200)
            _send_until_accepted(service)


def _send_until_accepted(service: Ingest) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while service.send(CHOICE).status_code != 202:
        assert time.monotonic() < deadline


def test_several_workers_count_together_and_end_together(tmp_path: Path) -> None:
    with ingest(tmp_path, WHETSTONE_INGEST_WORKERS="2") as service:
        service.start()
        _send_until_accepted(service)
        for number in range(20):
            service.wait_for("/readyz", 200)
            assert service.send({**CHOICE, "event_id": str(number)}).status_code == 202
        metrics = httpx.get(f"{service.url}/metrics", headers={"Authorization": f"Bearer {service.key}"}).text
        assert 'whetstone_ingest_events_total{task="other",type="choice"} 21.0' in metrics
        assert len({event["event_id"] for event in logged(service)}) == 21
        service.end(signal.SIGTERM)
        assert not service.remains()


def test_sigterm_ends_the_service_cleanly_within_seconds(service: Ingest) -> None:
    service.start()
    service.wait_for("/readyz", 200)
    began = time.monotonic()
    assert service.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    assert time.monotonic() - began < 10


def test_log_lines_are_json_and_hold_nothing_that_a_user_wrote(service: Ingest) -> None:
    secret = "the-secret-of-a-user"
    service.start()
    service.send({**EXAMPLES["edit"], "user": secret, "saved": secret})
    service.send({**CHOICE, "by": secret})
    service.end(signal.SIGTERM)
    text = (service.directory / "ingest.log").read_text()
    assert all(json.loads(line)["process"] == "ingest" for line in text.splitlines())
    assert secret not in text
