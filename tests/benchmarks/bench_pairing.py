"""How fast one worker turns feedback into stored events and pairs: `python -m tests.benchmarks.bench_pairing [STORED]`.

Ratios are of one run: against a consumer that only decodes the same events, and one that only inserts them as rows. With
KAFKA_HOME set the events are read from Apache Kafka, else from the embedded log. PostgreSQL keeps what it acknowledges.
STORED is how many events there are already where the cost of one more is measured: a million unless told.
"""

import contextlib
import gc
import hashlib
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
from uuid import UUID

from sqlmodel import SQLModel, func, select

from ingest.database import Database
from ingest.events import Event, event_adapter
from ingest.log import EventLog, NewRecord, Record
from pairing.decoding import decode
from pairing.holdout import splitter
from pairing.outcomes import Outcome
from pairing.statements import table_of
from pairing.store import writing_events
from pairing.tables import AskedPrompt, EventGeneration, Offset, Pair, StoredEvent, StoredVote
from pairing.worker import Worker, leave_garbage_for_later
from tests.services.feedback import choice, generation, held, record, ref
from tests.services.kafka import Broker
from tests.services.ledger import settings_for
from tests.services.log_places import broker, place
from tests.services.postgres import DURABLE, administer, empty_database, postgres

EVENTS = 40_000
BATCH = 2_000
FEW = 10_000
STORED = 1_000_000
PARTS = 6
PACED_S = 8
_TEXT = "the sea is wide and deep and full of fish and ships and songs, "


def main(stored: int) -> None:
    leave_garbage_for_later()
    kind = "apache" if os.environ.get("KAFKA_HOME") else "embedded"
    with tempfile.TemporaryDirectory() as made, postgres(DURABLE) as server, broker(kind, Path(made) / "kafka") as running:
        bench = Bench(server, running, Path(made))
        fill_memory(Path(made) / "memory")
        say(f"choices that carry their generation, read from {kind}, stored and paired in PostgreSQL by one worker")
        speed(bench)
        delay(bench)
        flatness(bench, stored)
        popular(bench)


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


def flatness(bench: "Bench", stored: int) -> None:
    """What an event costs in a full database, and after many others, against one with few: by turns, for machines have moods.

    After a checkpoint the server logs each page whole that it changes for the first time: what that costs is told beside.
    """
    with contextlib.ExitStack() as opened:  # to the end: a server that drops a database writes everything down first
        full = opened.enter_context(bench.running())
        before_mib = on_few(bench, opened, "before") and peak_mib()
        full.work_off([record(one) for one in choices(FEW, "few")])
        fill(full.database, stored)
        administer(bench.server, "CHECKPOINT")
        cold, *_ = [full.work_off([record(one) for one in choices(EVENTS, f"cold{part}")]) for part in range(PARTS)]
        few, many = by_turns(bench, opened, full, "then")
        administer(bench.server, "CHECKPOINT")
        few_after, many_after = by_turns(bench, opened, full, "after")
    usual, usual_after = statistics.median(few), statistics.median(few_after)
    costs = usual / statistics.median(many)
    say(f"  with {stored:,} events stored an event costs {costs:.2f} of what it costs with {FEW:,}")
    say(f"  ({statistics.median(many):,.0f} events/s; {usual / cold:.2f} while the server finds its pages after the filling;")
    after = ", ".join(f"{usual_after / rate:.2f}" for rate in many_after)
    say(f"  and after a checkpoint, at each {FEW + EVENTS:,} events: {after})")
    events = (2 + 5 * PARTS) * EVENTS
    say(f"  peak memory was {before_mib} MiB after {EVENTS:,} events and is {peak_mib()} MiB after {events:,}")


def by_turns(bench: "Bench", opened: contextlib.ExitStack, full: "Run", name: str) -> tuple[list[float], list[float]]:
    """Events a second where there are few, and in the full database."""
    few, many = [], []
    for part in range(PARTS):
        few.append(on_few(bench, opened, f"{name}{part}"))
        full.work_off([record(one) for one in choices(FEW, f"few {name}{part}")])
        many.append(full.work_off([record(one) for one in choices(EVENTS, f"{name}{part}")]))
    return few, many


def on_few(bench: "Bench", opened: contextlib.ExitStack, name: str) -> float:
    """Events a second where there are few, in a database of its own."""
    with bench.running(opened.enter_context(bench.database())) as run:
        run.work_off([record(one) for one in choices(FEW, "few")])
        return run.work_off([record(one) for one in choices(EVENTS, name)])


def popular(bench: "Bench") -> None:
    """What an event costs on one prompt, and on one generation, against prompts and generations of their own."""
    with bench.running() as run:
        own = run.work_off([record(one) for one in choices(EVENTS, "own")])
        asked = [record(one) for one in choices(EVENTS, "asked", prompt="Describe the sea.", texts=50)]
        first, last = (run.work_off(part) for part in (asked[: EVENTS // 4], asked[EVENTS // 4 :]))
    say(f"  on one prompt asked {EVENTS:,} times an event costs {own / last:.2f} of what it costs on prompts of its own,")
    say(f"  and the last three quarters of them cost {first / last:.2f} of the first")
    for who, users in (("each by another person", EVENTS), ("all by one", 1)):
        with bench.running() as run:
            run.work_off([record(generation("shared", "one", "other"))])
            chosen = [record(on_shared(number, f"user-{number % users}")) for number in range(EVENTS)]
            first, last = (run.work_off(part) for part in (chosen[: EVENTS // 4], chosen[EVENTS // 4 :]))
        say(f"  of {EVENTS:,} choices on one generation, {who}, the last three quarters cost {first / last:.2f} of the first")


def on_shared(number: int, user: str) -> Event:
    """A choice between the two replies of the generation `shared`."""
    shown = ref("shared"), ref("shared", 1)
    return choice(uuid(f"choice {number}"), shown[0], *shown, user=user, at=number)


def fill_memory(file: Path) -> None:
    """Read a file without content, as large as memory is: a server's memory is full of files too after a while.

    A virtual machine has to ask its host for free memory page by page, and may give it back when it is free for two seconds:
    12 us a page have been seen, as much as all indexes take of an event.
    """
    with file.open("wb+") as made:
        made.truncate(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 7 // 8)
        block = bytearray(1 << 20)
        while made.readinto(block):
            pass


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
    def running(self, here: Database | None = None) -> Iterator["Run"]:
        """A worker between an empty log and an empty database: this one, or one of its own."""
        home = self.directory / os.urandom(4).hex()
        home.mkdir()
        with contextlib.nullcontext(here) if here else self.database() as database:
            with (
                contextlib.closing(place(self.broker, home).open()) as log,
                contextlib.closing(Worker(settings_for(batch_events=BATCH), database, log, "bench")) as worker,
            ):
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
        gc.collect()  # what sending leaves behind, which no worker does
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


def fill(database: Database, stored: int) -> None:
    """Repeat what is there, each time under other ids and with little text, until there are so many events.

    Keys are as many, as long and as scattered as if they had come one by one.
    """
    with database.begin() as session:
        there = session.exec(select(func.count()).select_from(StoredEvent)).one()
        run = session.connection().exec_driver_sql
        for model in (StoredEvent, EventGeneration, AskedPrompt, StoredVote, Pair):
            table = str(model.__tablename__)
            of_table = f"FROM pg_indexes WHERE tablename = '{table}' AND right(indexname, 3) <> 'key'"
            indexes = run(f"SELECT indexname, indexdef {of_table}").all()
            for name, _ in indexes:
                run(f"DROP INDEX {name}")
            names = [column.name for column in table_of(model).columns]
            made = ", ".join(_ANEW.get(name, '"{}"').format(name) for name in names)
            columns = ", ".join(f'"{name}"' for name in names)
            run(f"INSERT INTO {table} ({columns}) SELECT {made} FROM {table}, generate_series(1, {stored // there - 1}) AS again")
            for _, index in indexes:
                definition, where, condition = index.partition(" WHERE ")
                run(f"{definition} WITH (fillfactor = 69){where}{condition}")  # as full as when they grow
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


_HASH, _ID, _LITTLE = "encode(sha256(({}||again)::bytea), 'hex')", "md5({}||again)::uuid::text", "left({}, 20)"
_ANEW = dict.fromkeys(("id", "hash", "replies", "prompt_hash", "chosen_hash", "rejected_hash", "body_hash"), _HASH)
_ANEW |= dict.fromkeys(("event_id", "generation_id"), _ID) | dict.fromkeys(("body", "prompt", "chosen", "rejected"), _LITTLE)
_ANEW |= {"held_by": """'["' || md5(event_id||again)::uuid::text || '"]'"""}
"""How a column's value is made anew; the others stay as they are."""


def choices(count: int, name: str = "c", prompt: str | None = None, texts: int | None = None) -> Iterator[Event]:
    """Choices that carry their generation of two replies, of about 1 KB."""
    for number in range(count):
        id_ = uuid(f"generation {name} {number}")
        replies = [f"{_TEXT * 4}{side} {number % texts if texts else f'{name} {number}'}" for side in ("one", "other")]
        asked: Any = prompt or [{"role": "user", "content": f"Describe {name} {number}. {_TEXT}"}]
        shown = ref(id_), ref(id_, 1)
        carried = held(id_, *replies, prompt=asked)
        who = {"user": f"user-{number % 5_000}", "at": number % 100_000}
        yield choice(uuid(f"choice {name} {number}"), shown[number % 2], *shown, generation=carried, **who)


def uuid(name: str) -> str:
    """As clients make them: scattered."""
    return str(UUID(bytes=hashlib.sha256(name.encode()).digest()[:16]))


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
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STORED)
