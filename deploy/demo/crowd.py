"""The simulated people as the story sees them: a process of their own, and what it told so far."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.settings import Settings

_GOODBYE_S = 60


@dataclass
class Tally:
    """Everything that the people did."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Inference requests that failed, by what went wrong."""
    feedback: Counter[str] = field(default_factory=Counter)
    lost_feedback: int = 0
    answered_by: Counter[str] = field(default_factory=Counter)
    first_token_s: list[float] = field(default_factory=list)

    def add(self, told: dict[str, Any]) -> None:
        """Count one line of the people's report."""
        match told:
            case {"what": "request", "adapter": str(adapter), "first_token_s": first_token_s}:
                self.requests += 1
                self.answered_by[adapter] += 1
                self.first_token_s += [first_token_s] if first_token_s else []
            case {"what": "feedback", "type": str(kind)}:
                self.feedback[kind] += 1
            case {"what": "feedback_lost"}:
                self.lost_feedback += 1
            case {"what": "failed", "error": error, "status": status}:
                self.failures[f"{error}, status {status}"] += 1
            case _:
                self.failures["a reply that does not name its adapter"] += 1


class Crowd:
    """The running people."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.tally = Tally()
        self._process = process
        self._ears = threading.Thread(target=self._listen, daemon=True)
        self._ears.start()

    @property
    def is_there(self) -> bool:
        return self._process.poll() is None

    def slow_down(self) -> None:
        """From a crowd to one person after the other."""
        assert self._process.stdin
        self._process.stdin.write("trickle\n")
        self._process.stdin.flush()

    def leave(self) -> None:
        """Let everybody finish what they do, and count it."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._ears.join()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.tally.add(json.loads(line))


@contextmanager
def crowd(settings: Settings, key: str, seed: int, errors: Path) -> Iterator[Crowd]:
    """People who use the service until the block ends; their troubles go to the file `errors`."""
    ingest_url = f"http://{settings.ingest.host}:{settings.ingest.port}"
    with errors.open("w") as stderr:
        people = Crowd(
            subprocess.Popen(
                [sys.executable, "-m", "deploy.demo.users", settings.gateway_url, ingest_url, str(seed)],
                env=os.environ | {"WHETSTONE_KEY": key},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,  # Ctrl-C is for the story, which lets the people finish
            )
        )
        try:
            yield people
        finally:
            people.leave()
