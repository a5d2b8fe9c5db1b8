"""Short forms of keys, by which PostgreSQL finds rows that it then compares whole.

Hashes and clients' ids come in no order: each new one goes to another place of its index. Ten million keys of 64 letters each are
more than memory holds, and reading and writing those places then costs more than all other work on an event. SQLite, which is for
one machine, has its indexes on the whole keys.
"""

from typing import Any, ClassVar, TypeVar

from sqlalchemy import ColumnElement, Constraint, Index, Table, and_, column
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

Made = TypeVar("Made", Index, Constraint)
_SHORT = "short_key"
_LETTERS = 15
"""60 bits of a hash, which sort as the whole hashes do."""


class Short(FunctionElement[Any]):
    """A short form of one or several columns, or of values as theirs; on SQLite the first of them, whole."""

    inherit_cache = True
    form: ClassVar[str]

    @classmethod
    def of(cls, *columns: str) -> "Short":
        """Of the columns with these names, for an index of their table."""
        return cls(*map(column, columns))

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        parts: Any = self.clauses
        return [one.name for one in parts]


class hashed(Short):
    """Eight bytes: of a client's id, or of a hash that many rows may have."""

    inherit_cache = True
    form = "hashtextextended({}, 0)"


class beginning(Short):
    """The first letters of a hash: rows are also listed in its order, and found by what a person typed of it."""

    inherit_cache = True
    form = f"substr({{}}, 1, {_LETTERS})"


class joined(Short):
    """A hash and its task in one, for an index that can hold each but once, and knows nothing but equality."""

    inherit_cache = True
    form = "({} || {})"


def only(dialect: str, item: Made) -> Made:
    """Made in databases of this dialect alone; its info says so to whoever compares it with what a database has."""
    item.info["dialect"] = dialect
    return item.ddl_if(dialect)


def found_by(name: str, key: Short, *more: str, **options: Any) -> Index:
    """An index of PostgreSQL's on a short form, and on columns that differ where it does not."""
    return only("postgresql", Index(name, key, *more, info={_SHORT: key}, **options))


def once_by(name: str, key: Short) -> Constraint:
    """On PostgreSQL, an index as `found_by` makes one, in which each short form can be but once."""
    return only("postgresql", ExcludeConstraint((key, "="), name=name, using="hash", info={_SHORT: key}))


def short_keys(table: Table) -> list[Short]:
    """The short forms by which PostgreSQL finds rows of the table."""
    made: list[Index | Constraint] = [*table.indexes, *table.constraints]
    return [item.info[_SHORT] for item in sorted(made, key=lambda item: str(item.name)) if _SHORT in item.info]


def equal(form: type[Short], *pairs: tuple[Any, Any]) -> ColumnElement[bool]:
    """That the two of each pair are equal, of which one is a column that has an index on its short form."""
    columns, others = zip(*pairs, strict=True)
    return and_(form(*columns) == form(*others), *(one == other for one, other in pairs))


def begins(key: Any, said: str) -> ColumnElement[bool]:
    """That the key, which has an index on its beginning, begins so."""
    return and_(beginning(key).startswith(said[:_LETTERS], autoescape=True), key.startswith(said, autoescape=True))


@compiles(Short)
def _whole(element: Short, compiler: Any, **options: Any) -> str:
    return str(compiler.process(next(iter(element.clauses)), **options))


@compiles(Short, "postgresql")
def _short(element: Short, compiler: Any, **options: Any) -> str:
    return element.form.format(*(compiler.process(one, **options) for one in element.clauses))
