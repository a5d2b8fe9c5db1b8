"""How fast one worker turns feedback into stored events and pairs: `python -m tests.benchmarks.bench_pairing`.

Ratios are of one run: against a consumer that only decodes the same events, and one that only inserts them as rows. With
KAFKA_HOME set the events are read from Apache Kafka, else from the embedded log.
"""

import contextlib
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import SQLModel, func, select

from ingest.database import Database
from ingest.events import Event, event_adapter
from ingest.log import EventLog, NewRecord, Record
from pairing.decoding import decode
from pairing.holdout import splitter
from pairing.outcomes import Outcome
from pairing.store import writing_events
from pairing.tables import Offset, Pair
from pairing.worker import Worker, leave_garbage_for_later
from tests.services.feedback import choice, held, record, ref
from tests.services.kafka import Broker
from tests.services.ledger import settings_for
from tests.services.log_places import broker, place
from tests.services.postgres import empty_database, postgres

EVENTS = 40_000
BATCH = 2_000
STORED = 200_000
"""Events that are stored already where the cost of one more is measured."""
PACED_S = 8
_TEXT = "the sea is wide and deep and full of fish and ships and songs, "


def main() -> None:
    leave_garbage_for_later()
    kind = "apache" if os.environ.get("KAFKA_HOME") else "embedded"
    with tempfile.TemporaryDirectory() as directory, postgres() as server, broker(kind, Path(directory) / "kafka") as running:
        bench = Bench(server, running, Path(directory))
        say(f"choices that carry their generation, read from {kind}, stored and paired in PostgreSQL by one worker")
        speed(bench)
        delay(bench)
        flatness(bench)


def speed(bench: "Bench") -> None:
    """Events a second, and against what a consumer costs that does less."""
    sent = [record(one) for one in choices(EVENTS)]
    records = [Record(0, number, 0, one.key, one.value, ()) for number, one in enumerate(sent)]
    decoding = per_s(EVENTS, lambda: decode_all(records))
    with bench.database() as here:
        inserting = per_s(EVENTS, lambda: insert_all(here, records))
    with bench.running() as run:
        pairing = run.work_off(sent)
        pairs = run.pairs()
    say(f"  {sum(len(one.value) for one in sent) // len(sent)} bytes an event, {pairs:,} pairs of {EVENTS:,} events")
    say(f"  only decoded       {decoding:8,.0f} events/s")
    say(f"  only inserted      {inserting:8,.0f} events/s")
    say(f"  stored and paired  {pairing:8,.0f} events/s")
    say(f"  that is {pairing / decoding:.2f} of decoding, {pairing / inserting:.2f} of inserting")


def delay(bench: "Bench") -> None:
    """From the acknowledgement of an event to its pair, at half the rate."""
    with bench.running() as run:
        rate = run.work_off([record(one) for one in choices(EVENTS // 4, "warm")]) / 2
        delays = run.paced([record(one) for one in choices(int(rate * PACED_S), "paced")], rate)
    quantiles = statistics.quantiles(delays, n=100)
    say(f"  at {rate:,.0f} events/s a pair is there after {quantiles[49]:.2f} s (median) and {quantiles[98]:.2f} s (99 of 100)")


def flatness(bench: "Bench") -> None:
    """What an event costs in a full database against an empty one, and on one prompt against many."""
    with bench.running() as run:
        empty = run.work_off([record(one) for one in choices(EVENTS // 4, "first")])
        before = peak_mib()
        for part in range(STORED // EVENTS):
            run.work_off([record(one) for one in choices(EVENTS, f"part{part}")])
        full = run.work_off([record(one) for one in choices(EVENTS // 4, "last")])
    say(f"  with {STORED:,} events stored an event costs {empty / full:.2f} of what it costs at the start")
    say(f"  peak memory was {before} MiB after {EVENTS // 4:,} events and is {peak_mib()} MiB after {STORED:,}")
    with bench.running() as run:
        popular = [record(one) for one in choices(EVENTS, "popular", prompt="Describe the sea.", texts=50)]
        first = run.work_off(popular[: EVENTS // 4])
        last = run.work_off(popular[EVENTS // 4 :])
    say(f"  on one prompt asked {EVENTS:,} times an event costs {empty / last:.2f} of what it costs on prompts of its own,")
    say(f"  and the last three quarters of them cost {first / last:.2f} of the first")


@dataclass
class Bench:
    """Where everything runs."""

    server: str
    broker: Broker | None
    directory: Path

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """An empty one."""
        name = f"bench{os.urandom(4).hex()}"
        with empty_database(self.server, name) as url, contextlib.closing(Database(url)) as database:
            SQLModel.metadata.create_all(database.engine)
            yield database

    @contextlib.contextmanager
    def running(self) -> Iterator["Run"]:
        """A worker between an empty log and an empty database."""
        home = self.directory / os.urandom(4).hex()
        home.mkdir()
        with self.database() as database, contextlib.closing(place(self.broker, home).open()) as log:
            with contextlib.closing(Worker(settings_for(batch_events=BATCH), database, log, "bench")) as worker:
                while not worker.assigned:
                    worker.turn()
                yield Run(database, log, worker)


@dataclass
class Run:
    """A worker between a log and a database."""

    database: Database
    log: EventLog
    worker: Worker
    sent: int = 0

    def work_off(self, events: Sequence[NewRecord]) -> float:
        """Append all, then read them: events a second."""
        for first in range(0, len(events), BATCH):
            self.log.append(events[first : first + BATCH]).result()
        self.sent += len(events)
        return per_s(len(events), self._to_the_end)

    def paced(self, events: Sequence[NewRecord], rate: float) -> list[float]:
        """Append the events at this rate while the worker reads: the delay of each, in seconds."""
        acknowledged: list[float] = []
        before, step = self.sent, max(1, int(rate / 50))
        self.sent += len(events)

        def send() -> None:
            started = time.monotonic()
            for first in range(0, len(events), step):
                time.sleep(max(0.0, started + first / rate - time.monotonic()))
                part = events[first : first + step]
                self.log.append(part).result()
                acknowledged.extend([time.monotonic()] * len(part))

        sender = threading.Thread(target=send)
        sender.start()
        stored: list[float] = []  # when the n-th event was stored and derived, which is one transaction
        while len(stored) < len(events):
            self.worker.turn()
            stored += [time.monotonic()] * (self._stored() - before - len(stored))
        sender.join()
        return [max(0.0, there - sent) for sent, there in zip(acknowledged, stored, strict=True)]

    def pairs(self) -> int:
        with self.database.read() as session:
            return session.exec(select(func.count()).select_from(Pair)).one()

    def _to_the_end(self) -> None:
        while self._stored() < self.sent:
            self.worker.turn()

    def _stored(self) -> int:
        with self.database.read() as session:
            return sum(session.exec(select(Offset.next)))


def choices(count: int, name: str = "c", prompt: str | None = None, texts: int | None = None) -> Iterator[Event]:
    """Choices that carry their generation of two replies, of about 1 KB."""
    for number in range(count):
        id_ = f"gen-{name}-{number:012d}"
        replies = [f"{_TEXT * 4}{side} {number % texts if texts else f'{name} {number}'}" for side in ("one", "other")]
        asked: Any = prompt or [{"role": "user", "content": f"Describe {name} {number}. {_TEXT}"}]
        shown = ref(id_), ref(id_, 1)
        carried = held(id_, *replies, prompt=asked)
        who = {"user": f"user-{number % 5_000}", "at": number % 100_000}
        yield choice(f"choice-{name}-{number:012d}", shown[number % 2], *shown, generation=carried, **who)


def decode_all(records: Sequence[Record]) -> None:
    for one in records:
        event_adapter.validate_json(one.value)


def insert_all(here: Database, records: Sequence[Record]) -> None:
    """Each event a row, and nothing derived."""
    split = splitter(settings_for().holdout)
    for first in range(0, len(records), BATCH):
        events = decode(records[first : first + BATCH], split).events.values()
        with here.begin() as session:
            waiting = {one.event.event_id: Outcome.WAITING_FOR_GENERATION for one in events}
            with writing_events(session, events, waiting):
                pass


def per_s(count: int, do: Callable[[], None]) -> float:
    started = time.perf_counter()
    do()
    return count / (time.perf_counter() - started)


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
