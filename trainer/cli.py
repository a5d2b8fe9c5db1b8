"""The commands of the trainer. What is heavy is imported when a command runs."""

from operator import itemgetter
from typing import Annotated, Any

import typer

from ingest.printing import AsJson, fail, opened_database, print_one, print_rows

trainer = typer.Typer(help="The scheduler of training rounds.", no_args_is_help=True)
rounds = typer.Typer(help="Training rounds and their verdicts.", no_args_is_help=True)


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
    columns = {name: itemgetter(name) for name in ("adapter", "state", "parent", "planned_at", "train_s", "why")}
    print_rows(_rounds(task), columns, dict, as_json)


@rounds.command()
def show(name: str, as_json: AsJson = False) -> None:
    """One round, by the name of its adapter, with the figures of its verdict."""
    found = next((row for row in _rounds(None) if row["adapter"] == name), None)
    if found is None:
        fail(f"There is no round {name}: `whetstone rounds list` shows all.", 2)
    print_one(found, as_json)


def _rounds(task: str | None) -> list[dict[str, Any]]:
    from sqlmodel import col, select

    from trainer.tables import Round

    query = select(Round).order_by(col(Round.id).desc())
    with opened_database() as database, database.read() as session:
        found = session.exec(query if task is None else query.where(Round.task == task)).all()
    return [round_.model_dump() | {"adapter": round_.adapter, "why": _why(round_.error, round_.verdict)} for round_ in found]


def _why(error: str | None, verdict: dict[str, list[str]] | None) -> str | None:
    """The reason that a person reads first."""
    return error or (" ".join(verdict["reasons"]) if verdict else None)
