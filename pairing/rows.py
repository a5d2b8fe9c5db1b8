"""Many rows with few statements, the same on SQLite and PostgreSQL."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select, Table, bindparam, delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel

Values = Mapping[str, Any]
_CHUNK = 5_000
"""Values of one IN list: both databases take some more."""


def table_of(model: type[SQLModel]) -> Table:
    """The table behind a model."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


def insert_new(session: Session, model: type[SQLModel], rows: Sequence[Values]) -> list[Row[Any]]:
    """Insert the rows whose primary key is not there yet; returns those keys. No key may be in `rows` twice.

    Rows are sorted by their keys, so that two workers which insert the same ones wait for each other in one order.
    """
    if not rows:
        return []
    table = table_of(model)
    keys = [column.name for column in table.primary_key]
    connection = session.connection()
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
    ordered = sorted(rows, key=lambda row: [row[key] for key in keys])
    return list(connection.execute(insert.on_conflict_do_nothing().returning(*table.primary_key), ordered))


def insert_all(session: Session, model: type[SQLModel], rows: Sequence[Values]) -> None:
    """Insert rows that are not there yet."""
    if rows:
        session.connection().execute(table_of(model).insert(), rows)


def select_in(session: Session, statement: Select[Any], column: Any, values: Iterable[Any]) -> list[Row[Any]]:
    """The statement's rows where the column has one of the values, in the order of the column."""
    rows: list[Row[Any]] = []
    for chunk in _chunks(sorted(values)):
        rows += session.connection().execute(statement.where(column.in_(chunk)).order_by(column))
    return rows


def update_by(session: Session, model: type[SQLModel], keys: Collection[str], rows: Sequence[Values]) -> None:
    """Set, in the row with the same `keys`, everything else that each of `rows` holds."""
    if rows:
        table = table_of(model)
        statement = update(table).where(*(table.c[key] == bindparam(f"the_{key}") for key in keys))
        statement = statement.values({name: bindparam(name) for name in rows[0] if name not in keys})
        named = [{f"the_{name}" if name in keys else name: value for name, value in row.items()} for row in rows]
        session.connection().execute(statement, named)


def delete_by(session: Session, model: type[SQLModel], rows: Sequence[Values]) -> None:
    """Delete the rows with the same values."""
    if rows:
        table = table_of(model)
        statement = delete(table).where(*(table.c[name] == bindparam(f"the_{name}") for name in rows[0]))
        session.connection().execute(statement, [{f"the_{name}": value for name, value in row.items()} for row in rows])


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))
