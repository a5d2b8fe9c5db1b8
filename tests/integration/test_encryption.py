"""What users say on Kafka is encrypted under keys of their own: pairs stay the same, and an erasure leaves nothing to be read."""

import contextlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from sqlalchemy import text as sql
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel, select
from starlette.testclient import TestClient

from ingest.app import create_app
from ingest.database import Database
from ingest.erasure import tombstone
from ingest.events import Event, GenerationEvent, canonical
from ingest.keys import SCOPES, KeyRing, create_key
from ingest.log import EventLog, NewRecord, Record, open_log
from ingest.sealing import Sealer, sealer
from ingest.settings import KafkaSettings, PairingSettings, Settings
from ingest.user_keys import UserKey, UserKeys
from pairing.opening import is_sealed, opened
from pairing.replay import replay
from pairing.tables import Erasure, StoredEvent
from pairing.worker import Worker
from serving.gateway.shipping import Shipper
from serving.gateway.spool import Spool, SpoolFile, oldest
from tests.services.feedback import START, TASK, choice, edit, event, generation, preference, record, ref
from tests.services.kafka import Broker
from tests.services.ledger import Ledger, everything, ledger, settings_for
from tests.services.log_places import place, read_all

SECRET = "the sea is made of marmalade"
KEPT = "the sea is made of water"
ANN = "ann-7f3a"
WITHIN_S = 30


def of_ann() -> list[Event]:
    return [
        generation("a1", SECRET, "beta", prompt=SECRET + "?", user=ANN),
        choice("a-choice", ref("a1", 1), ref("a1"), ref("a1", 1), user=ANN, tags={"why": SECRET}),
        edit("a-edit", "a1", SECRET + "!", user=ANN),
        preference("a-pair", SECRET, "delta", user=ANN),
        generation("a-judged", "gamma", prompt=SECRET + "?", purpose="evaluation", user=ANN),  # by the gate, as of her
    ]


def of_others() -> list[Event]:
    return [
        generation("shared", "alpha", "beta", user="bob"),
        choice("b-choice", ref("shared"), ref("shared"), ref("shared", 1), user="bob"),
        choice("b-of-ann", ref("a1"), ref("a1"), ref("a1", 1), user="bob"),
        preference("b-pair", KEPT, "two", user=None),
    ]


def erasure() -> Event:
    return event("erasure", "forget", at=5, user=ANN)


def dumped(database: Database) -> str:
    """Every value of every table."""
    with database.read() as session:
        return str([session.execute(sql(f'SELECT * FROM "{table}"')).all() for table in SQLModel.metadata.tables])


def owners(database: Database) -> list[tuple[str, str]]:
    """Who has a key."""
    with database.read() as session:
        return [(row.task, row.user_hash) for row in session.exec(select(UserKey)).all()]


@pytest.fixture(params=["noida", "apache"])
def running(request: pytest.FixtureRequest) -> Broker:
    started: Broker = request.getfixturevalue(request.param)
    return started


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, f"did not become true within {WITHIN_S} s"
        time.sleep(0.001)


@dataclass
class Installation:
    """The real API and the gateway's spool before a real topic before a real worker."""

    directory: Path
    settings: Settings
    database: Database
    log: EventLog
    worker: Worker

    def send(self, *events: Event) -> None:
        """Generations come from the gateway, the others through ingest: each as a process that was just started."""
        self._ship([one for one in events if isinstance(one, GenerationEvent)])
        seal = sealer(self.settings, self.database)
        app = create_app(
            Settings(),
            self.log,
            KeyRing(self.database),
            lambda: START + timedelta(days=1),
            seal=seal,  # type: ignore[arg-type]
        )
        with self.database.begin() as session:
            key = create_key(session, "test", ["*"], SCOPES)
        body = {"events": [json.loads(canonical(one)) for one in events if not isinstance(one, GenerationEvent)]}
        client = TestClient(app, base_url="http://localhost:8401")  # not entered: the log stays open
        answer = client.post("/v1/feedback/batch", json=body, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 202, answer.text

    def _ship(self, generations: Sequence[Event]) -> None:
        spool = Spool(SpoolFile.create(self.directory / "spool", os.urandom(4).hex()), 10_000_000)
        waiting = [spool.put(NewRecord(*_as_spooled(one))) for one in generations]
        shipper = Shipper(spool, lambda: open_log(self.settings), sealer(self.settings, self.database))
        for one in waiting:
            one.result(5)
        with contextlib.closing(spool.file.connect(durable=False)) as connection:
            eventually(lambda: not oldest(connection)[1])
        shipper.close()

    def work(self) -> None:
        read_to_the_end(self.worker)

    def of_another_group(self) -> Settings:
        """To read the topic from its beginning."""
        kafka = self.settings.kafka.model_copy(update={"group": os.urandom(4).hex()})
        return self.settings.model_copy(update={"kafka": kafka})

    def topic(self) -> list[Record]:
        """Everything that the topic holds."""
        with contextlib.closing(open_log(self.of_another_group())) as log:
            return read_all(log, sum(log.end_offsets().values()))


def read_to_the_end(worker: Worker) -> None:
    """And do what follows."""
    eventually(lambda: worker.turn() or bool(worker.assigned))
    ends = {number: end for number, end in worker._log.end_offsets().items() if end}
    eventually(lambda: worker.turn() or all((worker._reader.next.get(number) or 0) >= end for number, end in ends.items()))
    worker._look_at = 0.0
    for _ in range(3):
        worker.turn()


def _as_spooled(one: Event) -> tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]:
    made = record(one)
    return made.key, made.value, (("received-at", b"2026-01-01T00:00:00+00:00"),)


@pytest.fixture
def installation(running: Broker, tmp_path: Path) -> Iterator[Installation]:
    kafka = place(running, tmp_path).settings.model_copy(update={"encrypt_users": True})  # type: ignore[attr-defined]
    assert isinstance(kafka, KafkaSettings)
    of_kafka = {"data_dir": tmp_path, "log": "kafka", "kafka": kafka, "pairing": PairingSettings()}
    settings = settings_for().model_copy(update=of_kafka)
    with contextlib.closing(Database(f"sqlite:///{tmp_path}/whetstone.db")) as database:
        SQLModel.metadata.create_all(database.engine)
        with contextlib.closing(open_log(settings)) as log:
            with contextlib.closing(Worker(settings, database, log, "one")) as worker:
                yield Installation(tmp_path, settings, database, log, worker)


def test_sealed_events_make_what_clear_ones_make_until_nobody_can_read_them(installation: Installation, tmp_path: Path) -> None:
    installation.send(*of_ann(), *of_others())
    installation.work()
    with ledger(settings=settings_for()) as clear:
        clear.add(*of_ann(), *of_others())
        assert everything(installation.database) == everything(clear.database)
        installation.send(erasure())
        installation.work()
        clear.add(erasure())
        clear.add()
        assert everything(installation.database) == everything(clear.database)

    with installation.database.read() as session:
        proof = session.exec(select(Erasure)).one()
    assert (proof.log, proof.events, proof.erased_at is not None) == ("encrypted", len(of_ann()), True)
    assert (TASK, proof.user_hash) not in owners(installation.database)
    assert len(owners(installation.database)) == 1

    topic = installation.topic()
    assert len(topic) == len(of_ann()) + len(of_others()) + 1
    assert not any(SECRET.encode() in one.value for one in topic)
    assert any(KEPT.encode() in one.value for one in topic)
    closed = [one for one in opened(installation.database, topic) if is_sealed(one)]
    assert len(closed) == len(of_ann())
    assert SECRET not in dumped(installation.database)

    with contextlib.closing(Database(f"sqlite:///{tmp_path}/second.db")) as second:
        SQLModel.metadata.create_all(second.engine)
        with installation.database.read() as kept, second.begin() as session:
            for row in (*kept.exec(select(Erasure)).all(), *kept.exec(select(UserKey)).all()):
                session.add(type(row)(**row.model_dump()))
        settings = installation.of_another_group()
        with contextlib.closing(open_log(settings)) as log, contextlib.closing(Worker(settings, second, log, "one")) as worker:
            read_to_the_end(worker)
        assert everything(second) == everything(installation.database)
        assert everything(second)["dead"] == []


def test_a_topic_on_disk_holds_nothing_of_users_in_clear(installation: Installation, running: Broker) -> None:
    installation.send(*of_ann(), *of_others(), erasure())
    installation.work()
    files = [path.read_bytes() for path in running.directory.rglob("*") if path.is_file()]
    files += [path.read_bytes() for path in installation.directory.rglob("*") if path.is_file()]
    assert any(KEPT.encode() in one for one in files)
    assert not any(SECRET.encode() in one for one in files)


def test_what_comes_later_from_an_erased_user_leaves_no_key_behind(installation: Installation) -> None:
    installation.send(erasure())
    installation.work()
    installation.send(*of_ann())
    assert len(owners(installation.database)) == 1  # ingest does not know
    installation.work()
    assert owners(installation.database) == []
    assert {everything(installation.database)["outcomes"][TASK, one.event_id] for one in of_ann()} == {"erased"}


@pytest.fixture
def here(url: str) -> Iterator[Ledger]:
    """A ledger on a real database."""
    with ledger(url) as empty:
        yield empty


def sealed(here: Ledger, *events: Event) -> list[NewRecord]:
    """By a process that was just started."""
    return Sealer(UserKeys(here.database), tombstone(here.settings.erasure))([record(one) for one in events])


@pytest.mark.parametrize("seed", range(2))
def test_no_order_of_arrival_of_sealed_events_changes_what_they_make(here: Ledger, seed: int) -> None:
    chance = random.Random(seed)
    sent = [*sealed(here, *of_ann(), *of_others(), erasure()), *sealed(here, *of_ann(), *of_others())]
    chance.shuffle(sent)
    while sent:
        here.add_records(sent[:3])
        sent = sent[3:]
    with ledger() as clear:
        clear.add(*of_ann(), *of_others(), erasure())
        clear.add()
        assert everything(here.database) == everything(clear.database)
    assert SECRET not in dumped(here.database)
    assert len(owners(here.database)) == 1
    with here.database.read() as session:
        assert session.exec(select(Erasure.events)).one() == len(of_ann())


def test_a_worker_killed_right_after_it_stored_an_erasure_loses_nothing_of_it(here: Ledger) -> None:
    here.add_records(sealed(here, *of_ann(), *of_others()))
    here.log.append(sealed(here, erasure())).result()
    killed = Worker(here.settings, here.database, here.log, "one")
    killed._take(killed._reader.take())  # type: ignore[arg-type]
    killed.close()
    assert len(owners(here.database)) == 1
    assert SECRET in dumped(here.database)
    here.add_records(sealed(here, *of_ann()[:1]))
    here.add()
    assert SECRET not in dumped(here.database)
    with here.database.read() as session:
        assert session.exec(select(Erasure.erased_at)).one() is not None


def test_what_cannot_be_opened_is_a_dead_letter_until_its_key_is_back(here: Ledger) -> None:
    records = sealed(here, *of_ann(), *of_others())
    broken = NewRecord(b"k", records[0].value[:-9], records[0].headers)
    with here.database.read() as session:
        keys = [row.model_dump() for row in session.exec(select(UserKey)).all()]
    with here.database.begin() as session:
        session.connection().execute(delete(UserKey))
    here.add_records([*records, broken])
    assert {letter.reason for letter in here.dead()} == {"unreadable"}
    assert here.pairs() == [(KEPT, "two")]
    with here.database.begin() as session:
        session.add_all([UserKey(**key) for key in keys])
    stayed = replay(here.database, here.settings, [letter.id for letter in here.dead()]).stayed
    assert [letter.value for letter in stayed] == [broken.value]
    here.add()
    with ledger() as clear:
        clear.add(*of_ann(), *of_others())
        assert everything(here.database)["pairs"] == everything(clear.database)["pairs"]


def test_while_keys_cannot_be_read_a_worker_waits_and_passes_nothing_over(tmp_path: Path) -> None:
    with ledger(f"sqlite:///{tmp_path}/whetstone.db") as here:
        here.log.append(sealed(here, *of_ann(), *of_others())).result()
        with contextlib.closing(Worker(here.settings, here.database, here.log, "one")) as worker:
            renamed(here.database, "user_keys", "away")
            with pytest.raises(OperationalError, match="user_keys"):
                worker.turn()
            renamed(here.database, "away", "user_keys")
            worker.turn()
        with ledger() as clear:
            clear.add(*of_ann(), *of_others())
            assert everything(here.database) == everything(clear.database)


def renamed(database: Database, table: str, name: str) -> None:
    with database.begin() as session:
        session.connection().exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")


def test_unreadable_records_of_a_user_who_is_erased_then_are_skeletons(here: Ledger) -> None:
    records = sealed(here, *of_ann())
    with here.database.begin() as session:
        session.connection().execute(update(UserKey).values(key=bytes(32)))
    here.add_records(records)
    assert len(here.dead()) == len(of_ann())
    here.add(erasure())
    here.add()
    assert here.dead() == []
    with here.database.read() as session:
        assert session.exec(select(Erasure.events)).one() == len(of_ann())
        skeletons = session.exec(select(StoredEvent).where(StoredEvent.outcome == "erased")).all()
    assert {one.event_id for one in skeletons} == {one.event_id for one in of_ann()}


def test_processes_that_meet_a_user_at_once_have_one_key(here: Ledger) -> None:
    wanted = [(TASK, str(number)) for number in range(100)]
    with ThreadPoolExecutor(4) as processes:
        parts = (wanted, wanted[::-1], wanted[50:], wanted)
        made = [processes.submit(UserKeys(here.database).of, part) for part in parts]
        found = [dict(one.result()) for one in made]
    assert all(one.items() <= found[0].items() for one in found)
