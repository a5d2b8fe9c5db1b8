"""An installation with a gateway, a rollout loop and the stand-in for vLLM, each a real process."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
from openai import APIError, OpenAI
from sqlmodel import SQLModel, select

from ingest.database import Database
from ingest.events import GenerationEvent, event_adapter
from ingest.keys import Scope, create_key
from ingest.log.embedded import EmbeddedLog
from serving.tables import Gateway
from tests.services import engine
from tests.services.ports import free_port
from tests.standins.lora import write_lora
from trainer.seal import seal
from trainer.tables import Adapter, Release, Round

QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]
ROOT = Path(__file__).parents[2]
START_S = 30
SETTINGS = """
[gateway]
port = {port}
{gateway}

[rollout]
poll_s = 0.05

[tasks.summarise]
[tasks.other]
"""


class Installation:
    """One directory with its settings, database and processes."""

    def __init__(
        self,
        directory: Path,
        stack: ExitStack,
        database_url: str | None = None,
        gateway_settings: str = "",
        model: Path | None = None,
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.socket = directory / "run" / "vllm.sock"
        self.socket.parent.mkdir(parents=True)
        (directory / "adapters").mkdir()
        (directory / "whetstone.toml").write_text(SETTINGS.format(port=self.port, gateway=gateway_settings))
        self.environment = os.environ | {
            "WHETSTONE_CONFIG": str(directory / "whetstone.toml"),
            "WHETSTONE_DATA_DIR": str(directory),
        }
        url = database_url or f"sqlite:///{directory}/whetstone.db"
        if database_url:
            self.environment["WHETSTONE_DATABASE_URL"] = database_url
        self.database = Database(url)
        self._model = model
        self._stack = stack
        stack.callback(self.database.close)
        SQLModel.metadata.create_all(self.database.engine)
        self.key = self.new_key(["*"], ["inference", "admin"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str | None = None, retries: int = 0) -> OpenAI:
        """The real OpenAI client, closed with the installation."""
        return self._stack.enter_context(OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=retries))

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        return httpx.get(self.url + path, headers={"Authorization": f"Bearer {key or self.key}"}, timeout=10)

    def new_key(self, tasks: list[str], scopes: list[Scope]) -> str:
        with self.database.begin() as session:
            return create_key(session, "test", tasks, scopes)

    def seal(self, number: int, wanted: bool = False, task: str = "summarise") -> str:
        """An adapter as the trainer leaves it."""
        name = f"{task}-r{number:06d}"
        path = self.directory / "adapters" / name
        digest = seal(write_lora(self.directory / "drafts" / name, number, self._model), path, lineage={})
        now = datetime.now(UTC)
        with self.database.begin() as session:
            made = Round(task=task, number=number, state="sealed", parent="base", live="base", planned_at=now)
            session.add(made)
            session.flush()
            session.add(
                Adapter(
                    name=name,
                    task=task,
                    round_id=made.id or 0,
                    parent="base",
                    path=str(path),
                    manifest_sha256=digest,
                    sealed_at=now,
                    wanted=wanted,
                )
            )
        return name

    def release(self, adapter: str, reason: str = "gate", task: str = "summarise") -> int:
        row = Release(task=task, adapter=adapter, reason=reason, asked_by="gate", created_at=datetime.now(UTC))
        with self.database.begin() as session:
            session.add(row)
            session.flush()
            return row.id or 0

    def wait_live(self, release: int) -> None:
        def live() -> bool:
            with self.database.read() as session:
                return session.get_one(Release, release).live_at is not None

        eventually(live)

    def swap(self, adapter: str) -> None:
        """Release it, and wait until every gateway answers with it."""
        self.wait_live(self.release(adapter))
        eventually(lambda: all(routes["summarise"] == adapter for routes in self.routes()))

    def routes(self) -> list[dict[str, str]]:
        with self.database.read() as session:
            return [gateway.routes for gateway in session.exec(select(Gateway))]

    def generations(self) -> dict[str, GenerationEvent]:
        """What the event log holds, by generation id."""
        log = EmbeddedLog(self.directory / "log.db", partitions=4)
        reader = log.subscribe("reader", lambda partition: None)
        try:
            records = [record for batch in reader.poll(0.2, 100_000).values() for record in batch]
        finally:
            reader.close()
            log.close()
        events = [event_adapter.validate_json(record.value) for record in records]
        return {event.generation_id: event for event in events if isinstance(event, GenerationEvent)}

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of `whetstone adapters`."""
        line = [sys.executable, "-c", "from serving.cli import adapters; adapters()", *command]
        return subprocess.run(line, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    @contextmanager
    def gateway(self) -> Iterator["subprocess.Popen[bytes]"]:
        with self._process("gateway", "serve") as process:
            eventually(self._gateway_answers, process)
            yield process

    @contextmanager
    def rollout(self) -> Iterator["subprocess.Popen[bytes]"]:
        with self._process("rollout", "run") as process:
            yield process

    def engine(self, token_s: float = 0.0) -> "AbstractContextManager[int]":
        """vLLM itself where the installation has a model, else what stands in for it."""
        if self._model:
            return engine.vllm(self.socket, self._model)
        return engine.standin(self.socket, token_s)

    @contextmanager
    def _process(self, group: str, command: str) -> Iterator["subprocess.Popen[bytes]"]:
        line = [sys.executable, "-c", f"from serving.cli import {group}; {group}()", command]
        process = subprocess.Popen(line, cwd=ROOT, env=self.environment, start_new_session=True)
        try:
            yield process
        finally:
            end(process)

    def _gateway_answers(self) -> bool:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", self.port)):
                return False
        return self.get("/healthz").is_success


def eventually(true: Callable[[], bool], process: "subprocess.Popen[bytes] | None" = None, within_s: float = START_S) -> None:
    """Wait until it is true; fail when it is not in time, or when the process ends before."""
    deadline = time.monotonic() + within_s
    while not true():
        assert process is None or process.poll() is None, f"the process ended with {process.returncode}"
        assert time.monotonic() < deadline, f"did not become true within {within_s} s"
        time.sleep(0.02)


def end(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> None:
    """End a process, and see that it ends within seconds."""
    process.send_signal(number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


@dataclass
class Traffic:
    """Clients that stream without a pause until they are told to stop."""

    installation: Installation
    clients: int = 6
    max_tokens: int | None = None
    replies: list[tuple[str, str, str]] = field(default_factory=list)  # header, text, generation id
    errors: list[Exception] = field(default_factory=list)
    slowest_first_byte_s: float = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Traffic":
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        client = self.installation.client()
        while not self._stop.is_set():
            try:
                self._one(client, stream=number % 2 == 0)
            except APIError as error:
                self.errors.append(error)
                time.sleep(0.05)

    def _one(self, client: OpenAI, stream: bool) -> None:
        asked = time.monotonic()
        raw = client.chat.completions.with_raw_response.create(
            model="summarise", messages=QUESTION, stream=stream, max_tokens=self.max_tokens, temperature=0.7
        )
        self.slowest_first_byte_s = (
            max(self.slowest_first_byte_s, time.monotonic() - asked) if stream else self.slowest_first_byte_s
        )
        reply = raw.parse()
        if stream:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in reply)
        else:
            text = reply.choices[0].message.content
        self.replies.append((raw.headers["X-Whetstone-Adapter"], text, raw.headers["X-Whetstone-Generation"]))
