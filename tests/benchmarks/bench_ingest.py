"""Feedback taken per second: one event a request and 100 a request, against the same service with a log that does nothing.

Run: python -m tests.benchmarks.bench_ingest. With KAFKA_HOME set, Apache Kafka is measured too.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlmodel import SQLModel

from ingest.app import create_app
from ingest.appending import Appends
from ingest.database import Database
from ingest.examples import EXAMPLES
from ingest.keys import ApiKey, KeyRing, create_key
from ingest.log import NewRecord, open_log
from ingest.settings import load_settings
from tests.services.kafka import apache_kafka
from tests.services.ports import free_port

SECONDS = 1.5
ROUNDS = 3  # the best counts: other work on the machine only ever slows down
CONNECTIONS = 64
BATCH = 100
EVENT = {**EXAMPLES["edit"], "saved": "word " * 150}  # about 1 KB


class NoLog:
    """Acknowledges at once, keeps nothing: what the service costs without its log."""

    def append(self, records: Sequence[NewRecord]) -> "Future[None]":
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def end_offsets(self) -> Mapping[int, int]:
        return {}

    def close(self) -> None: ...


def serve(kind: str) -> None:
    """Runs in the server's process."""
    import uvicorn

    settings = load_settings()
    log: Appends = NoLog() if kind == "none" else open_log(settings)
    app = create_app(settings, log, KeyRing(Database(settings.database_url)))
    uvicorn.run(app, port=settings.ingest.port, log_level="warning", access_log=False)


@contextmanager
def server(kind: str, directory: Path, **settings: str) -> Iterator[tuple[int, str]]:
    """Port and key of a service over this kind of log."""
    port = free_port()
    directory.mkdir()
    database = Database(f"sqlite:///{directory}/whetstone.db")
    SQLModel.metadata.create_all(database.engine, tables=[ApiKey.__table__])  # type: ignore[attr-defined]
    with database.begin() as session:
        key = create_key(session, "bench", ["*"], ["feedback"])
    environment = os.environ | {
        "WHETSTONE_CONFIG": str(directory / "whetstone.toml"),
        "WHETSTONE_DATA_DIR": str(directory),
        "WHETSTONE_INGEST_PORT": str(port),
        **settings,
    }
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.bench_ingest", "serve", kind], env=environment)
    try:
        yield port, key
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


async def load(port: int, key: str, path: str, body: bytes) -> tuple[float, float]:
    """Requests per second of many connections, and the 99th percentile of their times in milliseconds."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    await _until_up(port)
    times: list[float] = []
    end = time.monotonic() + SECONDS
    await asyncio.gather(*(_client(port, request, end, times) for _ in range(CONNECTIONS)))
    return len(times) / SECONDS, sorted(times)[len(times) * 99 // 100] * 1000


async def _client(port: int, request: bytes, end: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < end:
        began = time.monotonic()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(f"not accepted: {answer!r}")
        times.append(time.monotonic() - began)
    writer.close()
    await writer.wait_closed()


async def _until_up(port: int) -> None:
    for _ in range(300):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.1)
            continue
        writer.close()
        return
    raise RuntimeError("the service did not start")


def measure(services: Mapping[str, tuple[int, str]]) -> dict[str, dict[str, tuple[float, float]]]:
    """By log and kind of request, requests per second and 99th percentile: the best round, the logs taking turns."""
    bodies = {"one": ("/v1/feedback", EVENT), "batch": ("/v1/feedback/batch", {"events": [EVENT] * BATCH})}
    best: dict[str, dict[str, tuple[float, float]]] = {log: dict.fromkeys(bodies, (0.0, 0.0)) for log in services}
    for _ in range(ROUNDS):
        for log, (port, key) in services.items():
            for kind, (path, body) in bodies.items():
                measured = asyncio.run(load(port, key, path, json.dumps(body).encode()))
                best[log][kind] = max(best[log][kind], measured)
    return best


def main() -> None:
    """Measure every log there is, and print the table."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs: dict[str, dict[str, str]] = {"none": {}, "embedded": {}}
        if "KAFKA_HOME" in os.environ:
            broker = stack.enter_context(apache_kafka(directory / "broker"))
            logs["kafka"] = {"WHETSTONE_LOG": "kafka", "WHETSTONE_KAFKA_BOOTSTRAP": broker.bootstrap}
        services = {log: stack.enter_context(server(log, directory / log, **settings)) for log, settings in logs.items()}
        Console().print(_table(measure(services)))


def _table(results: Mapping[str, Mapping[str, tuple[float, float]]]) -> Table:
    table = Table("log", "events/s, one a request", "p99 ms", "ratio", f"events/s, {BATCH} a request", "p99 ms", "ratio")
    for log, result in results.items():
        cells = []
        for kind, events in (("one", 1), ("batch", BATCH)):
            rate, p99 = result[kind]
            cells += [f"{rate * events:,.0f}", f"{p99:.0f}", f"{rate / results['none'][kind][0]:.2f}"]
        table.add_row(log, *cells)
    return table


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["serve"] else main()
