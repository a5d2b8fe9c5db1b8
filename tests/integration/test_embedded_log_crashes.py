"""The embedded event log when its processes are killed and its disk is full."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ingest.log.embedded import EmbeddedLog
from tests.services.log_places import read_all, values

Process = subprocess.Popen[str]


@contextlib.contextmanager
def writer(file: Path, first: int, *limit: int) -> Iterator[Process]:
    """A process that appends numbers from `first` on, and is killed at the end of the block."""
    command = [sys.executable, "-m", "tests.services.log_writer", str(file), str(first), *map(str, limit)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(process: Process) -> list[int]:
    """What a killed process had said before."""
    assert process.stdout is not None
    return [int(line) for line in process.stdout.read().splitlines() if line != "full"]


def lines(process: Process, count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def test_what_a_killed_writer_had_acknowledged_is_there(tmp_path: Path) -> None:
    promised: list[int] = []
    for start in range(0, 4_000_000, 1_000_000):
        with writer(tmp_path / "log.db", start) as process:
            promised += map(int, lines(process, 50))
            time.sleep(0.05)
            process.kill()
            promised += acknowledged(process)
    with contextlib.closing(EmbeddedLog(tmp_path / "log.db", 4)) as log:
        held = values(read_all(log, len(promised)))
        assert set(promised) <= set(held)
        assert len(set(held)) == len(held) == sum(log.end_offsets().values())


def test_processes_that_open_and_append_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(writer(tmp_path / "log.db", n * 1_000_000)) for n in range(3)]
        promised = {int(number) for process in processes for number in lines(process, 100)}
    with contextlib.closing(EmbeddedLog(tmp_path / "log.db", 4)) as log:
        held = values(read_all(log, sum(log.end_offsets().values())))
        assert promised <= set(held)
        assert len(set(held)) == len(held)


def test_a_full_disk_acknowledges_nothing_and_the_log_goes_on_once_there_is_room(tmp_path: Path) -> None:
    with writer(tmp_path / "log.db", 0, 200_000) as process:
        before: list[str] = []
        while before[-1:] != ["full"]:
            before += lines(process, 1)
        assert process.stdin is not None
        process.stdin.write("room\n")
        process.stdin.flush()
        after = lines(process, 50)
        process.kill()
        rest = acknowledged(process)
    promised = [int(line) for line in before[:-1] + after] + rest
    assert len(before) > 5
    with contextlib.closing(EmbeddedLog(tmp_path / "log.db", 4)) as log:
        held = values(read_all(log, len(promised)))
    assert set(promised) <= set(held)
    assert held == list(range(len(held)))  # nothing of what was refused, nothing twice
