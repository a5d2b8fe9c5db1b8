"""What every event log must do, tried on the embedded one, on a small broker and on Apache Kafka."""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ingest.log import MAX_RECORD_BYTES, EventLog, LogMoved, MemberReplaced, NewRecord, Record, RecordTooLarge
from ingest.log.partitioner import partition_of
from tests.services.log_places import KINDS, Place, flat, join, numbered, place, read, read_all, values


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def home(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return place(None if kind == "embedded" else request.getfixturevalue(kind), tmp_path)


@pytest.fixture
def log(home: Place) -> Iterator[EventLog]:
    with contextlib.closing(home.open()) as opened:
        yield opened


class OffsetStore:
    """Where readers keep their offsets, as pairing does: only who moves on from the offset stored may store."""

    def __init__(self) -> None:
        self.next: dict[int, int] = {}
        self._lock = threading.Lock()

    def advance(self, partition: int, start: int, end: int) -> bool:
        with self._lock:
            fits = self.next.get(partition, 0) == start
            if fits:
                self.next[partition] = end
            return fits


def consume(log: EventLog, member: str, store: OffsetStore, until: int) -> list[int]:
    """What this member stored, until as many records were stored by all."""
    stored: list[int] = []
    with contextlib.closing(log.subscribe(member, store.next.get)) as subscription:
        while sum(store.next.values()) < until:
            for partition, records in subscription.poll(0.1, 100).items():
                if store.advance(partition, records[0].offset, records[-1].offset + 1):
                    stored += values(records)
                else:
                    subscription.rewind(partition)
    return stored


def test_every_acknowledged_record_is_read_once_and_in_the_order_of_its_key(log: EventLog) -> None:
    for start in range(0, 500, 50):
        log.append(numbered(range(start, start + 50))).result(10)
    records = read_all(log, 500)
    assert values(records) == list(range(500))
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for record in records:
        by_key[record.key].append(int(record.value))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


def test_what_many_threads_append_at_once_is_all_there(log: EventLog) -> None:
    with ThreadPoolExecutor(8) as threads:
        appended = [threads.submit(log.append, numbered([n])) for n in range(200)]
    for append in appended:
        append.result().result(10)
    assert values(read_all(log, 200)) == list(range(200))


def test_a_key_has_the_same_partition_in_every_log(log: EventLog) -> None:
    log.append(numbered(range(40))).result(10)
    assert all(record.partition == partition_of(record.key, 4) for record in read_all(log, 40))


def test_headers_and_the_time_of_the_append_come_back(log: EventLog) -> None:
    before = time.time() * 1000
    headers = (("content-type", b"application/json"), ("empty", b""), ("bytes", bytes(range(256))))
    log.append([NewRecord(b"k", b"v", headers), NewRecord(b"", b"")]).result(10)
    with_headers, bare = sorted(read_all(log, 2), key=lambda record: record.key, reverse=True)
    assert (with_headers.key, with_headers.value, with_headers.headers) == (b"k", b"v", headers)
    assert (bare.key, bare.value, bare.headers) == (b"", b"", ())
    assert before - 1 <= with_headers.timestamp_ms <= time.time() * 1000 + 1


def test_the_offsets_tell_what_is_held_and_how_far_a_reader_is_behind(log: EventLog) -> None:
    assert log.first_offsets() == log.end_offsets() == dict.fromkeys(range(4), 0)
    log.append(numbered(range(40))).result(10)
    records = read_all(log, 40)
    assert sum(log.end_offsets().values()) == 40
    for partition, end in log.end_offsets().items():
        assert [r.offset for r in records if r.partition == partition] == list(range(end))


def test_appending_nothing_is_done_at_once(log: EventLog) -> None:
    log.append([]).result(1)


def test_a_poll_gives_no_more_records_than_asked_for(log: EventLog) -> None:
    log.append(numbered(range(40))).result(10)
    with contextlib.closing(log.subscribe("reader-1", lambda partition: None)) as subscription:
        batches: list[list[Record]] = []
        while sum(map(len, batches)) < 40 and len(batches) < 40:
            batches.append(flat(subscription.poll(0.5, 7)))
        batches.append(flat(subscription.poll(0.1, 7)))
    assert max(map(len, batches)) == 7
    assert values([record for batch in batches for record in batch]) == list(range(40))


def test_a_poll_without_news_waits_as_long_as_asked_and_no_longer(log: EventLog) -> None:
    with contextlib.closing(log.subscribe("reader-1", lambda partition: None)) as subscription:
        join(subscription)
        start = time.monotonic()
        assert subscription.poll(0.4, 10) == {}
        assert 0.3 < time.monotonic() - start < 1.5


def test_a_reader_that_never_waits_long_gets_everything_all_the_same(log: EventLog) -> None:
    log.append(numbered(range(40))).result(10)
    records: list[Record] = []
    deadline = time.monotonic() + 10
    with contextlib.closing(log.subscribe("reader-1", lambda partition: None)) as subscription:
        while len(records) < 40 and time.monotonic() < deadline:
            records += flat(subscription.poll(0.001, 100))
    assert values(records) == list(range(40))


def test_a_batch_that_was_not_stored_is_read_again_after_a_rewind(log: EventLog) -> None:
    log.append(numbered(range(40))).result(10)
    with contextlib.closing(log.subscribe("reader-1", lambda partition: None)) as subscription:
        first = read(subscription, 40)
        again_from = {record.partition for record in first[:1]}
        for partition in again_from:
            subscription.rewind(partition)
        lost = [record for record in first if record.partition in again_from]
        assert read(subscription, len(lost)) == lost


def test_a_member_that_starts_again_goes_on_from_the_stored_offsets(log: EventLog) -> None:
    log.append(numbered(range(60))).result(10)
    stored: dict[int, int] = {}
    with contextlib.closing(log.subscribe("reader-1", stored.get)) as subscription:
        while sum(stored.values()) < 30:
            for partition, records in subscription.poll(1, 5).items():
                stored[partition] = records[-1].offset + 1
    done = sum(stored.values())
    assert len(read_all(log, 60 - done, stored)) == 60 - done


def test_an_opened_log_has_the_id_the_partitions_and_the_records_that_it_had(home: Place) -> None:
    with contextlib.closing(home.open(partitions=3)) as log:
        log.append(numbered(range(10))).result(10)
        log_id = log.log_id
    with contextlib.closing(home.open(partitions=5)) as log:
        assert (log.log_id, log.partitions) == (log_id, 3)
        assert values(read_all(log, 10)) == list(range(10))


def test_closing_waits_for_what_was_appended(home: Place) -> None:
    with contextlib.closing(home.open()) as log:
        appended = log.append(numbered(range(200)))
    assert appended.done()
    appended.result()


def test_expired_records_are_gone_and_their_offsets_never_come_back(log: EventLog) -> None:
    log.append(numbered(range(40))).result(10)
    ends = log.end_offsets()
    time.sleep(0.05)
    between_ms = time.time_ns() // 1_000_000
    time.sleep(0.05)
    log.append(numbered(range(40, 44))).result(10)
    log.expire(between_ms, log.end_offsets())
    assert log.first_offsets() == ends
    assert values(read_all(log, 4)) == [40, 41, 42, 43]
    log.expire(time.time_ns() // 1_000_000 + 60_000, log.end_offsets())
    assert log.first_offsets() == log.end_offsets()
    assert sum(log.end_offsets().values()) == 44


def test_records_that_nobody_has_read_yet_do_not_expire(log: EventLog) -> None:
    log.append(numbered(range(40))).result(10)
    later_ms = time.time_ns() // 1_000_000 + 60_000
    log.expire(later_ms, {})
    assert sum(log.first_offsets().values()) == 0
    partition, end = max(log.end_offsets().items(), key=lambda item: item[1])
    log.expire(later_ms, {partition: end - 1})
    assert log.first_offsets() == {other: end - 1 if other == partition else 0 for other in log.end_offsets()}


@pytest.mark.parametrize("stored", [2, 1000], ids=["expired", "beyond the end"])
def test_a_stored_offset_that_the_log_does_not_hold_stops_the_reader(log: EventLog, stored: int) -> None:
    log.append(numbered(range(400))).result(10)
    time.sleep(0.05)
    log.expire(time.time_ns() // 1_000_000 - 10, log.end_offsets())
    with contextlib.closing(log.subscribe("reader-1", lambda partition: stored)) as subscription, pytest.raises(LogMoved):
        read(subscription, 1)


def test_a_log_made_anew_stops_its_reader_and_has_another_id(home: Place, kind: str) -> None:
    with contextlib.closing(home.open()) as log, contextlib.closing(log.subscribe("reader-1", lambda p: None)) as subscription:
        log.append(numbered(range(40))).result(10)
        read(subscription, 40)
        home.remove()
        with contextlib.closing(home.open()) as anew:
            if kind != "noida":  # it has no topic ids
                assert anew.log_id != log.log_id
            with pytest.raises(LogMoved):
                read(subscription, 1)


def test_a_large_record_passes_and_one_too_large_for_any_log_is_refused(log: EventLog) -> None:
    large = NewRecord(b"large", bytes(5_000_000))
    log.append([large]).result(10)
    with pytest.raises(RecordTooLarge):
        log.append([NewRecord(b"k", b"v"), NewRecord(b"too large", bytes(MAX_RECORD_BYTES))]).result(10)
    assert [record.value for record in read_all(log, 1)] == [large.value]


def test_two_members_store_every_record_once_and_share_the_partitions_or_stand_by(log: EventLog, kind: str) -> None:
    store = OffsetStore()
    with ThreadPoolExecutor(2) as threads:
        members = [threads.submit(consume, log, f"reader-{n}", store, 400) for n in (1, 2)]
        for start in range(0, 400, 40):
            log.append(numbered(range(start, start + 40))).result(10)
            time.sleep(0.1 if kind == "embedded" else 0.8)  # long enough for the second member to be let in
        stored = [member.result(60) for member in members]
    assert sorted(stored[0] + stored[1]) == list(range(400))
    assert (min(map(len, stored)) == 0) == (kind == "embedded")


def test_a_member_that_died_gets_its_partitions_back_at_once(home: Place, kind: str) -> None:
    with contextlib.closing(home.open()) as log, contextlib.closing(log.subscribe("reader-1", lambda p: None)) as died:
        join(died)
        log.append(numbered(range(40))).result(10)
        if kind == "embedded":
            died.close()
        with contextlib.closing(log.subscribe("reader-1", lambda p: None)) as back:
            start = time.monotonic()
            assert values(read(back, 40)) == list(range(40))
            assert time.monotonic() - start < 5  # a session runs out after 15 s
            if kind == "apache":
                with pytest.raises(MemberReplaced):
                    read(died, 1000, within_s=10)
