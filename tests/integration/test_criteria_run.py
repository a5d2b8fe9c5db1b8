"""`whetstone criteria run` over a real gateway, a real feedback API and a real event log; a stand-in is behind the gateway."""

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select

from ingest.events import ScoreEvent, event_adapter
from ingest.log.embedded import EmbeddedLog
from ingest.settings import Settings, TaskSettings
from pairing.tables import Pair, StoredEvent
from pairing.worker import Worker
from tests.services.ingest import Ingest, ingest
from tests.services.ledger import settings_for
from tests.services.serving import Installation, eventually
from tests.standins.judge import StandinJudge, judge

ROOT = Path(__file__).parents[2]
CRITERIA = """
[[tasks.summarise.criteria]]
name = "first-one"
type = "regex"
pattern = '#0\\]'

[[tasks.summarise.criteria]]
name = "always-fails"
type = "python"
function = "operator:truediv"

[[tasks.summarise.criteria]]
name = "kinder"
type = "judge"
judge_url = "{url}"
judge_model = "j"
instruction = "The second candidate is kinder than any other."
"""
ASKED = ("What is rain?", "What is snow?", "What is hail?", "What is rain?")


class Running(Installation):
    """An installation whose criteria can be run, with a worker that stores what its log holds."""

    def ready(self, stack: ExitStack) -> "Running":
        self.judge: StandinJudge = stack.enter_context(judge(_second_is_kinder))
        criteria = CRITERIA.format(url=self.judge.url)
        self.criteria = TaskSettings.model_validate(tomllib.loads(criteria)["tasks"]["summarise"]).criteria
        with (self.directory / "whetstone.toml").open("a") as settings:
            settings.write(criteria)
        self.ingest: Ingest = stack.enter_context(ingest(self.directory))
        self.ingest.start()
        self.environment |= {
            "WHETSTONE_URL": self.ingest.url,
            "WHETSTONE_KEY": self.new_key(["summarise"], ["inference", "criterion"]),
        }
        stack.enter_context(self.engine())
        stack.enter_context(self.gateway())
        return self

    def score(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "deploy.cli", "criteria", "run", *arguments]
        whole = self.environment | environment
        return subprocess.run(line, cwd=ROOT, env=whole, capture_output=True, text=True, timeout=60, check=False)

    def paired(self) -> None:
        """Let a worker read to the end of the log."""
        settings = Settings.model_construct(
            **(settings_for().__dict__ | {"tasks": {"summarise": TaskSettings(criteria=self.criteria), "other": TaskSettings()}})
        )
        log = EmbeddedLog(self.directory / "log.db", partitions=4)
        with closing(log), closing(Worker(settings, self.database, log, "one")) as worker:
            for _ in range(3):
                worker.turn()

    def stored(self, kind: str) -> list[Any]:
        with self.database.read() as session:
            rows = session.exec(select(StoredEvent).where(StoredEvent.type == kind).order_by(col(StoredEvent.event_id))).all()
        return [event_adapter.validate_json(row.body) for row in rows]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An installation that somebody has asked something."""
    with ExitStack() as stack:
        installation = Running(tmp_path_factory.mktemp("criteria"), stack).ready(stack)
        for number, question in enumerate(ASKED):
            asked: Any = {"model": "summarise", "messages": [{"role": "user", "content": question}], "user": f"user-{number}"}
            installation.client().chat.completions.create(**asked)
        installation.client().chat.completions.create(
            model="summarise",
            messages=[{"role": "user", "content": "A gate."}],
            extra_headers={"X-Whetstone-Purpose": "evaluation"},
        )
        eventually(lambda: len(installation.generations()) == len(ASKED) + 1)
        installation.paired()
        yield installation


def test_scores_of_fresh_replies_to_what_people_asked_reach_the_log_and_become_pairs(running: Running) -> None:
    told = running.score("summarise", "--candidates", "3", "--json")
    assert told.returncode == 0, told.stderr
    summary = json.loads(told.stdout)
    assert (summary["prompts"], summary["candidates"], summary["with_margin"], summary["refused"]) == (3, 9, 3, 0)
    assert summary["criteria"]["first-one"] == {"scores": 9, "mean": pytest.approx(1 / 3), "with_margin": 3, "failed": 0}
    assert summary["criteria"]["kinder"] == {"scores": 9, "mean": pytest.approx(0.5), "with_margin": 3, "failed": 0}
    assert summary["criteria"]["always-fails"]["failed"] == 3
    assert "Criterion always-fails: its function raised TypeError" in summary["failures"]["always-fails"]

    running.paired()
    scores: list[ScoreEvent] = running.stored("score")
    assert {(one.criterion, one.reply.candidate): one.value for one in scores} == {
        ("first-one", 0): 1,
        ("first-one", 1): 0,
        ("first-one", 2): 0,
        ("kinder", 0): 0.25,
        ("kinder", 1): 1,
        ("kinder", 2): 0.25,
    }
    assert len(scores) == 3 * 6
    with running.database.read() as session:
        pairs = session.exec(select(Pair).where(Pair.source == "criterion")).all()
    assert [("#0]" in pair.chosen, "#2]" in pair.rejected) for pair in pairs] == [(True, True)] * 3
    assert {(one.by, one.user, one.task) for one in scores} == {("criterion", None, "summarise")}


def test_fresh_replies_are_traffic_of_whoever_asked_last_so_that_forgetting_a_person_reaches_them(running: Running) -> None:
    eventually(lambda: len(running.generations()) == len(ASKED) + 1 + 3)
    fresh = [one for one in running.generations().values() if len(one.candidates) == 3]
    assert {one.purpose for one in fresh} == {"traffic"}
    assert {(one.prompt[0].content, one.user) for one in fresh} == {
        ("What is rain?", "user-3"),
        ("What is snow?", "user-1"),
        ("What is hail?", "user-2"),
    }


def test_a_person_reads_a_summary_of_so_many_prompts_as_were_asked_for(running: Running) -> None:
    told = running.score("summarise", "--prompts", "1", COLUMNS="100")
    assert "4 replies to 1 prompts are scored; 1 of the prompts have a margin." in told.stdout
    assert "its function raised TypeError" in told.stdout


def test_an_unknown_key_is_told_which_scopes_one_needs(running: Running) -> None:
    told = running.score("summarise", WHETSTONE_KEY="wsk_unknown")
    assert (told.returncode, told.stdout) == (2, "")
    assert "needs the scopes inference and criterion" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_key_that_may_not_score_is_told_so_and_nothing_is_scored(running: Running) -> None:
    before = len(running.generations())
    told = running.score("summarise", "--prompts", "1", WHETSTONE_KEY=running.new_key(["summarise"], ["inference"]))
    assert told.returncode == 2
    assert "The feedback API answers 403" in told.stderr
    eventually(lambda: len(running.generations()) == before + 1)


def test_a_judge_that_stays_away_leaves_no_generation_half_scored(running: Running) -> None:
    running.paired()
    before = len(running.stored("score"))
    running.judge.first += [503] * 1_000
    told = running.score("summarise", "--candidates", "2")
    running.judge.first.clear()
    assert told.returncode == 2
    assert "Criterion kinder: the judge at" in told.stderr
    running.paired()
    assert len(running.stored("score")) == before


def test_a_run_that_is_interrupted_says_so_and_may_be_run_again(running: Running) -> None:
    running.judge.first, running.judge.retry_after_ms = [503], 30_000
    line = [sys.executable, "-m", "deploy.cli", "criteria", "run", "summarise"]
    process = subprocess.Popen(line, cwd=ROOT, env=running.environment, stderr=subprocess.PIPE, text=True)
    eventually(lambda: not running.judge.first, process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Stopped." in told
    assert "Traceback" not in told


def _second_is_kinder(a: str, b: str) -> str:
    return "A" if "#1]" in a else "B" if "#1]" in b else "tie"
