"""Whole rounds over real processes: scheduler, child with the real TRL, gateway, rollout, and the stand-in for vLLM."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest
from sqlmodel import select

from pairing.held import RECORD
from pairing.tables import EventGeneration
from tests.services.rounds import NOW, add_pairs, pair
from tests.services.serving import ROOT, Installation, end, eventually
from tests.standins.model import write_model
from trainer.scrub import hash_of
from trainer.seal import verify
from trainer.tables import Adapter, Release, Round

TASK, ADAPTER = "summarise", "summarise-r000001"
WITHIN_S = 150
SETTINGS = """
[model]
name = "{model}"

[trainer]
poll_s = 0.1
nice = 0

[tasks.summarise.trigger]
min_new_pairs = 20

[tasks.summarise.training]
epochs = {epochs}
batch_pairs = 2
max_length = {max_length}

[tasks.summarise.gate]
replies_per_prompt = 2

[[tasks.summarise.criteria]]
name = "by-adapter"                # the stand-in's replies begin with the name of the adapter that wrote them
type = "regex"
pattern = '{pattern}'
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with ExitStack() as stack:
        installation = Installation(tmp_path, stack)
        with installation.engine(), installation.gateway(), installation.rollout():
            yield installation


def configure(
    installation: Installation, model: Path, epochs: int = 2, max_length: int = 128, pattern: str = r"^\[summarise-r"
) -> None:
    with (installation.directory / "whetstone.toml").open("a") as file:
        file.write(SETTINGS.format(model=model, epochs=epochs, max_length=max_length, pattern=pattern))
    installation.environment["WHETSTONE_TRAINER_GATEWAY_KEY"] = installation.key
    installation.environment["OMP_NUM_THREADS"] = "1"  # threads that wait for each other on busy cores are many times slower


def feed(installation: Installation, pairs: int = 24) -> None:
    """Enough pairs for a round."""
    with installation.database.begin() as session:
        add_pairs(session, TASK, range(pairs))
        add_pairs(session, TASK, range(1000, 1012), "holdout")
        for number in range(1000, 1012):
            held = {"prompt_hash": hash_of(pair(number)), "evaluation": False, "user": f"user-{number}", "place": RECORD}
            session.add(EventGeneration(task=TASK, generation_id=f"g{number}", event_id=f"g{number}", **held))


@contextmanager
def scheduler(installation: Installation) -> "Iterator[subprocess.Popen[bytes]]":
    line = [sys.executable, "-c", "from trainer.cli import trainer; trainer()", "schedule"]
    process = subprocess.Popen(line, cwd=ROOT, env=installation.environment, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)


def child_of(scheduler: "subprocess.Popen[bytes]") -> psutil.Process | None:
    return next(iter(psutil.Process(scheduler.pid).children()), None)


def rounds(installation: Installation) -> list[Round]:
    with installation.database.read() as session:
        return list(session.exec(select(Round)).all())


def releases(installation: Installation) -> list[Release]:
    with installation.database.read() as session:
        return list(session.exec(select(Release)).all())


def progress(installation: Installation) -> tuple[str, int, int]:
    try:
        told = json.loads((installation.directory / "rounds" / ADAPTER / "progress.json").read_text())
    except FileNotFoundError:
        return "", 0, 0
    return told["phase"], told["step"], told["steps"]


def wait_for_state(installation: Installation, *states: str) -> Round:
    eventually(lambda: [round_.state for round_ in rounds(installation)][:1] in [[state] for state in states], None, WITHIN_S)
    return rounds(installation)[0]


def test_a_better_candidate_is_trained_sealed_judged_and_goes_live(installation: Installation, model: Path) -> None:
    configure(installation, model)
    feed(installation)
    with scheduler(installation):
        round_ = wait_for_state(installation, "passed", "refused", "failed")
        assert (round_.state, round_.error) == ("passed", None)
        eventually(lambda: bool(releases(installation)[0].live_at))
    assert round_.verdict
    assert "by-adapter rose from 0.0% to 100.0%" in round_.verdict["reasons"][0]
    (release,) = releases(installation)
    assert (release.adapter, release.reason, release.asked_by) == (ADAPTER, "gate", "gate")
    with installation.database.read() as session:
        adapter = session.get_one(Adapter, ADAPTER)
    assert not adapter.wanted
    assert set(verify(Path(adapter.path)).lineage) >= {"parent", "base_model", "pairs", "training", "round_manifest_sha256"}
    manifest = json.loads((installation.directory / "rounds" / ADAPTER / "manifest.json").read_text())
    assert datetime.fromisoformat(manifest["last_event_at"]) == NOW + timedelta(hours=23)
    assert progress(installation) == ("passed", 1, 1)
    judged = [one for one in installation.generations().values() if one.purpose == "evaluation"]
    assert {one.user for one in judged} == {f"user-{number}" for number in range(1000, 1012)}  # who asked those prompts


def test_a_worse_candidate_is_refused_and_the_same_pairs_start_no_second_round(installation: Installation, model: Path) -> None:
    configure(installation, model, pattern=r"^\[base")
    feed(installation)
    with scheduler(installation):
        round_ = wait_for_state(installation, "passed", "refused", "failed")
        assert round_.state == "refused"
        time.sleep(1)
    assert round_.verdict
    assert "by-adapter fell from 100.0% to 0.0%" in round_.verdict["reasons"][0]
    assert releases(installation) == []
    assert len(rounds(installation)) == 1


@pytest.mark.parametrize("killed", ["child", "scheduler"])
def test_a_round_killed_in_the_middle_of_training_goes_on_from_its_checkpoint(
    installation: Installation, model: Path, killed: str
) -> None:
    configure(installation, model, epochs=10)  # 120 steps
    feed(installation)
    with ExitStack() as stack:
        first = stack.enter_context(scheduler(installation))
        eventually(lambda: progress(installation)[1] >= 30, first, WITHIN_S)
        child = child_of(first)
        assert child
        os.kill(child.pid if killed == "child" else first.pid, signal.SIGKILL)
        child.wait(5)  # dies with its scheduler
        reached = progress(installation)[1]
        assert not (installation.directory / "adapters" / ADAPTER).exists()
        if killed == "scheduler":
            first.wait()
            stack.enter_context(scheduler(installation))
        steps = steps_until_trained(installation)
        round_ = wait_for_state(installation, "passed", "refused", "failed")
    assert (round_.state, round_.attempts) == ("passed", 2)
    assert min(steps) > reached - 20  # checkpoints are ten steps apart
    with installation.database.read() as session:
        verify(Path(session.get_one(Adapter, ADAPTER).path))
    assert [path.name for path in (installation.directory / "adapters").iterdir()] == [ADAPTER]


def steps_until_trained(installation: Installation) -> set[int]:
    """The steps of training that are told from now on."""
    before = progress(installation)
    seen = set()
    deadline = time.monotonic() + WITHIN_S
    while rounds(installation)[0].state == "training" and time.monotonic() < deadline:
        phase, step, steps = now = progress(installation)
        if phase == "training" and steps > 1 and now != before:
            seen.add(step)
        time.sleep(0.005)
    return seen


def test_a_stopped_scheduler_ends_its_child_within_seconds_and_the_attempt_does_not_count(
    installation: Installation, model: Path
) -> None:
    configure(installation, model, epochs=20)
    feed(installation)
    with scheduler(installation) as process, scheduler(installation) as standby:
        eventually(lambda: progress(installation)[1] >= 1, process, WITHIN_S)
        leads, waits = (process, standby) if child_of(process) else (standby, process)
        child = child_of(leads)
        assert child
        assert child_of(waits) is None  # one scheduler leads
        end(waits)
        end(leads)
        assert not child.is_running()
    assert [(round_.state, round_.attempts) for round_ in rounds(installation)] == [("training", 0)]


def test_a_round_that_cannot_be_trained_fails_with_its_reason(installation: Installation, model: Path) -> None:
    configure(installation, model, max_length=16)
    feed(installation)
    with scheduler(installation):
        round_ = wait_for_state(installation, "passed", "refused", "failed")
        time.sleep(0.5)
    assert round_.state == "failed"
    assert round_.error
    assert "training.max_length = 16" in round_.error
    assert len(rounds(installation)) == 1
