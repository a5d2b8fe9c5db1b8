"""Commands: `whetstone pairing work`, `whetstone pairs list|show|import|export|convert`, `whetstone dead-letters list|show`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from pairing import data_cli

if TYPE_CHECKING:
    from sqlmodel import Session

    from pairing.tables import DeadLetter, Pair

pairing = typer.Typer(help="Turns events into pairs.", no_args_is_help=True)
pairs = typer.Typer(help="The pairs that feedback became.", no_args_is_help=True)
pairs.command("import")(data_cli.import_pairs)
pairs.command("export")(data_cli.export_pairs)
pairs.command("convert")(data_cli.convert_pairs)
dead_letters = typer.Typer(help="Events that could not be processed, with the reason.", no_args_is_help=True)

_A_PERSON_DECIDES = 3
"""Exit status of a worker that must not be started again before somebody has read why it stopped."""
_SHOWN = 60
_JSON = ("prompt", "tools", "chosen", "rejected", "chosen_adapters", "rejected_adapters", "counted")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="Print at most so many, the newest first.")]


@pairing.callback()
def _pairing() -> None:
    """Keeps `work` a command of its own, though it is the only one."""


@pairing.command("work")
def work(
    member: Annotated[
        str | None, typer.Option(help="Name among the readers, the same at each start. Default: the host's.")
    ] = None,
) -> None:
    """Read the event log until SIGTERM."""
    import logging
    import signal
    from threading import Event

    from ingest.log import LogMoved, MemberReplaced
    from ingest.observe import configure_logging
    from ingest.settings import load_settings
    from pairing.holdout import HoldoutChanged
    from pairing.tombstones import ErasureKeyChanged
    from pairing.worker import work

    configure_logging("pairing")
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        work(load_settings(), member or _default_member(), stop)
    except (LogMoved, MemberReplaced, HoldoutChanged, ErasureKeyChanged) as error:
        logging.getLogger(__name__).error("stops: %s", error)
        raise typer.Exit(_A_PERSON_DECIDES) from None


@pairs.command("list")
def list_pairs(
    task: Annotated[str | None, typer.Option(help="Only this task's.")] = None,
    source: Annotated[str | None, typer.Option(help="Only from choice, regeneration, edit or preference.")] = None,
    split: Annotated[str | None, typer.Option(help="Only train or holdout.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List pairs."""
    from sqlmodel import col, select

    from pairing.tables import Pair

    asked = {Pair.task: task, Pair.source: source, Pair.split: split}
    query = select(Pair).where(*(col(column) == value for column, value in asked.items() if value is not None))
    with _session() as session:
        found = session.exec(query.order_by(col(Pair.created_at).desc(), col(Pair.id)).limit(limit)).all()
    if as_json:
        _print_json([_of_pair(pair) for pair in found])
    else:
        columns = ("id", "task", "source", "split", "votes", "prompt", "chosen", "rejected")
        _print_table(columns, [_in_short(pair) for pair in found])


@pairs.command("show")
def show_pair(pair_id: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")], as_json: AsJson = False) -> None:
    """Show a pair whole, with the events behind it."""
    from pairing.rows import select_by
    from pairing.standing import behind
    from pairing.tables import Pair, StoredEvent

    with _session() as session:
        pair = _the_one(session, Pair, pair_id)
        keys = [(pair.task, id_) for id_ in sorted(behind(session, pair.task, [pair.replies])[pair.replies])]
        rows = select_by(session, StoredEvent, ("event_id", "type"), ("task", "event_id"), keys)
    told = _of_pair(pair) | {"events": [{"event_id": event_id, "type": type_} for event_id, type_ in rows]}
    _print_json(told) if as_json else _print_whole(told)


@dead_letters.command("list")
def list_dead_letters(
    reason: Annotated[str | None, typer.Option(help="Only with this reason.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List dead letters."""
    from sqlmodel import col, select

    from pairing.tables import DeadLetter

    query = select(DeadLetter).where(*([DeadLetter.reason == reason] if reason else []))
    with _session() as session:
        found = session.exec(query.order_by(col(DeadLetter.received_at).desc(), col(DeadLetter.id)).limit(limit)).all()
    if as_json:
        _print_json([_of_letter(letter) for letter in found])
    else:
        rows = [(letter.id[:12], letter.reason, f"{letter.received_at:%Y-%m-%d %H:%M:%S}", letter.detail) for letter in found]
        _print_table(("id", "reason", "received", "detail"), rows)


@dead_letters.command("show")
def show_dead_letter(
    letter_id: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")], as_json: AsJson = False
) -> None:
    """Show a dead letter whole, as it came."""
    from pairing.outcomes import DeadReason
    from pairing.tables import DeadLetter

    with _session() as session:
        letter = _the_one(session, DeadLetter, letter_id)
    told = _of_letter(letter) | {"meaning": DeadReason(letter.reason).meaning, "value": letter.value.decode(errors="replace")}
    _print_json(told) if as_json else _print_whole(told)


def _default_member() -> str:
    import re
    import socket

    return "pairing-" + re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())


def _of_pair(pair: "Pair") -> dict[str, Any]:
    return pair.model_dump(mode="json") | {name: _parsed(getattr(pair, name)) for name in _JSON}


def _of_letter(letter: "DeadLetter") -> dict[str, Any]:
    return letter.model_dump(mode="json", exclude={"value"})


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _in_short(pair: "Pair") -> tuple[str, ...]:
    votes = f"{pair.votes_for}:{pair.votes_against}"
    texts = (_line(_parsed(text)) for text in (pair.prompt, pair.chosen, pair.rejected))
    return pair.id[:12], pair.task, pair.source, pair.split, votes, *texts


def _line(content: Any) -> str:
    """The last thing said, as one short line."""
    said = content[-1] if isinstance(content, list) else content
    text = said if isinstance(said, str) else said.get("content") or said.get("tool_calls")
    line = " ".join(text.split()) if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _the_one(session: "Session", model: Any, beginning: str) -> Any:
    from sqlmodel import col, select

    found = session.exec(select(model).where(col(model.id).startswith(beginning, autoescape=True)).limit(2)).all()
    if len(found) != 1:
        _fail("There is none with this id." if not found else "Several ids begin so: give more of it.")
    return found[0]


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def _print_whole(told: dict[str, Any]) -> None:
    for name, value in told.items():
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        typer.echo(f"{typer.style(name, bold=True)}: {text}")


@contextmanager
def _session() -> "Iterator[Session]":
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from ingest.database import Database
    from ingest.settings import load_settings

    database = Database(load_settings().database_url)
    try:
        with database.read() as session:
            yield session
    except (OperationalError, ProgrammingError) as error:
        _fail(f"The database cannot be used: {error.orig}. Is it running, and was `whetstone database upgrade` run?")
    finally:
        database.close()


def _fail(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)
