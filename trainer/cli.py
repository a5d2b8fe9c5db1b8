"""The commands of the trainer. What is heavy is imported when a command runs."""

import json
from typing import Annotated

import typer

trainer = typer.Typer(help="The scheduler of training rounds.", no_args_is_help=True)
rounds = typer.Typer(help="Training rounds and their verdicts.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@trainer.callback()
def _trainer() -> None:
    """The scheduler of training rounds."""


@trainer.command()
def schedule() -> None:
    """Start rounds when they are due, until told to stop."""
    from ingest.observe import configure_logging
    from ingest.settings import load_settings
    from trainer.schedule import run

    settings = load_settings()
    configure_logging("trainer")
    run(settings)


@rounds.command("list")
def list_rounds(task: Annotated[str | None, typer.Option(help="Only this task's.")] = None, as_json: AsJson = False) -> None:
    """Rounds, the newest first."""
    from rich.console import Console
    from rich.table import Table

    found = _rounds(task)
    if as_json:
        typer.echo(json.dumps(found, default=str))
        return
    columns = ("adapter", "state", "parent", "planned_at", "train_s", "why")
    table = Table(*columns)
    for row in found:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    Console().print(table)


@rounds.command()
def show(name: str, as_json: AsJson = False) -> None:
    """One round, by the name of its adapter, with the figures of its verdict."""
    from rich.console import Console

    found = next((row for row in _rounds(None) if row["adapter"] == name), None)
    if found is None:
        typer.echo(f"There is no round {name}: `whetstone rounds list` shows all.", err=True)
        raise typer.Exit(2)
    if as_json:
        typer.echo(json.dumps(found, default=str))
    else:
        Console().print_json(json.dumps(found, default=str))


def _rounds(task: str | None) -> list[dict[str, object]]:
    from contextlib import closing

    from sqlalchemy.exc import OperationalError, ProgrammingError
    from sqlmodel import col, select

    from ingest.database import Database
    from ingest.settings import load_settings
    from trainer.tables import Round

    query = select(Round).order_by(col(Round.id).desc())
    try:
        with closing(Database(load_settings().database_url)) as database, database.read() as session:
            found = session.exec(query if task is None else query.where(Round.task == task)).all()
    except (OperationalError, ProgrammingError) as error:
        said = f"The database cannot be used: {error.orig}. Is it running, and was `whetstone database upgrade` run?"
        typer.echo(said, err=True)
        raise typer.Exit(1) from None
    return [round_.model_dump() | {"adapter": round_.adapter, "why": _why(round_.error, round_.verdict)} for round_ in found]


def _why(error: str | None, verdict: dict[str, list[str]] | None) -> str | None:
    """The reason that a person reads first."""
    return error or (" ".join(verdict["reasons"]) if verdict else None)
