"""Pairing workers as processes: started, killed and started again under the same name."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlmodel import func, select

from ingest.database import Database
from ingest.events import Event
from ingest.log import EventLog, LogUnavailable
from ingest.settings import CriterionSettings, Settings
from pairing.tables import LateRecord, Mark, Offset, Removal
from tests.services.feedback import TASK, record
from tests.services.kafka import _end_with_parent
from tests.services.ledger import settings_for

ROOT = Path(__file__).parents[2]
WORK = [sys.executable, "-c", "from pairing.cli import pairing; pairing()", "work", "--member"]
DONE_WITHIN_S = 60
A_PERSON_DECIDES = 3
"""The exit status of a worker that must not be started again by itself."""
_TOML = f"""
[holdout]
key = "a key"

[erasure]
key = "a key"

[pairing]
batch_events = 50

[tasks.{TASK}]
criteria = [{{ name = "short", type = "word_limit", max_words = 5 }}]
"""


def settings_of_workers() -> Settings:
    """What the plain model must know of the settings that the processes read."""
    base = settings_for()
    short = CriterionSettings(name="short", type="word_limit", max_words=5)
    return base.model_copy(update={"tasks": {TASK: base.tasks[TASK].model_copy(update={"criteria": (short,)})}})


class WorkerProcess:
    """A worker of this name, not yet started. What it logs is in NAME.log."""

    def __init__(self, directory: Path, name: str, url: str, more: Mapping[str, str]) -> None:
        (directory / "whetstone.toml").write_text(_TOML)
        self.name = name
        self._log = directory / f"{name}.log"
        self._environment = os.environ | {
            "WHETSTONE_CONFIG": str(directory / "whetstone.toml"),
            "WHETSTONE_DATA_DIR": str(directory),
            "WHETSTONE_DATABASE_URL": url,
            **more,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def reads(self) -> bool:
        """Whether it has come so far since its last start."""
        return self.running and "reads as" in self.said[self._said_before :]

    @property
    def said(self) -> str:
        """Everything that it logged."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self, before: Callable[[], None] = _end_with_parent) -> None:
        """`before` runs in the process before it becomes the worker."""
        self._said_before = len(self.said)
        with self._log.open("ab") as log:
            command = [*WORK, self.name]
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stderr=log, preexec_fn=before)

    def end(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its exit status."""
        assert self._process
        self._process.send_signal(with_signal)
        return self._process.wait(DONE_WITHIN_S)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def wait(self) -> int:
        """Its exit status, once it ends by itself."""
        assert self._process
        return self._process.wait(DONE_WITHIN_S)


@contextmanager
def workers(directory: Path, url: str, *names: str, **more: str) -> Iterator[Sequence[WorkerProcess]]:
    """Workers of these names, not yet started. None outlives the block."""
    made = [WorkerProcess(directory, name, url, more) for name in names]
    try:
        yield made
    finally:
        for one in made:
            one.kill()


def append(log: EventLog, events: Sequence[Event]) -> None:
    log.append([record(event) for event in events]).result(DONE_WITHIN_S)


def position(database: Database) -> int:
    """How much of the log is stored."""
    with database.read() as session:
        return sum(session.exec(select(Offset.next)).all())


def is_done(database: Database, log: EventLog) -> bool:
    """Whether the whole log is stored and derived, and nothing is left to be removed. Not while the log does not say."""
    try:
        ends = {partition: end for partition, end in log.end_offsets().items() if end}
    except LogUnavailable:
        return False
    with database.read() as session:
        offsets = {row.partition: row.next for row in session.exec(select(Offset)).all()}
        left = [session.exec(select(func.count()).select_from(waiting)).one() for waiting in (Mark, Removal, LateRecord)]
    return offsets == ends and not any(left)


def wait_until_done(database: Database, log: EventLog, of: Sequence[WorkerProcess] = (), within_s: float = DONE_WITHIN_S) -> None:
    """Wait, and look that these workers run, until they got through the log."""
    wait_until(lambda: is_done(database, log), of, within_s)


def wait_until(holds: Callable[[], bool], of: Sequence[WorkerProcess] = (), within_s: float = DONE_WITHIN_S) -> None:
    """Look again and again; the workers must run all the while."""
    deadline = time.monotonic() + within_s
    while not holds():
        stopped = [one.said[-2_000:] for one in of if not one.running]
        assert not stopped, f"a worker ended by itself: {stopped}"
        assert time.monotonic() < deadline, f"nothing came of it in time: {[one.said[-2_000:] for one in of]}"
        time.sleep(0.02)
