"""From one event loop to the event log and back: bounded, and waking the loop once per burst of acknowledgements."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from logging import getLogger
from typing import Protocol

from ingest.log import EventLog, LogUnavailable, NewRecord
from ingest.observe import APPEND_SECONDS, IN_FLIGHT

logger = getLogger(__name__)

RETRY_S = 1.0


class Appends(Protocol):
    """The part of an event log that ingest uses; see EventLog."""

    def append(self, records: Sequence[NewRecord]) -> "Future[None]": ...

    def end_offsets(self) -> Mapping[int, int]: ...

    def close(self) -> None: ...


class TooManyInFlight(Exception):
    """So many events wait for the log that more would only fill the memory. Nothing was appended: try again later."""


class Appender:
    """Appends from one event loop."""

    def __init__(self, log: Appends, max_in_flight: int) -> None:
        self._log = log
        self._max = max_in_flight
        self._in_flight = 0
        self._finished: deque[tuple[asyncio.Future[None], Future[None]]] = deque()
        self._waking = False

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Return when every record is durable.

        Raises:
            TooManyInFlight: nothing was appended.
            LogUnavailable: some records may be in the log all the same: send the same events again.
        """
        if self._in_flight and self._in_flight + len(records) > self._max:
            raise TooManyInFlight
        started = time.monotonic()
        appending = self._log.append(records)
        self._hold(len(records))
        loop = asyncio.get_running_loop()
        durable: asyncio.Future[None] = loop.create_future()
        durable.add_done_callback(lambda _: self._hold(-len(records)))
        appending.add_done_callback(lambda appended: self._finish(loop, durable, appended))
        await asyncio.shield(durable)  # a caller who leaves does not make its events durable any sooner
        APPEND_SECONDS.observe(time.monotonic() - started)

    def _hold(self, events: int) -> None:
        self._in_flight += events
        IN_FLIGHT.inc(events)

    def _finish(self, loop: asyncio.AbstractEventLoop, durable: asyncio.Future[None], appended: "Future[None]") -> None:
        """Runs on the log's thread. A wake-up for each append would cost more than all the rest."""
        self._finished.append((durable, appended))
        if not self._waking:
            self._waking = True
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._waking = False  # first: what finishes while the loop below runs wakes it again
        while self._finished:
            durable, appended = self._finished.popleft()
            error = appended.exception()
            if error:
                durable.set_exception(error)
            else:
                durable.set_result(None)


class LateLog:
    """An event log that may be away when the process starts: opened in the background, again until it is there."""

    def __init__(self, open_log: Callable[[], EventLog], retry_s: float = RETRY_S) -> None:
        self._open_log = open_log
        self._retry_s = retry_s
        self._log: EventLog | None = None
        self._closing = threading.Event()
        self._opener = threading.Thread(target=self._open, name="open-event-log", daemon=True)
        self._opener.start()

    def append(self, records: Sequence[NewRecord]) -> "Future[None]":
        """As EventLog.append; refused until the log is open."""
        if self._log:
            return self._log.append(records)
        refused: Future[None] = Future()
        refused.set_exception(LogUnavailable("The event log is not open yet."))
        return refused

    def end_offsets(self) -> Mapping[int, int]:
        """As EventLog.end_offsets.

        Raises:
            LogUnavailable: the log is not open yet, or does not answer.
        """
        if self._log is None:
            raise LogUnavailable("The event log is not open yet.")
        return self._log.end_offsets()

    def close(self) -> None:
        """Close the log, once what was appended is durable; give up opening it."""
        self._closing.set()
        self._opener.join(timeout=2 * self._retry_s)
        if self._log:
            self._log.close()

    def _open(self) -> None:
        while not self._closing.is_set():
            try:
                self._log = self._open_log()
                logger.info("The event log is open.")
                return
            except LogUnavailable as error:
                logger.warning("The event log cannot be opened, trying again: %s", error)
            except Exception:  # the thread's outermost loop: without it the process would wait for ever, and not say for what
                logger.exception("The event log cannot be opened, trying again.")
            self._closing.wait(self._retry_s)
