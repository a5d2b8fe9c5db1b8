"""A user is forgotten: over the real API, the real embedded log and real databases, whatever comes first and whatever dies."""

import contextlib
import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text as sql
from sqlmodel import SQLModel, func, select
from starlette.testclient import TestClient

from ingest.app import create_app
from ingest.database import Database
from ingest.events import UNDATED, Event, canonical
from ingest.keys import SCOPES, KeyRing, create_key
from ingest.log import LogUnavailable, NewRecord
from ingest.log.embedded import EmbeddedLog
from ingest.settings import ErasureSettings, RetentionSettings, Settings, TaskSettings
from pairing.holdout import splitter
from pairing.tables import AskedPrompt, Erasure, LateRecord, Retention, StoredEvent
from pairing.tombstones import ErasureKeyChanged
from pairing.worker import Worker
from tests.services.feedback import (
    PROMPT,
    START,
    TASK,
    acceptance,
    choice,
    edit,
    event,
    generation,
    held,
    preference,
    record,
    ref,
    regeneration,
)
from tests.services.ledger import Ledger, everything, ledger, settings_for
from tests.standins.log import MemoryLog
from trainer import plan
from trainer.schedule import Rounds

SECRET = "the sea is made of marmalade"
ANN = "ann-7f3a"
WITHIN_S = 30


def of_ann() -> list[Event]:
    """One event of every kind that holds content, and some that name Ann's generations."""
    mine = {"user": ANN}
    return [
        generation("a1", SECRET, "beta", prompt=SECRET + "?", **mine),
        choice("a-choice", ref("a1", 1), ref("a1"), ref("a1", 1), **mine),
        edit("a-edit", "a1", SECRET + "!", **mine),
        generation("a2", "gamma " + SECRET, **mine),
        regeneration("a-again", "a2", "shared", **mine),
        acceptance("a-kept", "shared", **mine),
        preference("a-pair", SECRET, "delta", prompt=[{"role": "user", "content": SECRET}], **mine),
        event("rating", "a-rating", reply=ref("a1"), thumb="up", tags={"why": SECRET}, **mine),
        acceptance("a-carried", "a3", generation=held("a3", SECRET), **mine),
    ]


def of_others() -> list[Event]:
    return [
        generation("shared", "alpha", "beta", user="bob"),
        choice("b-choice", ref("shared"), ref("shared"), ref("shared", 1), user="bob"),
        choice("b-of-ann", ref("a1"), ref("a1"), ref("a1", 1), user="bob"),
        preference("b-pair", "one", "two", user=None),
    ]


def erasure(event_id: str = "forget", **fields: str) -> Event:
    return event("erasure", event_id, at=5, user=ANN, **fields)


@dataclass
class Installation:
    """The real API before the real log before a real worker, all in one directory."""

    directory: Path
    settings: Settings
    database: Database
    log: EmbeddedLog
    client: TestClient
    key: str

    def send(self, *events: Event) -> None:
        body = {"events": [json.loads(canonical(one)) for one in events]}
        answer = self.client.post("/v1/feedback/batch", json=body, headers={"Authorization": f"Bearer {self.key}"})
        assert answer.status_code == 202, answer.text

    def work(self, turns: int = 4) -> None:
        with contextlib.closing(Worker(self.settings, self.database, self.log, "one")) as worker:
            for _ in range(turns):
                worker.turn()

    def files_with(self, said: str) -> list[str]:
        return sorted(path.name for path in self.directory.rglob("*") if path.is_file() and said.encode() in path.read_bytes())

    def proof(self) -> Erasure:
        with self.database.read() as session:
            return session.exec(select(Erasure)).one()


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    settings = settings_for().model_copy(update={"data_dir": tmp_path})
    database, log = Database(f"sqlite:///{tmp_path}/whetstone.db"), EmbeddedLog(tmp_path / "log.db", 4)
    SQLModel.metadata.create_all(database.engine)
    with database.begin() as session:
        key = create_key(session, "test", ["*"], SCOPES)
    api = create_app(Settings(tasks=settings.tasks), log, KeyRing(database), now=lambda: START + timedelta(days=1))
    with TestClient(api, base_url="http://localhost:8401") as client:
        yield Installation(tmp_path, settings, database, log, client, key)
    database.close()


def test_what_an_erased_user_wrote_is_in_no_file_any_more(installation: Installation) -> None:
    installation.send(*of_ann()[:5], *of_others())
    installation.work()
    installation.log.expire(0, {})
    assert installation.database.truncate_wal()
    installation.send(*of_ann()[5:])
    installation.work()
    assert installation.files_with(SECRET) == ["log.db", "log.db-wal", "whetstone.db", "whetstone.db-wal"]
    installation.send(erasure())
    installation.work()
    assert installation.files_with(SECRET) == []
    assert installation.files_with(ANN) in (["log.db"], ["log.db-wal"])  # the erasure's own record, for replays
    proof = installation.proof()
    assert (proof.task, proof.event_id, proof.events, proof.log) == (TASK, "forget", len(of_ann()), "removed")
    assert proof.erased_at is not None


def test_what_comes_later_from_an_erased_user_is_kept_nowhere(installation: Installation) -> None:
    installation.send(erasure())
    installation.work()
    installation.send(*of_others(), *of_ann())
    installation.work()
    assert installation.files_with(SECRET) == []
    assert installation.proof().events == len(of_ann())
    with installation.database.read() as session:
        assert not session.exec(select(LateRecord)).all()


def test_what_an_erased_user_sends_twice_in_a_row_is_kept_nowhere_either(installation: Installation) -> None:
    """As a client does that was not answered in time: both records may be read at once."""
    installation.send(erasure())
    installation.work()
    installation.send(*of_ann(), *of_ann())
    installation.work()
    assert installation.files_with(SECRET) == []


def test_what_is_too_old_and_came_twice_in_a_row_is_kept_nowhere_either(installation: Installation) -> None:
    installation.settings = installation.settings.model_copy(update={"tasks": expiring(2).tasks | {"other": TaskSettings()}})
    installation.work()
    installation.send(*of_ann(), *of_ann())
    installation.work()
    assert installation.files_with(SECRET) == []


def test_others_keep_what_is_theirs(installation: Installation) -> None:
    installation.send(*of_ann(), *of_others(), erasure())
    installation.work()
    with ledger(settings=installation.settings) as without:
        without.add(*of_others())
        wanted = {one["id"] for one in everything(without.database)["pairs"].values()}
    found = everything(installation.database)
    assert found["pairs"].keys() == wanted
    assert found["outcomes"][TASK, "b-of-ann"] == "waiting-for-generation"
    with installation.database.read() as session:
        prompts = session.exec(select(AskedPrompt.prompt)).all()
    assert prompts == [json.dumps(PROMPT)]


def test_an_erasure_is_not_done_while_somebody_still_reads_what_was(installation: Installation) -> None:
    installation.send(*of_ann())
    installation.work()
    with contextlib.closing(sqlite3.connect(installation.directory / "whetstone.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        installation.send(erasure())
        installation.work()
        assert installation.proof().erased_at is None
    installation.work()
    assert installation.proof().erased_at is not None
    assert installation.files_with(SECRET) == []


def test_evaluations_that_repeat_an_erased_users_prompt_go_with_it(installation: Installation) -> None:
    asked = generation("a1", "alpha", prompt=SECRET, user=ANN)
    installation.send(asked, judged("judged", SECRET), judged("kept", "Another one."), erasure())
    installation.work()
    assert installation.files_with(SECRET) == []
    assert installation.files_with("Another one.") != []


def judged(id_: str, prompt: object) -> Event:
    """The record of a reply that was written to judge an adapter."""
    return event("generation", id_, user=None, purpose="evaluation", **held(id_, "beta", prompt=prompt))


def test_evaluations_that_ask_an_erased_users_text_as_a_message_go_with_it(installation: Installation) -> None:
    installation.send(acceptance("a", "a1", generation=held("a1", "alpha", prompt=SECRET), user=ANN))
    installation.send(judged("judged", [{"role": "user", "content": SECRET}]), erasure())
    installation.work()
    assert installation.files_with(SECRET) == []


@pytest.mark.parametrize("prompt", [SECRET, [{"role": "user", "content": SECRET}]])
def test_evaluations_under_way_when_a_user_is_erased_are_kept_nowhere(installation: Installation, prompt: object) -> None:
    installation.send(generation("a1", "alpha", prompt=prompt, user=ANN), erasure())
    installation.work()
    installation.send(judged("late", [{"role": "user", "content": SECRET}]), judged("kept", "Another one."))
    installation.work()
    assert installation.files_with(SECRET) == []
    assert installation.files_with("Another one.") != []
    with installation.database.read() as session:
        assert not session.exec(select(LateRecord)).all()


def test_an_evaluation_that_comes_between_an_erasure_and_the_prompt_that_it_repeats_goes(installation: Installation) -> None:
    """As where a log is read again, partition by partition."""
    for one in (erasure(), judged("early", SECRET), generation("a1", "alpha", prompt=SECRET, user=ANN)):
        installation.send(one)
        installation.work()
    assert installation.files_with(SECRET) == []
    assert installation.proof().erased_at is not None


def test_a_round_that_judged_by_an_erased_users_prompt_loses_it_though_its_last_evaluations_come_late(
    installation: Installation,
) -> None:
    side = splitter(installation.settings.holdout)
    secret = next(prompt for n in range(99) if side(prompt := f"{SECRET} {'so ' * n}") == "holdout")
    installation.send(generation("a1", "alpha", prompt=secret, user=ANN), preference("p", "one", "two"))
    installation.work()
    trains = Settings.model_validate({"data_dir": installation.directory, "tasks": {TASK: {"trigger": {"min_new_pairs": 100}}}})
    with installation.database.begin() as session:
        round_ = plan.open_round(session, trains, TASK, START)
        assert plan.publish(session, trains, plan.freeze(session, trains, round_))
        round_.state = "refused"
    assert "manifest.json" in installation.files_with(SECRET)
    installation.send(erasure())
    installation.work()
    installation.send(judged("late", [{"role": "user", "content": secret}]))
    installation.work()
    rounds = Rounds(trains, installation.database, lambda: START)
    rounds.turn()
    rounds.stop()
    assert installation.files_with(SECRET) == []
    assert installation.proof().rounds_at is not None


def test_what_another_user_asks_as_an_erased_one_did_is_theirs_and_so_are_its_evaluations(installation: Installation) -> None:
    installation.send(generation("a1", "alpha", prompt="Why is that?", user=ANN), erasure())
    installation.work()
    installation.send(generation("b1", "alpha", prompt="Why is that?", user="bob"))
    installation.work()
    installation.send(judged("later", "Why is that?"))
    installation.work()
    assert everything(installation.database)["outcomes"][TASK, "later"] == "evaluation"


def dumped(database: Database) -> str:
    """Every value of every table."""
    with database.read() as session:
        return str([session.execute(sql(f'SELECT * FROM "{table}"')).all() for table in SQLModel.metadata.tables])


@pytest.mark.parametrize("seed", range(4))
def test_no_order_of_arrival_leaves_anything_of_an_erased_user(url: str, seed: int) -> None:
    chance = random.Random(seed)
    sent = [*of_ann(), *of_others(), erasure(), *of_ann()]
    chance.shuffle(sent)
    with ledger(url) as here, ledger() as at_once:
        while sent:
            here.add(*sent[:3])
            sent = sent[3:]
        at_once.add(*of_ann(), *of_others(), erasure())
        assert everything(here.database) == everything(at_once.database)
        assert SECRET not in dumped(here.database)
        assert ANN not in dumped(here.database)
        here.database.engine.dispose()


def test_a_user_with_many_events_is_forgotten_in_many_small_steps(url: str) -> None:
    sent = [generation(f"g{n}", SECRET, "beta", user=ANN) for n in range(25)]
    sent += [choice(f"c{n}", ref(f"g{n}"), ref(f"g{n}"), ref(f"g{n}", 1), user=ANN) for n in range(25)]
    with ledger(url) as here:
        here.add(*sent)
        assert here.pairs()
        here.log.append([record(erasure())]).result()
        with contextlib.closing(Worker(here.settings, here.database, here.log, "one")) as worker:
            worker._remover.most_events = 4
            worker.turn()
            assert held_back(here) > 0
            for _ in range(10):
                worker.turn()
        assert (here.pairs(), held_back(here)) == ([], 0)
        assert proofs(here)[0].events == 50
        here.database.engine.dispose()


def held_back(here: Ledger) -> int:
    with here.database.read() as session:
        return session.exec(select(func.count()).where(StoredEvent.body != "")).one()


def proofs(here: Ledger) -> Sequence[Erasure]:
    with here.database.read() as session:
        return session.exec(select(Erasure)).all()


class Stubborn(MemoryLog):
    """A log that cannot be cleaned for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.cleaned = False

    def forget(self, *args: object) -> int:
        if not self.cleaned:
            raise LogUnavailable("somebody reads")
        return super().forget(*args)  # type: ignore[arg-type]


def test_a_removal_goes_on_after_a_restart_where_it_was(url: str) -> None:
    with ledger(url) as here:
        here.log = log = Stubborn()
        here.add(*of_ann(), erasure())
        assert SECRET not in dumped(here.database)
        assert proofs(here)[0].erased_at is None
        assert any(SECRET.encode() in one.value for one in log.records)
        log.cleaned = True
        here.add()  # another worker
        assert proofs(here)[0].erased_at is not None
        assert not any(SECRET.encode() in one.value for one in log.records)
        assert ANN not in dumped(here.database)
        here.database.engine.dispose()


def test_dead_letters_of_an_erased_user_go(url: str) -> None:
    wrong = {"type": "edit", "event_id": "x", "task": TASK, "user": ANN, "saved": SECRET}
    lost = [edit("same", "shared", text, user=who) for text, who in ((SECRET, ANN), (SECRET, "bob"), ("hers", ANN))]
    with ledger(url) as here:
        here.add_records([NewRecord(b"k", json.dumps(wrong).encode())])
        here.add(*lost)
        assert len(here.dead()) == 3
        here.add(erasure())
        here.add_records([NewRecord(b"k", json.dumps(wrong | {"event_id": "later"}).encode())])
        assert [json.loads(letter.value)["user"] for letter in here.dead()] == ["bob"]
        assert here.outcome("same") == "erased"
        here.database.engine.dispose()


def test_a_log_that_is_read_again_into_an_empty_database_erases_again(installation: Installation, tmp_path: Path) -> None:
    installation.send(*of_ann(), *of_others(), erasure())
    installation.work()
    with contextlib.closing(Database(f"sqlite:///{tmp_path}/second.db")) as second:
        SQLModel.metadata.create_all(second.engine)
        with contextlib.closing(Worker(installation.settings, second, installation.log, "two")) as worker:
            for _ in range(4):
                worker.turn()
        assert everything(second)["pairs"] == everything(installation.database)["pairs"]
        assert everything(second)["dead"] == []
        with second.read() as session:
            assert session.exec(select(Erasure.user_hash)).all() == [installation.proof().user_hash]


def expiring(days: float | None) -> Settings:
    task = TaskSettings(retention=RetentionSettings(days=days))
    return settings_for().model_copy(update={"tasks": {TASK: task}})


def test_events_older_than_the_task_keeps_them_lose_their_content(url: str) -> None:
    old = [generation("g", SECRET, "beta", user=None), choice("c", ref("g"), ref("g"), ref("g", 1))]
    new_at = (datetime.now(START.tzinfo) - START).total_seconds()
    new = [generation("h", "alpha", "beta", at=new_at), choice("d", ref("h"), ref("h"), ref("h", 1), at=new_at)]
    imported = preference("import:1", "good", "bad", at=(UNDATED - START).total_seconds())
    with ledger(url, expiring(None)) as here:
        here.add(*old, *new, imported)
        assert len(here.pairs()) == 3
        here.settings = expiring(2)
        here.add()
        assert here.pairs() == [("alpha", "beta"), ("good", "bad")]
        assert (here.outcome("g"), here.outcome("c"), here.outcome("d")) == ("expired", "expired", "paired")
        assert SECRET not in dumped(here.database)
        here.add(edit("late", "h", SECRET, at=1))
        assert here.outcome("late") == "expired"
        assert SECRET not in dumped(here.database)
        with here.database.read() as session:
            assert session.exec(select(Retention)).one().done_at is not None
        here.database.engine.dispose()


def test_what_a_task_keeps_no_longer_is_in_no_file_though_another_task_keeps_everything(installation: Installation) -> None:
    tasks = {TASK: expiring(2).tasks[TASK], "other": TaskSettings()}
    installation.settings = installation.settings.model_copy(update={"tasks": tasks})
    kept = event("preference", "kept", task="other", prompt="What stays?", chosen="This stays.", rejected="That.")
    installation.send(*of_others(), generation("old", SECRET, user=None), kept)
    installation.work()
    assert installation.files_with(SECRET) == []
    installation.send(edit("late", "old", SECRET, user="bob"))
    installation.work()
    assert installation.files_with(SECRET) == []
    assert installation.files_with("This stays.") != []


def test_what_has_grown_too_old_unread_is_read_and_loses_its_content_then(url: str) -> None:
    """As by a worker that was away for longer than the task keeps events."""
    with ledger(url, expiring(2)) as here:
        here.settings = here.settings.model_copy(update={"pairing": settings_for(batch_events=1).pairing})
        here.log.append([record(preference(f"p{n}", "good", SECRET, prompt=f"Why {n}?")) for n in range(9)]).result()
        for partition in here.log._partitions:
            partition.records = [one._replace(timestamp_ms=int(START.timestamp() * 1000)) for one in partition.records]
        with contextlib.closing(Worker(here.settings, here.database, here.log, "one")) as worker:
            for _ in range(30):
                worker.turn()
        assert everything(here.database)["outcomes"] == {(TASK, f"p{n}"): "expired" for n in range(9)}
        assert not any(SECRET.encode() in one.value for one in here.log.records)
        assert SECRET not in dumped(here.database)
        here.database.engine.dispose()


def test_another_erasure_key_stops_the_worker_with_what_to_do(url: str) -> None:
    with ledger(url) as here:
        here.add(erasure())
        changed = here.settings.model_copy(update={"erasure": ErasureSettings(key=SecretStr("another"))})
        with pytest.raises(ErasureKeyChanged, match="Put the old key back"):
            Worker(changed, here.database, here.log, "one")
        here.database.engine.dispose()
