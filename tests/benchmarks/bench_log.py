"""How fast the event logs take records of 1 KB and give them back: `python -m tests.benchmarks.bench_log`."""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from ingest.log import EventLog, NewRecord
from tests.services.log_places import KINDS, broker, flat, place

VALUE = bytes(1000)
RECORDS = 10_000
IN_FLIGHT = 1_000
"""Appends not yet durable, as many as a busy ingest process has."""


def main() -> None:
    write("log", "p50 ms", "p99 ms", "one by one", "by hundreds", "read")
    for kind in KINDS:
        if kind != "apache" or os.environ.get("KAFKA_HOME"):
            with opened(kind) as log:
                write(kind, *latency_ms(log), append_rate(log, 1), append_rate(log, 100), read_rate(log))


@contextlib.contextmanager
def opened(kind: str) -> Iterator[EventLog]:
    with tempfile.TemporaryDirectory() as directory, broker(kind, Path(directory) / "broker") as running:
        log = place(running, Path(directory)).open()
        try:
            yield log
        finally:
            log.close()


def latency_ms(log: EventLog) -> tuple[float, float]:
    """Of one append at a time: the median, and what 99 of 100 stay below."""
    times = []
    for n in range(300):
        start = time.perf_counter()
        log.append([record(n)]).result(30)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times), statistics.quantiles(times, n=100)[-1]


def append_rate(log: EventLog, batch: int) -> float:
    """Records a second, with many appends in flight."""
    waiting: deque[Future[None]] = deque()
    start = time.perf_counter()
    for first in range(0, RECORDS, batch):
        if len(waiting) * batch >= IN_FLIGHT:
            waiting.popleft().result(60)
        waiting.append(log.append([record(n) for n in range(first, first + batch)]))
    for append in waiting:
        append.result(60)
    return RECORDS / (time.perf_counter() - start)


def read_rate(log: EventLog) -> float:
    """Records a second, from the beginning."""
    wanted = sum(log.end_offsets().values())
    with contextlib.closing(log.subscribe("reader", lambda partition: None)) as subscription:
        missing = wanted - len(flat(subscription.poll(30, 1)))
        start = time.perf_counter()
        while missing > 0:
            missing -= len(flat(subscription.poll(5, 2_000)))
    return wanted / (time.perf_counter() - start)


def record(number: int) -> NewRecord:
    return NewRecord(f"gen-{number:032x}".encode(), VALUE)


def write(name: str, *columns: float | str) -> None:
    sys.stdout.write(f"{name:<10}" + "".join(f"{c:>14}" if isinstance(c, str) else f"{c:>14,.1f}" for c in columns) + "\n")


if __name__ == "__main__":
    main()
