"""The pairing worker over real databases and real processes: killed, doubled, fed nonsense."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel, func, select

from ingest.database import Database
from ingest.events import Event
from ingest.log import EventLog, NewRecord
from ingest.log.embedded import EmbeddedLog
from pairing.outcomes import DeadReason
from pairing.tables import DeadLetter, Mark, Offset
from pairing.worker import Worker
from tests.services.feedback import TASK, choice, crowd, generation, record, ref
from tests.services.ledger import everything, ledger, settings_for
from tests.services.log_places import KafkaPlace, broker, place
from tests.services.postgres import database_away, empty_database, postgres
from tests.standins.log import MemoryLog

KILLS = 8
DONE_WITHIN_S = 60
SETTINGS = f"""
[holdout]
key = "a key"

[erasure]
key = "a key"

[pairing]
batch_events = 50

[tasks.{TASK}]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/whetstone.db"
        return
    with empty_database(request.getfixturevalue("server"), f"test{os.urandom(4).hex()}") as empty:
        yield empty


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    SQLModel.metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    with contextlib.closing(EmbeddedLog(tmp_path / "log.db", 4)) as log:
        yield log


@contextlib.contextmanager
def worker(directory: Path, url: str, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    (directory / "whetstone.toml").write_text(SETTINGS)
    environment = {
        "WHETSTONE_CONFIG": str(directory / "whetstone.toml"),
        "WHETSTONE_DATA_DIR": str(directory),
        "WHETSTONE_DATABASE_URL": url,
    }
    command = [sys.executable, "-c", "from pairing.cli import pairing; pairing()", "work"]
    process = subprocess.Popen(command, env=os.environ | environment | more, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


def append(log: EventLog, events: list[Event]) -> None:
    log.append([record(event) for event in events]).result()


def wait_until_done(database: Database, log: EventLog) -> None:
    deadline = time.monotonic() + DONE_WITHIN_S
    while not is_done(database, log):
        assert time.monotonic() < deadline, "the worker did not get through the log"
        time.sleep(0.1)


def is_done(database: Database, log: EventLog) -> bool:
    ends = {partition: end for partition, end in log.end_offsets().items() if end}
    with database.read() as session:
        offsets = {row.partition: row.next for row in session.exec(select(Offset)).all()}
        return offsets == ends and session.exec(select(func.count()).select_from(Mark)).one() == 0


def test_a_worker_killed_at_any_moment_loses_and_doubles_nothing(
    url: str, database: Database, log: EmbeddedLog, tmp_path: Path
) -> None:
    sent, chance = crowd(900), random.Random(7)
    share = len(sent) // KILLS
    for number in range(KILLS):
        append(log, sent[number * share : (number + 1) * share])
        before = position(database)
        with worker(tmp_path, url):
            while position(database) == before:  # until it works on something
                time.sleep(0.01)
            time.sleep(chance.random() * 0.3)
    append(log, sent[KILLS * share :])
    with worker(tmp_path, url) as last:
        wait_until_done(database, log)
        last.send_signal(signal.SIGTERM)
        assert last.wait(timeout=10) == 0
    with ledger() as at_once:
        assert everything(database) == everything(at_once.add(*sent).database)


def position(database: Database) -> int:
    with database.read() as session:
        return sum(session.exec(select(Offset.next)).all())


def test_workers_that_each_hold_half_of_a_chain_make_the_pairs_of_one(url: str, database: Database) -> None:
    sent, memory, settings = crowd(300, seed=3), MemoryLog(), settings_for(batch_events=20)
    append(memory, sent)
    with ExitStack() as stack:
        workers = [Worker(settings, database, memory, name) for name in ("one", "two", "three")]
        threads = [threading.Thread(target=run_to_the_end, args=(each, database, memory)) for each in workers]
        for each, thread in zip(workers, threads, strict=True):
            stack.callback(each.close)
            thread.start()
        for thread in threads:
            thread.join()
    assert is_done(database, memory)
    with ledger() as at_once:
        assert everything(database) == everything(at_once.add(*sent).database)


def run_to_the_end(worker: Worker, database: Database, log: EventLog) -> None:
    deadline = time.monotonic() + DONE_WITHIN_S
    while not is_done(database, log) and time.monotonic() < deadline:
        with contextlib.suppress(OperationalError):  # as the loop around a worker does: deadlocks are tried again
            worker.turn()


def test_a_record_that_is_no_event_becomes_a_dead_letter_and_holds_nobody_up(
    url: str, database: Database, log: EmbeddedLog, tmp_path: Path
) -> None:
    nonsense = [b"", b"\xff\x00", b'{"type":"poem"}', b"[" * 5_000, b'{"type":"choice","event_id":"c"}']
    log.append([NewRecord(b"g", value) for value in nonsense]).result()
    append(log, [generation("g", "alpha", "beta"), choice("c", ref("g"), ref("g"), ref("g", 1))])
    with worker(tmp_path, url):
        wait_until_done(database, log)
    with database.read() as session:
        letters = session.exec(select(DeadLetter)).all()
    assert {letter.value for letter in letters} == set(nonsense)
    assert {letter.reason for letter in letters} == {DeadReason.INVALID}
    assert len(everything(database)["pairs"]) == 1


def test_another_log_stops_the_worker_with_what_to_do(url: str, database: Database, log: EmbeddedLog, tmp_path: Path) -> None:
    with database.begin() as session:
        session.add(Offset(log_id="an older log", partition=0, next=5))
    with worker(tmp_path, url) as process:
        assert process.wait(timeout=DONE_WITHIN_S) == 3
        assert process.stderr
        assert b"an older log" in process.stderr.read()


def test_a_task_that_the_settings_get_later_is_paired_then(url: str, database: Database) -> None:
    with ledger(url, settings_for(tasks=["other"])) as early:
        early.add(generation("g", "alpha", "beta"), choice("c", ref("g"), ref("g"), ref("g", 1)))
        assert (early.pairs(), early.outcome("c")) == ([], "unknown-task")
        early.settings = settings_for()
        assert early.add().pairs() == [("alpha", "beta")]


def test_the_worker_waits_for_a_database_that_is_away_and_goes_on(server: str, tmp_path: Path, log: EmbeddedLog) -> None:
    with empty_database(server, "away") as url, contextlib.closing(Database(url)) as database:
        SQLModel.metadata.create_all(database.engine)
        append(log, [generation("g", "alpha", "beta")])
        with worker(tmp_path, url) as process:
            wait_until_done(database, log)
            database.engine.dispose()
            with database_away(server, "away"):
                append(log, [choice("c", ref("g"), ref("g"), ref("g", 1))])
                time.sleep(1)
                assert process.poll() is None
            wait_until_done(database, log)
        assert len(everything(database)["pairs"]) == 1
        database.engine.dispose()


@pytest.mark.parametrize("kind", ["noida", "apache"])
def test_a_worker_killed_over_kafka_goes_on_where_it_was(kind: str, tmp_path: Path) -> None:
    url, sent = f"sqlite:///{tmp_path}/whetstone.db", crowd(300)
    with broker(kind, tmp_path / "kafka") as running, contextlib.closing(Database(url)) as database:
        SQLModel.metadata.create_all(database.engine)
        here = place(running, tmp_path)
        assert isinstance(here, KafkaPlace)
        kafka = {f"WHETSTONE_KAFKA_{name.upper()}": getattr(here.settings, name) for name in ("bootstrap", "topic", "group")}
        with contextlib.closing(here.open()) as log:
            append(log, sent[::2])
            with worker(tmp_path, url, WHETSTONE_LOG="kafka", **kafka):
                while not position(database):
                    time.sleep(0.01)
            append(log, sent[1::2])
            with worker(tmp_path, url, WHETSTONE_LOG="kafka", **kafka):
                wait_until_done(database, log)
        with ledger() as at_once:
            assert everything(database) == everything(at_once.add(*sent).database)
