"""Many rows with one statement each, the same on SQLite and PostgreSQL.

Rows are written by COPY in its binary form to PostgreSQL: several times as fast as INSERT.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache, partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from pairing import statements
from pairing.statements import Model, table_of

T = TypeVar("T")
Values = Sequence[Any]
_MANY = 64


class Tend(Protocol):
    """Passes values on one by one, and meanwhile sends PostgreSQL what it is to insert.

    A socket takes a fraction of a batch at once: the rest waits in this process, and the server for it.
    """

    def __call__(self, values: Iterable[T], /) -> Iterable[T]: ...


def look_up_by_key(session: Session) -> None:
    """For this transaction: PostgreSQL looks keys up by their index, in its order, whatever it guesses of changing sizes.

    Where it guesses many it would also compile the statement first, which takes longer than to look up a batch.
    """
    if session.get_bind().dialect.name == "postgresql":
        ways = *(f"enable_{way}" for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin", "sort")), "jit"
        off = ", ".join(f"set_config('{way}', 'off', true)" for way in ways)
        session.connection().exec_driver_sql(f"SELECT {off}")


def select_by(
    session: Session, model: Model, columns: Sequence[str], keys: Sequence[str], values: Collection[Values]
) -> list[Any]:
    """The `columns` of the rows whose `keys` columns have one of the `values`. No value may be there twice."""
    if not values:
        return []
    dialect = session.get_bind().dialect
    statement = statements.select(model, tuple(columns), tuple(keys), dialect.name)
    rows = session.connection().exec_driver_sql(statement, (_json(values),)).fetchall()
    return list(_converted(rows, _readers(model, tuple(columns), dialect)))


def lock_by(session: Session, model: Model, keys: Sequence[str], values: Collection[Values]) -> None:
    """Let no other transaction change these rows before this one ends. On SQLite none can."""
    dialect = session.get_bind().dialect.name
    if values and dialect == "postgresql":
        statement = statements.select(model, tuple(keys), tuple(keys), dialect)
        session.connection().exec_driver_sql(f"{statement} FOR UPDATE OF t", (_json(values),))


def first_of(
    session: Session, model: Model, columns: Sequence[str], keys: Sequence[str], values: Collection[Values], tail: str
) -> list[Any]:
    """As select_by, but of the rows of each value only those that `tail` leaves: AND ..., ORDER BY ... and LIMIT ..."""
    if not values:
        return []
    dialect = session.get_bind().dialect
    statement = statements.first(model, tuple(columns), tuple(keys), tail, dialect.name)
    run = session.connection().exec_driver_sql
    if dialect.name == "sqlite":  # has no LATERAL, and answers a single question fast
        rows = [row for value in values for row in run(statement, tuple(value))]
    else:
        rows = list(run(statement, (_json(values),)))
    return list(_converted(rows, _readers(model, tuple(columns), dialect)))


def insert_all(session: Session, model: Model, columns: Sequence[str], rows: Iterable[Values]) -> None:
    """Insert rows that are not there yet; each is as long as `columns`.

    Raises:
        sqlalchemy.exc.IntegrityError: one of them is there.
    """
    with inserting(session, model, columns, rows):
        pass


@contextmanager
def inserting(session: Session, model: Model, columns: Sequence[str], rows: Iterable[Values]) -> Iterator[Tend]:
    """As insert_all. PostgreSQL goes on with it during the block, in which nothing may be asked of the session.

    A long loop in the block goes over its values through the Tend that it gets.
    """
    dialect = session.get_bind().dialect
    written = _written(model, tuple(columns), rows, dialect)
    names, table = ", ".join(map(statements.quoted, columns)), str(model.__tablename__)
    with _wrapped(dialect), closing(session.connection().connection.cursor()) as cursor:
        if dialect.name == "sqlite":
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})", list(written))
            yield _untended
        else:
            copy = f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)"
            with _copying(cursor, copy, statements.copied(model, tuple(columns)), written) as tend:
                yield tend


def insert_new(session: Session, model: Model, rows: Collection[Mapping[str, Any]]) -> None:
    """Insert a few rows, those whose key is not there yet: in its order, so that two workers wait for each other in one."""
    if rows:
        table = table_of(model)
        insert = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(table)
        ordered = sorted(rows, key=lambda row: [row[column.name] for column in table.primary_key])
        session.connection().execute(insert.on_conflict_do_nothing(), ordered)


def update_by(session: Session, model: Model, keys: Sequence[str], columns: Sequence[str], rows: Sequence[Values]) -> None:
    """Set the `columns` of the rows that have the `keys`; each of `rows` holds the keys and then the columns."""
    if not rows:
        return
    dialect = session.get_bind().dialect
    statement = statements.update(model, tuple(keys), tuple(columns), dialect.name)
    written = list(_written(model, (*keys, *columns), rows, dialect))
    if dialect.name == "sqlite":
        shifted = [(*row[len(keys) :], *row[: len(keys)]) for row in written]
        _execute_many(session, statement, shifted)
    else:
        session.connection().exec_driver_sql(statement, (_json(written),))


def update_among(
    session: Session, model: Model, keys: Sequence[str], among: str, column: str, new: Mapping[tuple[str, ...], Mapping[str, str]]
) -> None:
    """Set one column, which has text, of rows of which many have the same `keys`: those are read once, and told by `among`.

    `new` has, by the values of the keys and then of `among`, what is to stand in the column.
    """
    dialect = session.get_bind().dialect.name
    if dialect == "sqlite":
        rows = [(*key, one, value) for key, some in new.items() for one, value in some.items()]
        update_by(session, model, (*keys, among), (column,), rows)
    elif new:
        statement = statements.update_among(model, tuple(keys), among, column)
        session.connection().exec_driver_sql(statement, (_json(new.items()),))


def delete_by(session: Session, model: Model, keys: Sequence[str], values: Collection[Values]) -> None:
    """Delete the rows whose `keys` columns have one of the `values`."""
    if values:
        statement = statements.delete(model, tuple(keys), session.get_bind().dialect.name)
        session.connection().exec_driver_sql(statement, (_json(values),))


def _execute_many(session: Session, statement: str, rows: Sequence[Values]) -> None:
    with _wrapped(session.get_bind().dialect), closing(session.connection().connection.cursor()) as cursor:
        cursor.executemany(statement, rows)


@contextmanager
def _copying(cursor: Any, statement: str, types: Sequence[str], rows: Iterable[Values]) -> Iterator[Tend]:
    first = next(iter(rows := iter(rows)), None)
    if first is None:
        yield _untended
        return
    with cursor.copy(statement) as copy:
        copy.set_types(types)
        copy.write_row(first)
        for row in rows:
            copy.write_row(row)
        yield partial(_tended, cursor.connection.pgconn)


def _untended(values: Iterable[T]) -> Iterable[T]:
    return values


def _tended(connection: Any, values: Iterable[T]) -> Iterator[T]:
    for place, value in enumerate(values):
        if place % _MANY == 0:
            connection.flush()
        yield value


@contextmanager
def _wrapped(dialect: Dialect) -> Iterator[None]:
    """The driver's errors as SQLAlchemy's, as everywhere else."""
    assert dialect.dbapi
    base = dialect.dbapi.Error
    try:
        yield
    except base as error:
        raise DBAPIError.instance(None, None, error, base, dialect=dialect) from error


def _json(values: Iterable[Values]) -> str:
    return json.dumps([list(value) for value in values], default=str)


def _written(model: Model, columns: tuple[str, ...], rows: Iterable[Values], dialect: Dialect) -> Iterable[Values]:
    """The rows as the driver takes them."""
    return _converted(rows, _writers(model, columns, dialect))


def _converted(rows: Iterable[Values], converters: Sequence[Any]) -> Iterable[Values]:
    """Each value by the converter of its column, where that has one."""
    some = [(place, convert) for place, convert in enumerate(converters) if convert]
    return map(partial(_convert, some), rows) if some else rows


def _convert(converters: Sequence[tuple[int, Any]], row: Values) -> Values:
    values = list(row)
    for place, convert in converters:
        values[place] = convert(values[place])
    return values


@cache
def _writers(model: Model, columns: tuple[str, ...], dialect: Dialect) -> tuple[Any, ...]:
    return tuple(type_.bind_processor(dialect) for type_ in _types(model, columns, dialect))


@cache
def _readers(model: Model, columns: tuple[str, ...], dialect: Dialect) -> tuple[Any, ...]:
    return tuple(type_.result_processor(dialect, None) for type_ in _types(model, columns, dialect))


def _types(model: Model, columns: Sequence[str], dialect: Dialect) -> Iterator[Any]:
    """Of each column; none where the driver knows every type that we have."""
    if dialect.name == "sqlite":
        yield from (table_of(model).c[column].type.dialect_impl(dialect) for column in columns)
