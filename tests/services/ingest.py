"""The feedback API as a process of its own, over a directory of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from sqlmodel import SQLModel

from ingest.database import Database
from ingest.keys import SCOPES, ApiKey, create_key
from tests.services.kafka import _end_with_parent
from tests.services.ports import free_port

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30
SERVE = [sys.executable, "-c", "from ingest.cli import ingest; ingest()", "serve"]
SERVE_WITH_PAIRS = [sys.executable, "-m", "deploy.cli", "ingest", "serve"]


class Ingest:
    """An installation whose feedback API can be started, killed and started again on one port."""

    def __init__(self, directory: Path, command: Sequence[str] = SERVE, **settings: str) -> None:
        self._command = command
        port = free_port()
        self.directory = directory
        self.url = f"http://127.0.0.1:{port}"
        self._environment = os.environ | {
            "WHETSTONE_CONFIG": str(directory / "whetstone.toml"),
            "WHETSTONE_DATA_DIR": str(directory),
            "WHETSTONE_INGEST_PORT": str(port),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        database = Database(f"sqlite:///{directory}/whetstone.db")
        SQLModel.metadata.create_all(database.engine, tables=[ApiKey.__table__])
        with database.begin() as session:
            self.key = create_key(session, "test", ["*"], SCOPES)
        database.close()

    def start(self) -> None:
        """Start, and come back when the process answers."""
        with (self.directory / "ingest.log").open("ab") as output:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stderr=output, start_new_session=True, preexec_fn=_end_with_parent
            )
        self.wait_for("/healthz", 200)

    def send(self, body: Any, path: str = "/v1/feedback") -> httpx.Response:
        """Send feedback, and wait for the answer longer than the service may take."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.post(self.url + path, json=body, headers=headers, timeout=PATIENCE_S)

    def wait_for(self, path: str, status: int) -> None:
        """Wait until a path answers so."""
        deadline = time.monotonic() + PATIENCE_S
        while self._status(path) != status:
            if time.monotonic() > deadline or (self.process and self.process.poll() is not None):
                raise AssertionError(f"{path} did not answer {status}:\n{(self.directory / 'ingest.log').read_text()}")
            time.sleep(0.05)

    def end(self, with_signal: signal.Signals) -> int:
        """End the process, and return its exit status."""
        assert self.process
        self.process.send_signal(with_signal)
        return self.process.wait(PATIENCE_S)

    def remains(self) -> bool:
        """Whether any process of the group lives on. The interpreter's helpers end a moment after it."""
        assert self.process
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.02)
        return True

    def clear(self) -> None:
        """Leave nothing running, whatever the test did."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE_S)

    def _status(self, path: str) -> int | None:
        try:
            return httpx.get(self.url + path, timeout=5).status_code
        except httpx.TransportError:
            return None


@contextmanager
def ingest(directory: Path, command: Sequence[str] = SERVE, **settings: str) -> Iterator[Ingest]:
    """A feedback API, not yet started."""
    made = Ingest(directory, command, **settings)
    try:
        yield made
    finally:
        made.clear()
