import contextlib
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.log import EventLog, Forgets, LogMoved, LogUnavailable, NewRecord, is_emptied
from ingest.log.embedded import EmbeddedLog
from tests.services.log_places import EmbeddedPlace, numbered, read, read_all, values


@pytest.fixture
def home(tmp_path: Path) -> EmbeddedPlace:
    return EmbeddedPlace(tmp_path / "data" / "log.db")


@pytest.fixture
def log(home: EmbeddedPlace) -> Iterator[EventLog]:
    with contextlib.closing(home.open()) as opened:
        yield opened


def test_the_file_can_be_read_by_its_owner_only(log: EventLog, home: EmbeddedPlace) -> None:
    log.append(numbered(range(1))).result(5)
    assert {stat.S_IMODE(file.stat().st_mode) for file in home.file.parent.glob("log.db*") if file.suffix != ".lock"} == {0o600}


def test_a_file_that_is_no_event_log_is_left_alone_and_named(home: EmbeddedPlace) -> None:
    home.file.parent.mkdir()
    home.file.write_bytes(b"something else entirely" * 100)
    with pytest.raises(LogUnavailable, match=r"log\.db"):
        home.open()
    assert home.file.read_bytes().startswith(b"something else")


def test_a_file_of_a_later_version_is_refused(log: EventLog, home: EmbeddedPlace) -> None:
    with contextlib.closing(sqlite3.connect(home.file)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(LogUnavailable, match="version 2"):
        home.open()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogUnavailable, match=r"log\.db"):
        EmbeddedLog(tmp_path / "file" / "log.db", 4)


def test_nothing_is_acknowledged_once_the_file_was_removed(log: EventLog, home: EmbeddedPlace) -> None:
    log.append(numbered(range(10))).result(5)
    home.remove()
    with pytest.raises(LogUnavailable, match="removed"):
        log.append(numbered(range(10))).result(5)
    with pytest.raises(LogUnavailable):
        log.end_offsets()
    assert not home.file.exists()


def test_a_reader_of_a_removed_file_stops(log: EventLog, home: EmbeddedPlace) -> None:
    with contextlib.closing(log.subscribe("reader-1", lambda partition: None)) as subscription:
        subscription.poll(0, 1)
        home.remove()
        with pytest.raises(LogMoved):
            subscription.poll(0, 1)


def test_an_append_to_a_closed_log_fails_and_does_not_hang(home: EmbeddedPlace) -> None:
    log = home.open()
    log.close()
    with pytest.raises(LogUnavailable, match="closed"):
        log.append(numbered(range(1))).result(5)


def test_an_append_waits_for_a_writer_of_another_process_and_then_succeeds(log: EventLog, home: EmbeddedPlace) -> None:
    with contextlib.closing(sqlite3.connect(home.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        appended = log.append(numbered(range(3)))
        with pytest.raises(TimeoutError):
            appended.result(0.2)
        other.execute("ROLLBACK")
    appended.result(5)
    assert values(read_all(log, 3)) == [0, 1, 2]


def test_what_expires_while_a_reader_is_behind_stops_it_instead_of_being_skipped(log: EventLog) -> None:
    log.append(numbered(range(40), keys=1)).result(5)
    with contextlib.closing(log.subscribe("reader-1", lambda partition: None)) as subscription:
        subscription.poll(1, 10)
        log.expire(2**62, log.end_offsets())
        with pytest.raises(LogMoved):
            subscription.poll(0, 10)


def test_expired_contents_are_nowhere_in_the_files(log: EventLog, home: EmbeddedPlace) -> None:
    secret = b"what somebody wrote and wants forgotten"
    log.append([NewRecord(b"k", secret * 500)]).result(5)
    log.expire(2**62, log.end_offsets())
    assert not any(secret in file.read_bytes() for file in home.file.parent.iterdir())


def test_a_busy_partition_does_not_starve_the_others(log: EventLog) -> None:
    log.append(numbered(range(1000), keys=1)).result(5)
    log.append(numbered(range(1000, 1004), keys=20)).result(5)
    with contextlib.closing(log.subscribe("reader-1", lambda partition: None)) as subscription:
        seen = {partition for _ in range(4) for partition in subscription.poll(0, 10)}
    assert len(seen) > 1


def test_large_records_do_not_come_all_in_one_poll(log: EventLog) -> None:
    for _ in range(5):
        log.append([NewRecord(b"k", bytes(10_000_000))]).result(20)
    with contextlib.closing(log.subscribe("reader-1", lambda partition: None)) as subscription:
        assert sum(map(len, subscription.poll(1, 100).values())) == 4
        assert len(read(subscription, 1)) == 1


def test_a_forgotten_record_is_in_no_file_and_shifts_no_other(home: EmbeddedPlace) -> None:
    with contextlib.closing(home.open(1)) as log:
        assert isinstance(log, Forgets)
        log.append(
            [NewRecord(b"k", value) for value in (b"first ann", b"second bob", b"third ann", b"ann, not read yet")]
        ).result(5)
        assert log.forget({0: 3}, [b"ann"], lambda value: value.endswith(b"ann")) == 2
        kept = read_all(log, 4)
        assert [(one.offset, one.value, is_emptied(one)) for one in kept] == [
            (0, b"", True),
            (1, b"second bob", False),
            (2, b"", True),
            (3, b"ann, not read yet", False),
        ]
        assert not [file for file in home.file.parent.iterdir() if b"first ann" in file.read_bytes()]
        log.empty([(0, 3), (0, 99)])
        assert log.forget({0: 9}, [b"ann"], lambda value: True) == 0
        assert not [file for file in home.file.parent.iterdir() if b"not read yet" in file.read_bytes()]


def test_a_log_that_somebody_reads_is_not_said_to_have_forgotten(log: EventLog, home: EmbeddedPlace) -> None:
    assert isinstance(log, Forgets)
    log.append([NewRecord(b"k", b"ann")]).result(5)
    with contextlib.closing(sqlite3.connect(home.file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM records").fetchone()
        with pytest.raises(LogUnavailable, match="being read"):
            log.forget(log.end_offsets(), [b"ann"], lambda value: True)
