"""What commands share: rows as a table or as JSON, an opened database, and one sentence for what is wrong."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from sqlmodel import Session
    from sqlmodel.sql.expression import SelectOfScalar

    from ingest.database import Database

T = TypeVar("T")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="Print at most so many, the newest first.")]
_LINE = 60


def print_rows(
    rows: Sequence[T], columns: Mapping[str, Callable[[T], Any]], plain: Callable[[T], Any], as_json: bool, none: str = ""
) -> None:
    """As JSON whole, as `plain` gives each; else a table of these columns, or `none` where there are no rows."""
    if as_json:
        return print_json([plain(row) for row in rows])
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*(escape(_cell(column(row))) for column in columns.values()))
    Console().print(none if none and not rows else table)


def print_one(fields: Mapping[str, Any], as_json: bool) -> None:
    """As JSON, or each field under its name."""
    if as_json:
        return print_json(fields)
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
        typer.echo(f"{typer.style(name, bold=True)}: {text}")


def print_json(value: Any) -> None:
    """For people and programs; times as ISO 8601."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_iso))


def in_short(content: Any) -> str:
    """A prompt or a reply, or the last thing said in it, as one short line."""
    said = content[-1] if isinstance(content, list) else content
    text = said if isinstance(said, str) else said.get("content") or said.get("tool_calls")
    line = " ".join(text.split()) if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    return line if len(line) <= _LINE else line[: _LINE - 1] + "…"


@contextmanager
def opened_database() -> "Iterator[Database]":
    """The database of the settings. What it cannot do ends the command with a sentence."""
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from ingest.database import Database
    from ingest.settings import load_settings

    settings = load_settings()
    database = Database(settings.database_url, settings.database.pool_size)
    try:
        yield database
    except (OperationalError, ProgrammingError) as error:
        fail(f"The database cannot be used: {error.orig}. Is it running, and was `whetstone database upgrade` run?")
    finally:
        database.close()


def the_one(session: "Session", begin_so: "SelectOfScalar[T]") -> T:
    """The only row of those whose id begins as somebody typed it; else the command ends with a sentence."""
    found = session.exec(begin_so.limit(2)).all()
    if len(found) != 1:
        fail("There is none with this id." if not found else "Several ids begin so: give more of it.")
    return found[0]


def fail(sentence: str, status: int = 1) -> NoReturn:
    """End the command."""
    typer.echo(sentence, err=True)
    raise typer.Exit(status)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case list() | tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _iso(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
