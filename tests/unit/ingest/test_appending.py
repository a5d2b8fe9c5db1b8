import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from ingest.appending import Appender, LateLog, TooManyInFlight
from ingest.log import LogUnavailable, NewRecord
from tests.standins.log import MemoryLog

RECORD = NewRecord(b"k", b"v")


class SlowLog(MemoryLog):
    """Acknowledges only when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Future[None]] = []

    def append(self, records: Sequence[NewRecord]) -> "Future[None]":
        super().append(records)
        self.waiting.append(Future())
        return self.waiting[-1]

    def finish(self, error: Exception | None = None) -> None:
        """Acknowledge everything from another thread, in one burst."""
        waiting, self.waiting = self.waiting, []
        act = (lambda one: one.set_exception(error)) if error else (lambda one: one.set_result(None))
        thread = threading.Thread(target=lambda: [act(one) for one in waiting])
        thread.start()
        thread.join()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


async def started(appender: Appender, events: int = 1) -> "asyncio.Task[None]":
    task = asyncio.create_task(appender.append([RECORD] * events))
    await asyncio.sleep(0)
    return task


def test_nothing_is_accepted_before_the_log_says_that_it_is_durable() -> None:
    async def test() -> None:
        log = SlowLog()
        appender = Appender(log, 100)
        tasks = [await started(appender) for _ in range(20)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        log.finish()
        await asyncio.gather(*tasks)

    run(test())


def test_more_than_the_log_can_take_is_refused_until_it_has_caught_up() -> None:
    async def test() -> None:
        log = SlowLog()
        appender = Appender(log, max_in_flight=3)
        first = await started(appender, 2)
        with pytest.raises(TooManyInFlight):
            await appender.append([RECORD] * 2)
        assert len(log.records) == 2
        log.finish()
        await first
        second = await started(appender, 3)
        log.finish()
        await second

    run(test())


def test_a_batch_larger_than_the_limit_passes_when_nothing_else_waits() -> None:
    run(Appender(MemoryLog(), max_in_flight=1).append([RECORD] * 5))


def test_a_failed_append_is_told_to_the_one_who_sent_it_and_frees_its_place() -> None:
    async def test() -> None:
        log = SlowLog()
        appender = Appender(log, max_in_flight=1)
        task = await started(appender)
        log.finish(LogUnavailable())
        with pytest.raises(LogUnavailable):
            await task
        task = await started(appender)
        log.finish()
        await task

    run(test())


def test_a_caller_who_leaves_keeps_the_place_until_the_log_has_answered() -> None:
    async def test() -> None:
        log = SlowLog()
        appender = Appender(log, max_in_flight=1)
        task = await started(appender)
        task.cancel()
        await asyncio.wait([task])
        with pytest.raises(TooManyInFlight):
            await appender.append([RECORD])
        log.finish()
        await asyncio.sleep(0.01)
        task = await started(appender)
        log.finish()
        await task

    run(test())


def test_a_log_that_is_away_at_the_start_is_opened_when_it_is_there() -> None:
    real, tries = MemoryLog(), 0

    def open_log() -> MemoryLog:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise LogUnavailable("away")
        return real

    late = LateLog(open_log, retry_s=0.02)
    with pytest.raises(LogUnavailable):
        late.append([RECORD]).result(0)
    with pytest.raises(LogUnavailable):
        late.end_offsets()
    deadline = time.monotonic() + 5
    while late.append([RECORD]).exception(1) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert real.records
    assert late.end_offsets() == real.end_offsets()
    late.close()


def test_a_log_that_never_comes_does_not_keep_the_process_from_ending() -> None:
    def open_log() -> MemoryLog:
        raise LogUnavailable("away")

    late = LateLog(open_log, retry_s=5)
    began = time.monotonic()
    late.close()
    assert time.monotonic() - began < 2
