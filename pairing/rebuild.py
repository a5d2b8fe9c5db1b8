"""Derives everything of a task anew, beside the present tables, from its stored events; then swaps what differs in.

Nothing differs unless rules or settings have changed: so it is also the proof that what was derived step by step is right.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, func, select
from sqlmodel import Session, SQLModel

from ingest.database import Database
from ingest.log import Record
from ingest.settings import Settings
from pairing.decoding import decode
from pairing.derive import Deriver, lock
from pairing.holdout import splitter
from pairing.rows import delete_by, insert_all, look_up_by_key, select_by, update_by
from pairing.statements import table_of
from pairing.store import sort_out
from pairing.tables import Draw, Pair, RatedReply, StoredEvent, StoredRating, StoredVote

_T = TypeVar("_T")
_Row = tuple[Any, ...]
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Derived:
    """A table that follows from the events."""

    model: type[SQLModel]
    key: tuple[str, ...]  # beside the task

    @property
    def columns(self) -> tuple[str, ...]:
        """All that follow from the events, the key first."""
        others = (column.name for column in table_of(self.model).columns if column.name not in ("task", "created_at", *self.key))
        return (*self.key, *others)


_DERIVED = (
    Derived(Pair, ("id",)),
    Derived(Draw, ("replies",)),
    Derived(StoredVote, ("replies", "voter", "event_id")),
    Derived(StoredRating, ("event_id",)),
    Derived(RatedReply, ("prompt_hash", "reply_hash")),
)


def rebuild(
    database: Database, settings: Settings, task: str, now: datetime, on_events: Callable[[int, int], None]
) -> Counter[str]:
    """Counts of what differed, such as `pairs added`; it is swapped in when this returns.

    Workers go on storing events of the task meanwhile, and derive them afterwards (on SQLite they wait). `on_events` is told
    how many of how many events are done.
    """
    with database.begin() as session, _beside() as other:
        look_up_by_key(session)
        lock(session, task, alone=database.is_sqlite)
        deriver = Deriver(session, task, settings.tasks[task], now)
        while deriver.derive_marked()[1]:
            pass
        _replay(session, other, settings, task, now, on_events)
        with other.read() as anew:
            return _swap(session, anew, task, now)


@contextmanager
def _beside() -> Iterator[Database]:
    """A file without a name, of one connection: whatever kills this process, no copy of what people wrote stays behind."""
    with closing(Database("sqlite:///file:?uri=true")) as database:
        SQLModel.metadata.create_all(database.engine)
        yield database


def _replay(
    session: Session, other: Database, settings: Settings, task: str, now: datetime, on_events: Callable[[int, int], None]
) -> None:
    """Store and derive, as a worker does, every event that still has its content."""
    events, split = table_of(StoredEvent), splitter(settings.holdout)
    mine = (events.c.task == task, events.c.body != "")
    total = session.connection().execute(select(func.count()).select_from(events).where(*mine)).scalar_one()
    bodies = session.connection().execute(select(events.c.body).where(*mine).execution_options(yield_per=_AT_ONCE))
    done = 0
    for rows in bodies.partitions():
        records = [Record(0, offset, 0, b"", body.encode(), ()) for offset, (body,) in enumerate(rows, done)]
        batch = decode(records, split)
        with other.begin() as anew:
            for fresh in sort_out(anew, batch).values():
                Deriver(anew, task, settings.tasks[task], now).derive(fresh)
        done += len(rows)
        on_events(done, total)


def _swap(session: Session, anew: Session, task: str, now: datetime) -> Counter[str]:
    """Make each table what it is beside, row by row that differs."""
    differences: Counter[str] = Counter()
    for table in _DERIVED:
        rows = _rows(session, table, task), _rows(anew, table, task)
        gone, come, changed = _compare(*rows, len(table.key))
        _apply(session, anew, table, task, (gone, come, changed), now)
        name = str(table.model.__tablename__).replace("_", " ")
        differences.update({f"{name} removed": len(gone), f"{name} added": len(come), f"{name} changed": len(changed)})
    _, _, changed = _compare(_outcomes(session, task), _outcomes(anew, task), 1)
    for keys in _chunks(changed):
        found = select_by(
            anew, StoredEvent, ("task", "event_id", "outcome"), ("task", "event_id"), [(task, *key) for key in keys]
        )
        update_by(session, StoredEvent, ("task", "event_id"), ("outcome",), found)
    return +(differences + Counter({"outcomes changed": len(changed)}))


def _apply(session: Session, anew: Session, table: Derived, task: str, differences: Sequence[list[_Row]], now: datetime) -> None:
    gone, come, changed = differences
    key, others = ("task", *table.key), table.columns[len(table.key) :]
    made = ("created_at",) if "created_at" in table_of(table.model).columns else ()
    for keys in _chunks(gone):
        delete_by(session, table.model, key, [(task, *one) for one in keys])
    for keys in _chunks(come):
        found = select_by(anew, table.model, (*key, *others), key, [(task, *one) for one in keys])
        insert_all(session, table.model, (*key, *others, *made), [(*row, *(now for _ in made)) for row in found])
    for keys in _chunks(changed):
        found = select_by(anew, table.model, (*key, *others), key, [(task, *one) for one in keys])
        update_by(session, table.model, key, others, found)


def _rows(session: Session, table: Derived, task: str) -> Iterator[tuple[Any, ...]]:
    columns = [table_of(table.model).c[name] for name in table.columns]
    return _stream(session, select(*columns).where(table_of(table.model).c.task == task), columns[: len(table.key)])


def _outcomes(session: Session, task: str) -> Iterator[tuple[Any, ...]]:
    events = table_of(StoredEvent)
    query = select(events.c.event_id, events.c.outcome).where(events.c.task == task, events.c.body != "")
    return _stream(session, query, [events.c.event_id])


def _stream(session: Session, query: Select[Any], key: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """In the order of the keys' bytes, which is the same in every database."""
    ordered = query.order_by(*key).execution_options(yield_per=_AT_ONCE)
    yield from (tuple(row) for row in session.connection().execute(ordered))


def _compare(before: Iterator[_Row], after: Iterator[_Row], key: int) -> tuple[list[_Row], list[_Row], list[_Row]]:
    """Keys of the rows that go, come, and change, from two streams in the order of their first `key` columns.

    Nothing is written before both have been read: SQLite's reading would meet what is written.
    """
    gone: list[_Row] = []
    come: list[_Row] = []
    changed: list[_Row] = []
    one, other = next(before, None), next(after, None)
    while one or other:
        if other is None or (one and one[:key] < other[:key]):
            gone.append(one[:key] if one else ())
            one = next(before, None)
        elif one is None or other[:key] < one[:key]:
            come.append(other[:key])
            other = next(after, None)
        else:
            if one != other:
                changed.append(one[:key])
            one, other = next(before, None), next(after, None)
    return gone, come, changed


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))
