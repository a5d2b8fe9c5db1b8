"""Generations wait on disk for the event log, whatever dies."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from ingest.log import EventLog, LogUnavailable, NewRecord
from ingest.log.embedded import EmbeddedLog
from ingest.user_keys import KeysUnavailable
from serving.gateway.shipping import Shipper
from serving.gateway.spool import Spool, SpoolError, SpoolFile

ROOT = Path(__file__).parents[3]
HOLDER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from ingest.log import NewRecord
    from serving.gateway.spool import Spool, SpoolFile

    spool = Spool(SpoolFile.create(Path(sys.argv[1]), "killed"), 10_000_000)
    for number in range(100):
        written = spool.put(NewRecord(b"gen-%d" % number, b"value", (("received-at", b"now"),)))
    written.result()
    sys.stdout.write("durable\\n")
    sys.stdout.flush()
    time.sleep(60)
    """
)


def record(number: int, size: int = 10) -> NewRecord:
    return NewRecord(f"gen-{number}".encode(), b"x" * size, (("received-at", b"2026-01-01T00:00:00+00:00"),))


def logged(log: EventLog) -> list[bytes]:
    reader = log.subscribe("reader", lambda partition: None)
    try:
        return [r.key for batch in reader.poll(0.1, 10_000).values() for r in batch]
    finally:
        reader.close()


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "did not become true within 10 s"
        time.sleep(0.01)


class AwayAtFirst:
    """An event log that cannot take anything for a while."""

    def __init__(self, log: EmbeddedLog) -> None:
        self.log = log
        self.away = True
        self.refused = 0

    def append(self, records: Sequence[NewRecord]) -> "Future[None]":
        if not self.away:
            return self.log.append(records)
        self.refused += 1
        refused: Future[None] = Future()
        refused.set_exception(LogUnavailable("away"))
        return refused

    def close(self) -> None:
        """The log is the test's."""


@pytest.fixture
def log(tmp_path: Path) -> EmbeddedLog:
    return EmbeddedLog(tmp_path / "log.db", partitions=1)


def test_spooled_generations_reach_the_log_in_their_order_and_leave_the_disk(tmp_path: Path, log: EmbeddedLog) -> None:
    spool = Spool(SpoolFile.create(tmp_path / "spool", "one"), 10_000_000)
    shipper = Shipper(spool, lambda: EmbeddedLog(tmp_path / "log.db", partitions=1))
    for number in range(1_200):
        spool.put(record(number))
    shipper.close()
    assert logged(log) == [f"gen-{number}".encode() for number in range(1_200)]
    assert list((tmp_path / "spool").iterdir()) == []
    log.close()


def test_what_a_killed_gateway_had_on_disk_is_shipped_by_the_next(tmp_path: Path, log: EmbeddedLog) -> None:
    directory = tmp_path / "spool"
    with subprocess.Popen([sys.executable, "-c", HOLDER, directory], cwd=ROOT, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == "durable\n"
        os.kill(killed.pid, signal.SIGKILL)
    spool = Spool(SpoolFile.create(directory, "next"), 10_000_000)
    shipper = Shipper(spool, lambda: EmbeddedLog(tmp_path / "log.db", partitions=1))
    eventually(lambda: len(logged(log)) == 100)
    shipper.close()
    assert list(directory.iterdir()) == []
    log.close()


def test_the_spool_of_a_living_gateway_is_left_alone(tmp_path: Path) -> None:
    SpoolFile.create(tmp_path, "living")
    assert list(SpoolFile.abandoned(tmp_path)) == []


def test_while_the_log_is_away_generations_wait_and_then_all_arrive(tmp_path: Path, log: EmbeddedLog) -> None:
    away = AwayAtFirst(log)
    spool = Spool(SpoolFile.create(tmp_path / "spool", "one"), 10_000_000)
    shipper = Shipper(spool, lambda: away)  # type: ignore[arg-type, return-value]  # the part of EventLog that shipping uses
    for number in range(10):
        spool.put(record(number)).result(5)
    eventually(lambda: away.refused >= 2)
    assert logged(log) == []
    away.away = False
    eventually(lambda: len(logged(log)) == 10)
    shipper.close()
    log.close()


def test_while_the_keys_of_users_are_away_generations_wait_and_then_all_arrive_sealed(tmp_path: Path, log: EmbeddedLog) -> None:
    refused = 0

    def seal(records: Sequence[NewRecord]) -> Sequence[NewRecord]:
        nonlocal refused
        if refused < 2:
            refused += 1
            raise KeysUnavailable("away")
        return [NewRecord(one.key + b"-sealed", one.value, one.headers) for one in records]

    spool = Spool(SpoolFile.create(tmp_path / "spool", "one"), 10_000_000)
    shipper = Shipper(spool, lambda: EmbeddedLog(tmp_path / "log.db", partitions=1), seal)
    for number in range(10):
        spool.put(record(number)).result(5)
    eventually(lambda: logged(log) == [f"gen-{number}-sealed".encode() for number in range(10)])
    assert refused == 2
    shipper.close()
    log.close()


def test_what_the_log_does_not_take_at_the_end_stays_on_disk_for_the_next_gateway(tmp_path: Path, log: EmbeddedLog) -> None:
    spool = Spool(SpoolFile.create(tmp_path / "spool", "one"), 10_000_000)
    shipper = Shipper(spool, lambda: AwayAtFirst(log))  # type: ignore[arg-type, return-value]
    spool.put(record(1))
    shipper.close()
    assert logged(log) == []
    assert [file.path.name for file in SpoolFile.abandoned(tmp_path / "spool")] == ["one.db"]
    log.close()


def test_a_full_spool_says_so_and_takes_generations_again_once_they_are_shipped(tmp_path: Path, log: EmbeddedLog) -> None:
    away = AwayAtFirst(log)
    spool = Spool(SpoolFile.create(tmp_path / "spool", "one"), 100_000)
    shipper = Shipper(spool, lambda: away)  # type: ignore[arg-type, return-value]
    spool.put(record(1, size=200_000)).result(5)
    assert not spool.has_room
    with pytest.raises(SpoolError, match="full"):
        spool.put(record(2)).result(5)
    away.away = False
    eventually(lambda: spool.has_room)
    spool.put(record(3)).result(5)
    shipper.close()
    assert logged(log) == [b"gen-1", b"gen-3"]
    log.close()


def test_a_generation_that_no_log_takes_holds_no_other_up(tmp_path: Path, log: EmbeddedLog) -> None:
    spool = Spool(SpoolFile.create(tmp_path / "spool", "one"), 100_000_000)
    for number, size in ((1, 10), (2, 34_000_000), (3, 10)):
        spool.put(record(number, size))
    shipper = Shipper(spool, lambda: EmbeddedLog(tmp_path / "log.db", partitions=1))
    eventually(lambda: logged(log) == [b"gen-1", b"gen-3"])
    shipper.close()
    log.close()


def test_what_was_shipped_is_in_no_file_of_the_spool(tmp_path: Path, log: EmbeddedLog) -> None:
    spool = Spool(SpoolFile.create(tmp_path / "spool", "alive"), 10_000_000)
    shipper = Shipper(spool, lambda: log)
    spool.put(NewRecord(b"gen", b"what a user wrote", (("received-at", b"now"),))).result()
    eventually(lambda: not [path for path in (tmp_path / "spool").iterdir() if b"what a user wrote" in path.read_bytes()])
    shipper.close()
