"""The pairing worker over real databases and real processes: doubled, fed nonsense, given another log, killed."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session, SQLModel, select

from ingest.database import Database
from ingest.events import Event, canonical, fingerprint
from ingest.log import EventLog, NewRecord
from ingest.log.embedded import EmbeddedLog
from ingest.log.partitioner import partition_of
from ingest.settings import Settings, TaskPairingSettings
from pairing.derive import try_lock
from pairing.outcomes import DeadReason
from pairing.rows import insert_all, inserting
from pairing.tables import AskedPrompt, DeadLetter, Offset
from pairing.worker import Worker
from tests.services.feedback import (
    TASK,
    acceptance,
    choice,
    event,
    everyone,
    generation,
    held,
    preference,
    record,
    ref,
    regeneration,
)
from tests.services.kafka import Broker
from tests.services.ledger import everything, ledger, settings_for
from tests.services.log_places import KafkaPlace, place
from tests.services.plain import assert_as_the_model_says
from tests.services.workers import (
    A_PERSON_DECIDES,
    DONE_WITHIN_S,
    append,
    is_done,
    position,
    settings_of_workers,
    wait_until,
    wait_until_done,
    workers,
)
from tests.standins.log import MemoryLog
from tests.standins.shaky import ShakyDatabase


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


def test_a_prompt_that_two_workers_store_at_once_is_there_once(database: Database) -> None:
    def insert(session: Session, task: str) -> None:
        row = (task, "a" * 64, '"Describe rain."', "train")
        insert_all(session, AskedPrompt, ("task", "hash", "prompt", "split"), [row])

    def store(task: str) -> None:
        with database.begin() as session:
            insert(session, task)

    with ThreadPoolExecutor(1) as other:
        with database.begin() as session:
            insert(session, TASK)
            second = other.submit(store, TASK)
            assert not wait([second], 0.3).done  # it does not know yet whether it may
        with pytest.raises(IntegrityError):
            second.result()
    store(f"{TASK}-of-others")


def test_postgres_goes_on_with_what_it_inserts_while_something_else_is_gone_through(on_postgres: str) -> None:
    """More than a socket holds by itself."""
    rows = [(TASK, f"{number:064}", "a prompt " * 100, "train") for number in range(5_000)]
    with contextlib.closing(Database(on_postgres)) as database, contextlib.closing(Database(on_postgres)) as observer:
        SQLModel.metadata.create_all(database.engine)
        with (
            observer.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as seen,  # else it sees one state for ever
            database.begin() as session,
            inserting(session, AskedPrompt, ("task", "hash", "prompt", "split"), rows) as tend,
        ):
            deadline, gone_through, there = time.monotonic() + DONE_WITHIN_S, [], 0
            for value in tend(itertools.count()):
                gone_through.append(value)
                if value % 1_000 == 0:
                    progress = text("SELECT max(tuples_processed) FROM pg_stat_progress_copy WHERE datname = current_database()")
                    there = seen.execute(progress).scalar_one() or 0
                if there > len(rows) - 100 or time.monotonic() > deadline:
                    break
        assert there > len(rows) - 100  # the last few are sent at the end
        assert gone_through == list(range(len(gone_through)))


def test_workers_that_each_hold_half_of_a_chain_or_of_a_vote_make_the_pairs_of_one(url: str, database: Database) -> None:
    sent, memory = everyone(150, seed=3), MemoryLog()
    settings = settings_of_workers().model_copy(update={"pairing": settings_for(batch_events=20).pairing})
    append(memory, sent)
    with ExitStack() as stack:
        readers = [Worker(settings, database, memory, name) for name in ("one", "two", "three")]
        threads = [threading.Thread(target=run_to_the_end, args=(each, database, memory)) for each in readers]
        for each, thread in zip(readers, threads, strict=True):
            stack.callback(each.close)
            thread.start()
        for thread in threads:
            thread.join()
    assert is_done(database, memory)
    assert_as_the_model_says(database, sent, settings)


def run_to_the_end(worker: Worker, database: Database, log: EventLog) -> None:
    deadline = time.monotonic() + DONE_WITHIN_S
    while not is_done(database, log) and time.monotonic() < deadline:
        with contextlib.suppress(OperationalError):  # as the loop around a worker does: deadlocks are tried again
            worker.turn()


def test_a_record_that_is_no_event_becomes_a_dead_letter_and_holds_nobody_up(
    url: str, database: Database, log: EmbeddedLog, tmp_path: Path
) -> None:
    nonsense = [b"", b"\xff\x00", b'{"type":"poem"}', b"[" * 5_000, b'{"type":"choice","event_id":"c"}']
    carrying = choice("odd", ref("o"), ref("o"), ref("o", 1), generation=held("o", "alpha", "beta", adapter="ADAPTER"))
    nonsense.append(canonical(carrying).replace(b"ADAPTER", b"a\\u0000b"))  # PostgreSQL has no such text
    log.append([NewRecord(b"g", value) for value in nonsense]).result()
    append(log, [generation("g", "alpha", "beta"), choice("c", ref("g"), ref("g"), ref("g", 1))])
    with workers(tmp_path, url, "one") as [worker]:
        worker.start()
        wait_until_done(database, log, [worker])
    with database.read() as session:
        letters = session.exec(select(DeadLetter)).all()
    assert {letter.value for letter in letters} == set(nonsense)
    assert {letter.reason for letter in letters} == {DeadReason.INVALID}
    assert len(everything(database)["pairs"]) == 1


def test_another_log_stops_the_worker_with_what_to_do(url: str, database: Database, log: EmbeddedLog, tmp_path: Path) -> None:
    with database.begin() as session:
        session.add(Offset(log_id="an older log", partition=0, next=5))
    with workers(tmp_path, url, "one") as [worker]:
        worker.start()
        assert worker.wait() == A_PERSON_DECIDES
        assert "an older log" in worker.said


def test_a_task_that_the_settings_get_later_is_paired_then(url: str, database: Database) -> None:
    with ledger(url, settings_for(tasks=["other"])) as early:
        early.add(generation("g", "alpha", "beta"), choice("c", ref("g"), ref("g"), ref("g", 1)))
        assert (early.pairs(), early.outcome("c")) == ([], "unknown-task")
        early.settings = settings_for()
        assert early.add().pairs() == [("alpha", "beta")]


def test_what_comes_while_another_worker_derives_is_derived_afterwards(on_postgres: str) -> None:
    with ledger(on_postgres) as kept:
        kept.add()
        with kept.database.begin() as deriving:
            assert try_lock(deriving, TASK, alone=False)
            kept.add(
                generation("g", "alpha", "beta"), choice("c", ref("g"), ref("g"), ref("g", 1)), preference("p", "one", "two")
            )
            assert (kept.pairs(), kept.outcome("c"), kept.outcome("p")) == ([], *["waiting-for-generation"] * 2)
        assert kept.add().pairs() == [("alpha", "beta"), ("one", "two")]
        kept.database.engine.dispose()


def test_a_worker_with_settings_of_yesterday_derives_nothing_by_them(url: str, database: Database) -> None:
    """As in a rolling restart: the new settings are in force, and a worker still has the old ones."""
    old, new = (settings_for(TaskPairingSettings(regeneration=which)) for which in ("first", "each"))
    chain = [
        *(generation(f"g{n}", f"reply {n}") for n in (1, 2, 3)),
        regeneration("r1", "g1", "g2"),
        regeneration("r2", "g2", "g3"),
    ]
    with ledger(url, new) as kept, contextlib.closing(Worker(old, database, kept.log, "yesterday's")) as late:
        append(kept.log, chain)
        take_turns(late)
        kept.add()
        append(kept.log, [acceptance("a", "g3")])
        take_turns(late)
        late.close()
        assert kept.add().pairs() == [("reply 3", "reply 1"), ("reply 3", "reply 2")]


def test_what_a_worker_derives_by_old_settings_while_new_ones_come_into_force_is_derived_again(on_postgres: str) -> None:
    old, new = (settings_for(TaskPairingSettings(regeneration=which)) for which in ("first", "each"))
    with ledger(on_postgres, new) as kept:
        with contextlib.closing(ShakyDatabase(on_postgres)) as late, contextlib.closing(ShakyDatabase(on_postgres)) as early:
            for moment in (8, 12, 16):
                with contextlib.closing(Worker(old, late, kept.log, "one")) as yesterday:
                    take_turns(yesterday)
                    append(kept.log, chain(f"{moment} "))
                    late.at(moment, lambda: start(new, early, kept.log))
                    take_turns(yesterday)
                kept.add()
                assert [pair.chosen for pair in kept.rows() if f"{moment} " in pair.chosen] == [f'"{moment} 3"'] * 2
        kept.database.engine.dispose()


def test_a_body_that_another_worker_replaces_while_this_one_reads_ends_neither(on_postgres: str) -> None:
    """The body that loses holds the generation, the one that stays does not: tried at each moment of the reading."""
    with ledger(on_postgres) as kept, contextlib.closing(ShakyDatabase(on_postgres)) as shaky, ExitStack() as stack:
        one, two = (
            stack.enter_context(contextlib.closing(Worker(kept.settings, shaky, kept.log, name))) for name in ("one", "two")
        )
        sent: list[Event] = []

        def send(to: Worker, sending: Event) -> None:
            keys = (f"key {number}".encode() for number in itertools.count())
            key = next(key for key in keys if partition_of(key, kept.log.partitions) in to.assigned)
            kept.log.append([record(sending)._replace(key=key)]).result()
            sent.append(sending)

        for moment in range(1, 25):
            g = f"g{moment}"
            loses = choice(f"e{moment}", ref(g), ref(g), ref(g, 1), generation=held(g, "alpha", "beta"))
            others = (event("rating", f"e{moment}", reply=ref("h"), thumb="up", at=at) for at in itertools.count())
            stays = next(other for other in others if fingerprint(canonical(other)) < fingerprint(canonical(loses)))
            send(two, loses)
            take_turns(two)
            send(one, choice(f"c{moment}", ref(g, 1), ref(g), ref(g, 1), user="bob"))
            send(two, stays)
            shaky.at(moment, two.turn)
            take_turns(one)
            shaky.at(None, two.turn)
            take_turns(two)
        take_turns(one)
        assert_as_the_model_says(kept.database, sent, kept.settings)


def chain(name: str) -> list[Event]:
    """The third reply is kept, and two are thrown away."""
    ids = [f"{name}{number}" for number in (1, 2, 3)]
    links = [regeneration(f"{name}first", *ids[:2]), regeneration(f"{name}second", *ids[1:])]
    return [*(generation(id_, id_, prompt=name) for id_ in ids), *links, acceptance(f"{name}kept", ids[2])]


def start(settings: Settings, database: Database, log: MemoryLog) -> None:
    """A worker that starts, and ends; what is locked keeps it from that."""
    with contextlib.suppress(OperationalError):
        Worker(settings, database, log, "two").close()


def take_turns(worker: Worker) -> None:
    for _ in range(5):
        worker.turn()


def test_a_worker_killed_over_a_small_broker_goes_on_where_it_was(tmp_path: Path, noida: Broker) -> None:
    url, sent = f"sqlite:///{tmp_path}/whetstone.db", everyone(300)
    with contextlib.closing(Database(url)) as database:
        SQLModel.metadata.create_all(database.engine)
        here = place(noida, tmp_path)
        assert isinstance(here, KafkaPlace)
        with contextlib.closing(here.open()) as log, workers(tmp_path, url, "one", **here.environment) as [worker]:
            append(log, sent[::2])
            worker.start()
            wait_until(lambda: position(database) > 0, [worker])
            worker.kill()
            append(log, sent[1::2])
            worker.start()
            wait_until_done(database, log, [worker])
        assert_as_the_model_says(database, sent, settings_of_workers())
