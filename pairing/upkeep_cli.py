"""Commands: `whetstone pairs rebuild|bias`. What they need is imported when they run."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.printing import AsJson, fail, opened_database, print_json, print_rows

if TYPE_CHECKING:
    from sqlmodel import Session

    from pairing.rules.position import PositionBias

TaskOption = Annotated[str | None, typer.Option("--task", help="Only this task's. Default: every task's.")]
_AT_ONCE = 5_000


def rebuild_pairs(task: TaskOption = None, as_json: AsJson = False) -> None:
    """Derive everything anew from the stored events, say what differs, and put it in place.

    Nothing differs unless rules or settings have changed. Workers may run: what comes meanwhile they derive afterwards.
    """
    found = {one: _rebuild(one) for one in _tasks(task)}
    if as_json:
        return print_json(found)
    for one, differences in found.items():
        said = ", ".join(f"{count} {what}" for what, count in sorted(differences.items()))
        typer.echo(f"{one}: {said or 'nothing differs'}.")


def show_bias(task: TaskOption = None, as_json: AsJson = False) -> None:
    """Whether people pick what stands first on the screen more often than it deserves."""
    with opened_database() as database, database.read() as session:
        found = [(one, _bias(session, one)) for one in _tasks(task)]
    rows: list[tuple[str, PositionBias]] = [(one, bias) for one, bias in found if bias]
    columns = {
        "task": lambda row: row[0],
        "choices": lambda row: row[1].choices,
        "picked the first": lambda row: f"{row[1].first:.1%} (95 %: {row[1].low:.1%} to {row[1].high:.1%})",
        "by chance": lambda row: f"{row[1].expected:.1%}",
        "biased": lambda row: "yes" if row[1].is_plain else "not plainly",
    }
    print_rows(rows, columns, _plain, as_json, none="No choices yet.")


def _rebuild(task: str) -> Counter[str]:
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.progress import Progress

    from ingest.settings import load_settings
    from pairing.rebuild import rebuild

    with opened_database() as database, Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"Events of {task}")
        now = datetime.now(UTC)
        return rebuild(
            database, load_settings(), task, now, lambda done, total: progress.update(bar, completed=done, total=total)
        )


def _tasks(task: str | None) -> list[str]:
    from ingest.settings import load_settings

    known = sorted(load_settings().tasks)
    if task is not None and task not in known:
        fail(f"The settings have no task {task}. They have: {', '.join(known) or 'none'}.")
    return known if task is None else [task]


def _bias(session: "Session", task: str) -> "PositionBias | None":
    """Over the choices that count, whether or not a pair came of what was picked."""
    from sqlmodel import col, select

    from ingest.events import ChoiceEvent, event_adapter
    from pairing.outcomes import Outcome
    from pairing.rules.choice import picked_at
    from pairing.rules.position import position_bias
    from pairing.tables import StoredEvent

    counting = (Outcome.VOTED, Outcome.PICKED_FIRST, Outcome.SAME_TEXT)
    query = select(StoredEvent.body).where(
        StoredEvent.task == task, StoredEvent.type == "choice", col(StoredEvent.outcome).in_(counting)
    )
    picks: Counter[tuple[int, int]] = Counter()
    for body in session.exec(query.execution_options(yield_per=_AT_ONCE)):
        event = event_adapter.validate_json(body)
        if isinstance(event, ChoiceEvent) and (place := picked_at(event)) is not None:
            picks[len(event.shown), place] += 1
    return position_bias(picks)


def _plain(row: "tuple[str, PositionBias]") -> dict[str, Any]:
    from dataclasses import asdict

    return {"task": row[0], **asdict(row[1]), "biased": row[1].is_plain}
