"""The whole loop over all its processes, whatever is killed: real feedback, pairs and training; a stand-in for vLLM answers."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI, OpenAIError
from sqlmodel import col, func, select

from deploy.service import Service
from deploy.status import Status
from ingest.database import Database
from ingest.log import NewRecord
from ingest.log.embedded import EmbeddedLog
from pairing.outcomes import Outcome
from pairing.tables import DeadLetter, Pair, StoredEvent
from tests.services.ports import free_ports
from tests.standins.model import write_model
from trainer.explain import AdapterFound, EventFound, PairFound
from trainer.explain_reading import find
from trainer.tables import Release, Round

PATIENCE_S = 240
TASK = "short"
ENOUGH = 60
"""Visits after which the trigger is reached, whichever of them are held out."""
# The stand-in's replies begin with the name of the adapter that wrote them: the criterion holds for adapters, not for the base.
SETTINGS = """
[model]
name = "{model}"
max_length = 256
[engine]
module = "tests.standins.vllm"
[trainer]
poll_s = 0.5
[tasks.short.trigger]
min_new_pairs = 24
[tasks.short.training]
epochs = 1
batch_pairs = 4
max_length = 256
[tasks.short.gate]
replies_per_prompt = 2
min_length_ratio = 0.1
[[tasks.short.criteria]]
name = "by-an-adapter"
type = "regex"
pattern = "short-r0"
"""
SUBJECTS = (
    "river bread bicycle rain moon library honey volcano snow coffee bridge piano heart forest salt train glass garden cheese "
    "desert island paper clock chess kitchen wool lighthouse apple school map soap whale wind camera rice castle spider tea "
    "elephant gold violin market ocean butterfly mountain chocolate candle penguin mirror tractor museum sugar umbrella tree "
    "battery farm novel telescope bakery dolphin balloon rainbow cotton submarine compass engine potato robot tiger wedding "
    "waterfall pencil orchestra passport horse thunderstorm carpet beach bee lake ship factory winter shadow doctor cave magnet"
).split()


class Person:
    """A client of a running service: asks, saves a reply edited, and tries again when told to."""

    def __init__(self, service: Service, environment: dict[str, str]) -> None:
        self.service = service
        self.environment = environment
        keys = json.loads((service.data_dir / "keys.json").read_text())
        self._headers = {"Authorization": f"Bearer {keys['app']}"}
        self._ingest = f"http://127.0.0.1:{environment['WHETSTONE_INGEST_PORT']}"
        gateway = f"http://127.0.0.1:{environment['WHETSTONE_GATEWAY_PORT']}/v1"
        self._client = OpenAI(base_url=gateway, api_key=keys["app"], max_retries=0)
        self.database = Database(f"sqlite:///{service.data_dir}/whetstone.db")

    def ask(self, subject: str, candidates: int = 1) -> tuple[str, str]:
        """The generation's id and the name of the adapter that answered."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                raw = self._client.chat.completions.with_raw_response.create(
                    model=TASK, n=candidates, messages=[{"role": "user", "content": f"Tell me about the {subject}."}]
                )
                return raw.parse().id, raw.headers["x-whetstone-adapter"]
            except OpenAIError:
                assert time.monotonic() < deadline, "the gateway never answered"
                time.sleep(0.5)

    def send(self, event: dict[str, Any]) -> int:
        """The status of the first answer that is not 503."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = httpx.post(f"{self._ingest}/v1/feedback", json=event, headers=self._headers, timeout=30)
                if answer.status_code != 503:
                    return answer.status_code
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "ingest never answered"
            time.sleep(0.5)

    def edit(self, generation_id: str, subject: str) -> dict[str, Any]:
        return event("edit", reply={"generation_id": generation_id}, saved=f"A {subject} is a thing that people know well.")

    def visit(self, subject: str) -> None:
        """Ask and save the reply edited: one pair."""
        generation_id, _ = self.ask(subject)
        assert self.send(self.edit(generation_id, subject)) == 202

    def choose(self, subject: str) -> None:
        """Pick the second of two replies: one pair."""
        generation_id, _ = self.ask(subject, candidates=2)
        shown = [{"generation_id": generation_id, "candidate": number} for number in range(2)]
        assert self.send(event("choice", shown=shown, picked=shown[1])) == 202

    def regenerate(self, subject: str) -> None:
        """Ask again, and keep what came: the stand-in says the same again."""
        thrown_away, kept = ({"generation_id": self.ask(subject)[0]} for _ in range(2))
        assert self.send(event("regeneration", reply=thrown_away, replacement=kept["generation_id"])) == 202
        assert self.send(event("acceptance", reply=kept)) == 202

    def types(self) -> set[str]:
        """Of the events that are stored."""
        with self.database.read() as session:
            return set(session.exec(select(StoredEvent.type).distinct()).all())

    def pairs(self) -> int:
        with self.database.read() as session:
            return session.exec(select(func.count()).select_from(Pair)).one()

    def round(self) -> Round | None:
        with self.database.read() as session:
            return session.exec(select(Round)).first()


def event(kind: str, **fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"type": kind, "event_id": str(uuid.uuid4()), "task": TASK, "user": "someone", "occurred_at": now, **fields}


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


def kill(service: Service, name: str) -> None:
    """SIGKILL to the process itself, and wait until the supervisor has started another."""
    process = _status(service).named(name)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: _status(service).named(name).restarts > process.restarts, f"{name} is started again")


def _status(service: Service) -> Status:
    found = service.status()
    assert found
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(
    params=[
        "embedded",
        pytest.param(
            "kafka", marks=pytest.mark.skipif("KAFKA_HOME" not in os.environ, reason="KAFKA_HOME names no Apache Kafka")
        ),
    ]
)
def person(request: pytest.FixtureRequest, tmp_path: Path, model: Path) -> Iterator[Person]:
    settings = tmp_path / "whetstone.toml"
    settings.write_text(SETTINGS.format(model=model))
    gateway, ingest = free_ports(2)
    environment = {
        "WHETSTONE_CONFIG": str(settings),
        "WHETSTONE_DATA_DIR": str(tmp_path / "data"),
        "WHETSTONE_LOG": request.param,
        "WHETSTONE_HOLDOUT_KEY": "a known key holds out the same subjects in every run",
        "WHETSTONE_HOLDOUT_SHARE": "0.3",
        "WHETSTONE_GATEWAY_PORT": str(gateway),
        "WHETSTONE_INGEST_PORT": str(ingest),
        "OMP_NUM_THREADS": "1",  # threads that wait for each other on busy cores are many times slower
    }
    with Service(environment, ready_timeout_s=PATIENCE_S) as service:
        person = Person(service, environment)
        yield person
        person.database.close()


def test_the_loop_ends_with_a_better_adapter_live_whatever_is_killed_on_the_way(person: Person) -> None:
    service, subjects = person.service, iter(SUBJECTS)
    kafka = ["kafka"] if any(process.name == "kafka" for process in _status(service).processes) else []
    sent = 0
    for name in ["pairing", "ingest", "gateway", "engine", "rollout", *kafka]:
        for subject in (next(subjects), next(subjects)):
            person.visit(subject)
            sent += 1
        kill(service, name)
    while sent < ENOUGH:
        person.visit(next(subjects))
        sent += 1
    until(lambda: getattr(person.round(), "attempts", 0), "a round at work")
    kill(service, "trainer")
    until(lambda: getattr(person.round(), "state", None) not in ("planned", "training", "sealed"), "a verdict")
    round_ = person.round()
    assert round_ is not None
    assert round_.state == "passed", round_.verdict or round_.error
    assert round_.attempts >= 2
    until(lambda: _live(person) == round_.adapter, "the new adapter is live")
    kill(service, "engine")
    assert person.ask(next(subjects))[1] == round_.adapter
    until(lambda: person.pairs() == sent, f"{sent} pairs, each once")
    person.choose(next(subjects))
    person.regenerate(next(subjects))
    until(lambda: person.types() == {"generation", "edit", "choice", "regeneration", "acceptance"}, "every event is stored")
    assert_everything_is_explained(person, round_.adapter)


def test_feedback_counts_once_whenever_and_however_often_it_arrives(person: Person) -> None:
    generation_id, _ = person.ask("river")
    again = person.edit(generation_id, "river")
    assert [person.send(again), person.send(again)] == [202, 202]
    early = {"generation_id": "made-by-the-app", "prompt": "What is salt?", "candidates": [{"reply": "It is a white mineral."}]}
    assert person.send(person.edit("made-by-the-app", "salt")) == 202
    until(lambda: person.pairs() == 1, "a pair of the first")
    assert person.send(event("acceptance", reply={"generation_id": "made-by-the-app"}, generation=early)) == 202
    until(lambda: person.pairs() == 2, "a pair of the second")


@pytest.mark.parametrize("person", ["embedded"], indirect=True)  # whose file takes a record from a test beside the service
def test_what_can_never_be_an_event_becomes_a_dead_letter_and_holds_nobody_up(person: Person) -> None:
    log = EmbeddedLog(person.service.data_dir / "log.db", 4)
    for key in range(8):  # every partition gets one
        log.append([NewRecord(str(key).encode(), b'{"type": "no such thing %d"}' % key)]).result(timeout=10)
    log.close()
    person.visit("river")
    until(lambda: person.pairs() == 1, "the pair behind the dead letters")
    with person.database.read() as session:
        letters = session.exec(select(DeadLetter)).all()
    assert len(letters) == 8
    assert all(letter.reason for letter in letters)


def assert_everything_is_explained(person: Person, adapter: str) -> None:
    """By `whetstone explain`: every event that is stored, every pair, and the adapter."""
    with person.database.read() as session:
        events = session.exec(select(StoredEvent.event_id)).all()
        pairs = session.exec(select(Pair.id)).all()
        found = {id_: find(session, id_, most_pairs=100) for id_ in (*events, *pairs, adapter)}
    outcomes = set()
    for [one] in (found[id_] for id_ in events):
        assert isinstance(one, EventFound)
        assert one.meaning == Outcome(one.outcome).meaning != ""
        outcomes.add(one.outcome)
    assert outcomes == {"recorded", "evaluation", "paired", "same-text"}
    for [pair] in (found[id_] for id_ in pairs):
        assert isinstance(pair, PairFound)
        assert {behind.event_id for behind in pair.events} <= found.keys()
    [made] = found[adapter]
    assert isinstance(made, AdapterFound)
    assert {behind.id for behind in made.shown} <= found.keys()
    commands = [_explain(person, id_) for id_ in (events[0], pairs[0], adapter)]
    told = [json.loads(command.communicate(timeout=PATIENCE_S)[0]) for command in commands]
    assert [one["kind"] for [one] in told] == ["event", "pair", "adapter"]


def _explain(person: Person, id_: str) -> subprocess.Popen[bytes]:
    """The command itself."""
    command = [sys.executable, "-m", "deploy.cli", "explain", id_, "--json"]
    return subprocess.Popen(command, env=os.environ | person.environment, stdout=subprocess.PIPE)


def _live(person: Person) -> str | None:
    with person.database.read() as session:
        query = select(Release.adapter).where(col(Release.live_at).is_not(None)).order_by(col(Release.id).desc())
        return session.exec(query).first()
