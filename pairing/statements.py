"""The text of statements about many rows, which does not depend on how many: their keys are one JSON array."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlmodel import SQLModel

from pairing.short_keys import short_keys

Model = type[SQLModel]
_AS_COPIED = {"FLOAT": "float8", "VARCHAR": "text"}


def table_of(model: Model) -> Table:
    """The table behind a model."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


@cache
def select(model: Model, columns: tuple[str, ...], keys: tuple[str, ...], dialect: str) -> str:
    """A join that looks each key up: CROSS JOIN keeps SQLite to that order, and the worker's settings PostgreSQL."""
    join = "CROSS JOIN" if dialect == "sqlite" else "JOIN"
    wanted = ", ".join(f"t.{quoted(column)}" for column in columns)
    on = "WHERE" if dialect == "sqlite" else "ON"
    source = f"{_keys(dialect)} {join} {model.__tablename__} t"
    return f"SELECT {wanted} FROM {source} {on} {_same(model, keys, dialect)}"


@cache
def first(model: Model, columns: tuple[str, ...], keys: tuple[str, ...], tail: str, dialect: str) -> str:
    """A lookup of its own for each key, which ends as `tail` says. SQLite is asked for one key at a time."""
    wanted = ", ".join(map(quoted, columns))
    if dialect == "sqlite":
        same = " AND ".join(f"{quoted(key)} = ?" for key in keys)
        return f"SELECT {wanted} FROM {model.__tablename__} WHERE {same} {tail}"
    one = f"SELECT {wanted} FROM {model.__tablename__} t WHERE {_same(model, keys, dialect)} {tail}"
    return f"SELECT f.* FROM {_keys(dialect)} CROSS JOIN LATERAL ({one}) f"


@cache
def delete(model: Model, keys: tuple[str, ...], dialect: str) -> str:
    """Deletes the rows with any of the keys."""
    table = model.__tablename__
    if dialect == "sqlite":
        names = ", ".join(map(quoted, keys))
        values = ", ".join(f"json_extract(k.value, '$[{place}]')" for place in range(len(keys)))
        return f"DELETE FROM {table} WHERE ({names}) IN (SELECT {values} FROM json_each(?) k)"
    return f"DELETE FROM {table} t USING {_keys(dialect)} WHERE {_same(model, keys, dialect)}"


@cache
def update(model: Model, keys: tuple[str, ...], columns: tuple[str, ...], dialect: str) -> str:
    """Sets columns to what stands after the keys. SQLite is told one row at a time, and the keys last."""
    table = model.__tablename__
    if dialect == "sqlite":
        new, same = (" = ?, ".join(map(quoted, columns)) + " = ?", " = ? AND ".join(map(quoted, keys)) + " = ?")
        return f"UPDATE {table} SET {new} WHERE {same}"
    new = ", ".join(f"{quoted(name)} = {_value(model, name, place)}" for place, name in enumerate(columns, len(keys)))
    return f"UPDATE {table} t SET {new} FROM {_keys(dialect)} WHERE {_same(model, keys, dialect)}"


@cache
def update_among(model: Model, keys: tuple[str, ...], among: str, column: str) -> str:
    """Sets a column of the rows with a key to what stands, in the object after the key, under what `among` says.

    OFFSET keeps what is parsed: that is done once a key, and not once a row.
    """
    parsed = f"SELECT value -> 0 AS value, (value -> 1)::jsonb AS new FROM {_keys('postgresql')} OFFSET 0"
    new = f"(k.new ->> t.{quoted(among)})::{_type(model, column)}"
    some = f"{_same(model, keys, 'postgresql')} AND k.new ? t.{quoted(among)}"
    return f"UPDATE {model.__tablename__} t SET {quoted(column)} = {new} FROM ({parsed}) k WHERE {some}"


def _keys(dialect: str) -> str:
    return "json_each(?) k" if dialect == "sqlite" else "json_array_elements(%s::json) k(value)"


def _same(model: Model, keys: tuple[str, ...], dialect: str) -> str:
    if dialect == "sqlite":
        return " AND ".join(f"t.{quoted(key)} = json_extract(k.value, '$[{place}]')" for place, key in enumerate(keys))
    values = {key: _value(model, key, place) for place, key in enumerate(keys)}
    conditions = [*_short(model, values), *(f"t.{quoted(key)} = {value}" for key, value in values.items())]
    return " AND ".join(conditions)


def _short(model: Model, values: Mapping[str, str]) -> Iterator[str]:
    """By which PostgreSQL finds the rows that then are compared whole."""
    for key in short_keys(table_of(model)):
        if values.keys() >= {*key.names}:
            columns = (f"t.{quoted(name)}" for name in key.names)
            yield f"{key.form.format(*columns)} = {key.form.format(*(values[name] for name in key.names))}"


def _value(model: Model, name: str, place: int) -> str:
    return f"(k.value ->> {place})::{_type(model, name)}"


@cache
def copied(model: Model, columns: tuple[str, ...]) -> Sequence[str]:
    """The types by the names under which psycopg knows them."""
    return [_AS_COPIED.get(kind := _type(model, column), kind.lower()) for column in columns]


def _type(model: Model, column: str) -> str:
    """As PostgreSQL's DDL has it, without the order that it sorts in."""
    type_ = table_of(model).c[column].type.compile(postgresql.dialect())  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    return str(type_).partition(" COLLATE")[0]


def quoted(name: str) -> str:
    """Columns such as `user` and `offset` are words of SQL."""
    return f'"{name}"'
