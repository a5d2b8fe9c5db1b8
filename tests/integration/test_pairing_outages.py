"""Pairing and ingest when the database, Kafka or the disk is away, and when the event log is another one."""

import contextlib
import logging
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from ingest.database import Database
from ingest.events import Event
from ingest.examples import EXAMPLES
from ingest.log import EventLog, LogUnavailable, MemberReplaced
from ingest.log.embedded import EmbeddedLog
from pairing.worker import Worker
from tests.services.feedback import everyone
from tests.services.ingest import Ingest, ingest
from tests.services.kafka import Broker
from tests.services.log_places import KafkaPlace, broker, place, read_all
from tests.services.plain import assert_as_the_model_says
from tests.services.postgres import empty_database, stoppable_postgres
from tests.services.workers import (
    A_PERSON_DECIDES,
    append,
    is_done,
    position,
    settings_of_workers,
    wait_until,
    wait_until_done,
    workers,
)
from tests.standins.shaky import ShakyDatabase

A_MOMENT_OR_A_MINUTE = [1, pytest.param(60, marks=pytest.mark.long)]
ROOM_BYTES = 150_000
SENT = everyone(150)
BEFORE, MEANWHILE = SENT[::2], SENT[1::2]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/whetstone.db"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with contextlib.closing(Database(url)) as database:
        SQLModel.metadata.create_all(database.engine)
        yield database


@pytest.fixture(scope="module")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker("apache", tmp_path_factory.mktemp("kafka")) as running:
        assert running
        yield running


@pytest.mark.parametrize("away_s", A_MOMENT_OR_A_MINUTE)
def test_a_worker_waits_for_a_database_server_that_stopped_and_goes_on(tmp_path: Path, away_s: float) -> None:
    with (
        stoppable_postgres() as server,
        empty_database(server.url, "away") as url,
        contextlib.closing(Database(url)) as database,
        contextlib.closing(EmbeddedLog(tmp_path / "log.db", 4)) as log,
        workers(tmp_path, url, "one") as [worker],
    ):
        SQLModel.metadata.create_all(database.engine)
        worker.start()
        append(log, BEFORE)
        wait_until(lambda: position(database) > 0, [worker])
        server.stop()
        append(log, MEANWHILE)
        wait_until(lambda: "waits" in worker.said, [worker])
        time.sleep(away_s)
        assert worker.running
        server.start()
        wait_until_done(database, log, [worker])
        assert worker.end() == 0
        assert_as_the_model_says(database, SENT, settings_of_workers())
        database.engine.dispose()


@pytest.mark.parametrize("away_s", A_MOMENT_OR_A_MINUTE)
def test_a_worker_waits_for_kafka_that_was_killed_and_goes_on(
    tmp_path: Path, url: str, database: Database, apache: Broker, away_s: float
) -> None:
    here = place(apache, tmp_path)
    assert isinstance(here, KafkaPlace)
    with contextlib.closing(here.open()) as log, workers(tmp_path, url, "one", **here.environment) as [worker]:
        worker.start()
        append(log, BEFORE)
        wait_until(lambda: position(database) > 0, [worker])
        apache.kill()
        time.sleep(away_s)
        assert worker.running
        apache.start()
        append_again_and_again(log, MEANWHILE)
        wait_until_done(database, log, [worker])
        assert worker.end() == 0
    assert_as_the_model_says(database, SENT, settings_of_workers())


def append_again_and_again(log: EventLog, events: Sequence[Event]) -> None:
    """As a client does that is not acknowledged: some of the events may be in the log twice."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return append(log, events)
        except LogUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.parametrize("kind", ["embedded", "apache"])
@pytest.mark.parametrize("is_running", [True, False], ids=["while the worker reads", "while it is away"])
def test_a_log_deleted_and_made_anew_stops_the_worker_with_a_clear_sentence(
    tmp_path: Path, url: str, database: Database, kind: str, is_running: bool, request: pytest.FixtureRequest
) -> None:
    here = place(request.getfixturevalue("apache") if kind == "apache" else None, tmp_path)
    more = here.environment if isinstance(here, KafkaPlace) else {}
    with workers(tmp_path, url, "one", **more) as [worker]:
        worker.start()
        with contextlib.closing(here.open()) as log:
            append(log, BEFORE)
            wait_until_done(database, log, [worker])
        kept = position(database)
        if not is_running:
            worker.end()
        here.remove()
        with contextlib.closing(here.open()) as log:
            append(log, MEANWHILE)
            if not is_running:
                worker.start()
            assert worker.wait() == A_PERSON_DECIDES
    assert "stops: " in worker.said
    assert "belong to" in worker.said or "was filled from event log" in worker.said
    assert position(database) == kept
    assert_as_the_model_says(database, BEFORE, settings_of_workers())


def test_a_worker_that_loses_its_partitions_in_mid_batch_stores_nothing_of_it(
    tmp_path: Path, url: str, database: Database, apache: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pairing.worker")
    settings, here = settings_of_workers(), place(apache, tmp_path)
    with contextlib.closing(here.open()) as log, contextlib.closing(ShakyDatabase(url)) as of_first:
        append(log, BEFORE)
        with contextlib.closing(Worker(settings, of_first, log, "one")) as first:
            read_to_the_end(first, database, log)
            append(log, MEANWHILE)
            overtaken: list[Worker] = []

            def another_of_the_same_name_gets_them() -> None:
                overtaken.append(Worker(settings, database, log, "one"))
                read_to_the_end(overtaken[0], database, log)

            of_first.at(1, another_of_the_same_name_gets_them)  # polled, and about to begin its transaction
            deadline = time.monotonic() + 60
            while not overtaken and time.monotonic() < deadline:
                first.turn()
            with contextlib.closing(overtaken[0]), pytest.raises(MemberReplaced):
                read_to_the_end(first, of_first, log, always=True)
    assert "reads again: OffsetMoved" in caplog.text
    assert_as_the_model_says(database, SENT, settings)


def read_to_the_end(worker: Worker, database: Database, log: EventLog, always: bool = False) -> None:
    deadline = time.monotonic() + 60
    while (always or not is_done(database, log)) and time.monotonic() < deadline:
        worker.turn()


def test_a_worker_whose_disk_is_full_waits_and_goes_on_once_there_is_room(tmp_path: Path, url: str, database: Database) -> None:
    limit = (tmp_path / "whetstone.db").stat().st_size + ROOM_BYTES

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    with contextlib.closing(EmbeddedLog(tmp_path / "log.db", 4)) as log, workers(tmp_path, url, "one") as [worker]:
        append(log, SENT)
        worker.start(no_room)
        wait_until(lambda: "waits" in worker.said, [worker])
        assert not is_done(database, log)
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_until_done(database, log, [worker])
    assert_as_the_model_says(database, SENT, settings_of_workers())


def test_ingest_on_a_full_disk_acknowledges_nothing_that_is_not_kept(tmp_path: Path) -> None:
    with ingest(tmp_path) as service:
        service.start()
        service.wait_for("/readyz", 200)
        assert service.process
        limit = ROOM_BYTES + max(file.stat().st_size for file in tmp_path.glob("log.db*"))
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        answers: dict[str, int] = {}
        while 503 not in answers.values():
            answers |= send(service, f"before-{len(answers)}")
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        service.wait_for("/readyz", 200)
        answers |= send(service, "after")
        assert answers["after"] == 202
    with contextlib.closing(EmbeddedLog(tmp_path / "log.db", 4)) as log:
        held = b"".join(one.value for one in read_all(log, sum(log.end_offsets().values()))).decode()
    assert {event_id for event_id, status in answers.items() if status == 202} <= {id_ for id_ in answers if f'"{id_}"' in held}


def send(service: Ingest, event_id: str) -> dict[str, int]:
    """The status of the answer, by the event's id."""
    return {event_id: service.send({**EXAMPLES["edit"], "event_id": event_id, "saved": "x" * 5_000}).status_code}
