"""Commands: `whetstone erasures list`."""

import json
from typing import Annotated

import typer

erasures = typer.Typer(help="The proofs that users were erased.", no_args_is_help=True)


@erasures.callback()
def _erasures() -> None:
    """Keeps `list` a command of its own, though it is the only one."""


@erasures.command("list")
def list_erasures(
    task: Annotated[str | None, typer.Option(help="Only this task's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Who was erased, by keyed hash; when that was asked for and when it was done; how many events lost their content.

    `log` says how the event log loses what it holds of them: removed (with the rest), or retention (with the topic's age).
    """
    from rich.console import Console
    from rich.table import Table
    from sqlmodel import col, select

    from pairing.cli import _session
    from pairing.tables import Erasure

    query = select(Erasure) if task is None else select(Erasure).where(Erasure.task == task)
    with _session() as session:
        found = session.exec(query.order_by(col(Erasure.asked_at).desc(), col(Erasure.user_hash))).all()
    rows = [one.model_dump(mode="json") for one in found]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = ("task", "user_hash", "asked_at", "erased_at", "rounds_at", "events", "log")
    table = Table(*columns)
    for row in rows:
        table.add_row(*("" if row[name] is None else str(row[name])[:19] for name in columns))
    Console().print(table)
