"""An import: rows in, events out, several requests at once, each row settled in the order of the file."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from pairing.formats.values import Refused
from pairing.transfer import CutShort, TransferFailed
from pairing.transfer.entries import Found, event
from pairing.transfer.report import Tally

BATCH_EVENTS = 1_000
"""Ingest's default for most events in one request. To one that takes fewer, halves are sent."""
BATCH_BYTES = 4_000_000
IN_FLIGHT = 3
STOPPED_WITHIN_S = 3.0
"""How long the answers to what was sent are waited for when nothing more will be."""


class Door(Protocol):
    """What an import needs of the service; see Service."""

    def send(self, events: Sequence[bytes]) -> dict[int, Refused]: ...

    def stop(self) -> None: ...


@dataclass(slots=True)
class Batch:
    """Some rows, and the events of those that can be kept, each with the line that it came from."""

    events: list[bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    refused: dict[int, Refused] = field(default_factory=dict)
    rows: int = 0
    last_line: int = 0
    size: int = 0
    tags_left_out: list[str] = field(default_factory=list)

    def add(self, found: Found, task: str) -> None:
        self.rows += 1
        self.last_line = found.line
        if isinstance(found.entries, Refused):
            self.refused[found.line] = found.entries
            return
        for entry in found.entries:
            body, tags_left_out = event(entry, task)
            self.events.append(body)
            self.lines.append(found.line)
            self.size += len(body)
            self.tags_left_out += tags_left_out

    @property
    def is_full(self) -> bool:
        return self.size >= BATCH_BYTES or max(len(self.events), self.rows) >= BATCH_EVENTS


Waiting = deque[tuple[Batch, Future[dict[int, Refused]]]]


def run(found: Iterable[Found], task: str, door: Door, tally: Tally, settled: Callable[[], None]) -> None:
    """Send everything, and count it. `settled` is called after each batch.

    Raises:
        TransferFailed: as sending and `found` raise it. What was sent before is counted.
    """
    waiting: Waiting = deque()
    try:
        for batch in _batches(found, task):
            waiting.append((batch, _sent(door, batch.events)))
            if len(waiting) > IN_FLIGHT:
                _settle_first(waiting, tally)
                settled()
        _settle_all(waiting, tally)
    except CutShort:
        with suppress(TransferFailed):
            _settle_all(waiting, tally)
        raise
    except BaseException:  # Ctrl-C too: what is on its way is counted, and a service that hangs is not waited for
        door.stop()
        wait([sending for _, sending in waiting], STOPPED_WITHIN_S)
        with suppress(TransferFailed):
            while waiting and waiting[0][1].done():
                _settle_first(waiting, tally)
        raise


def _sent(door: Door, events: Sequence[bytes]) -> "Future[dict[int, Refused]]":
    """Sends in a thread that nothing waits for when the process ends, as it would for those of a pool."""
    sending: Future[dict[int, Refused]] = Future()

    def send() -> None:
        try:
            sending.set_result(door.send(events))
        except Exception as error:  # noqa: BLE001  # whoever asks for the result gets it
            sending.set_exception(error)

    threading.Thread(target=send, name="import", daemon=True).start()
    return sending


def _batches(found: Iterable[Found], task: str) -> Iterator[Batch]:
    """Full ones, and a last one; also before the error of a file that is cut short."""
    batch = Batch()
    try:
        for one in found:
            batch.add(one, task)
            if batch.is_full:
                yield batch
                batch = Batch()
    except CutShort:
        if batch.rows:
            yield batch
        raise
    if batch.rows:
        yield batch


def _settle_all(waiting: Waiting, tally: Tally) -> None:
    while waiting:
        _settle_first(waiting, tally)


def _settle_first(waiting: Waiting, tally: Tally) -> None:
    """Count the first batch once it is sent. One that fails stays the first: nothing behind it is counted as settled."""
    batch, sending = waiting[0]
    by_service = sending.result()
    waiting.popleft()
    refused = batch.refused | {batch.lines[at]: why for at, why in by_service.items()}
    for line, why in sorted(refused.items(), key=lambda one: one[0]):
        tally.refuse(line, why)
    tally.taken += batch.rows - len(refused)
    tally.leave_out(batch.tags_left_out)
    tally.last_line = batch.last_line
