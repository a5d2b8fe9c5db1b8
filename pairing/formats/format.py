"""What a format is: how its rows are known, read and written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pairing.formats.values import Entry, Row


@dataclass(frozen=True, slots=True)
class Format:
    """A format of preference data, by the name that `--format` takes."""

    name: str
    claims: Callable[[Row], bool]
    """Whether a row has this format's own fields. False for all rows of a format that is written like another one."""
    read: Callable[[Row], Sequence[Entry]]
    """The pairs or examples of a row. Raises Refused."""
    write: Callable[[Entry], dict[str, Any]] | None = None
    """The row of a pair or example. Raises Refused. None: a format that is only read."""
    tags: frozenset[str] = frozenset()
    """Names of the tags that `write` has a place for."""


def has(row: Row, kind: type, *names: str) -> bool:
    """Whether these fields are all of this kind."""
    return all(isinstance(row.get(name), kind) for name in names)


def never(_row: Row) -> bool:
    """For formats whose rows look like another one's."""
    return False
