"""A whole Whetstone for as long as a block of code runs: the demo and the tests use it as people do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.status import Status, read_status

_LOOK_EVERY_S = 0.1
_STOP_S = 60


class ServiceFailed(Exception):
    """The service did not start, or did not stay. The message is what it said."""


class Service:
    """`whetstone up --quiet` with the settings of the environment and those given here.

    It makes what is missing in its data directory, as `whetstone up` does, and ends when the process that started it does.
    """

    def __init__(self, environment: Mapping[str, str], ready_timeout_s: float = 900) -> None:
        """`environment` names at least WHETSTONE_DATA_DIR."""
        self.data_dir = Path(environment["WHETSTONE_DATA_DIR"])
        self._environment = {**os.environ, **environment}
        self._ready_timeout_s = ready_timeout_s

    def __enter__(self) -> Self:
        """Raises ServiceFailed: it did not become ready; nothing is left running."""
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; `wait_until_ready` waits for it."""
        log = self.data_dir / "logs" / "up.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "deploy.cli", "up", "--quiet", "--with-parent"]
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )

    def stop(self) -> None:
        """Stop all of it, in order."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End the supervisor at once, as a crash would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self._process.pid

    def status(self) -> Status | None:
        """What runs now; None before anything does."""
        return read_status(self.data_dir / "run")

    def wait_until_ready(self) -> None:
        """Come back when every process is ready, now.

        Raises:
            ServiceFailed: it ended, or it took too long.
        """
        deadline = time.monotonic() + self._ready_timeout_s
        while not self._is_ready():
            if self._process.poll() is not None:
                raise ServiceFailed((self.data_dir / "logs" / "up.log").read_text(errors="replace").strip())
            if time.monotonic() > deadline:
                raise ServiceFailed(f"Not ready after {self._ready_timeout_s:g} s: {self.status()}")
            time.sleep(_LOOK_EVERY_S)

    def _is_ready(self) -> bool:
        status = self.status()
        return status is not None and status.supervisor == self._process.pid and status.all_ready
