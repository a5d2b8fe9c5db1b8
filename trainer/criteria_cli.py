"""The command of criteria: `whetstone criteria run`. What is heavy is imported when it runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from ingest.printing import AsJson, opened_database, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.scoring import RecentPrompt, Tally
    from trainer.scoring_run import CriteriaRun

criteria = typer.Typer(help="Scores of fresh replies, by a task's criteria.", no_args_is_help=True)

_WRONG = 2
_STOPPED = 130


@criteria.callback()
def _criteria() -> None:
    """Keeps `run` a command of its own, though it is the only one."""


@criteria.command("run")
def run(
    task: Annotated[str, typer.Argument(help="The task.")],
    prompts: Annotated[int, typer.Option(min=1, help="So many different prompts, the last asked first.")] = 64,
    candidates: Annotated[int, typer.Option(min=2, max=32, help="Fresh replies to each.")] = 4,
    temperature: Annotated[float, typer.Option(min=0.01, max=2, help="Sampling temperature.")] = 0.7,
    as_json: AsJson = False,
) -> None:
    """Sample replies to recent prompts, score them, and send the scores as feedback. They become pairs like all other."""
    from rich.console import Console

    from ingest.settings import load_settings
    from trainer.errors import TrainerError
    from trainer.scoring import Tally
    from trainer.scoring_doors import Sampling
    from trainer.scoring_prompts import prompts_to_score
    from trainer.scoring_run import CriteriaRun

    settings, tally, status = load_settings(), Tally(), 0
    screen = Console(stderr=True)
    try:
        with opened_database() as database:
            found = prompts_to_score(database, settings, task, prompts)
        sampling = Sampling(candidates, temperature, settings.tasks[task].gate.max_tokens)
        _watch(CriteriaRun(settings, task, sampling, tally), found, screen)
    except KeyboardInterrupt:
        status = _STOPPED
        screen.print("Stopped. What was scored so far stays; run it again whenever you like.")
    except TrainerError as error:
        status = _WRONG
        typer.echo(str(error), err=True)
    if tally.failures and not tally.prompts:
        status = status or _WRONG
    if tally.prompts or tally.refused or tally.failures or not status:
        print_json(tally.as_json()) if as_json else _print(tally)
    raise typer.Exit(status)


def _watch(run: "CriteriaRun", prompts: "list[RecentPrompt]", screen: "Console") -> None:
    """Run with a progress bar."""
    import asyncio

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen) as progress:
        bar = progress.add_task("prompts scored", total=len(prompts))
        asyncio.run(run.run(prompts, lambda: progress.advance(bar)))


def _print(tally: "Tally") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("criterion", "mean score", "with a margin", "no answer")
    for name, one in tally.criteria.items():
        table.add_row(name, f"{one.mean:.2f}" if one.scores else "", str(one.with_margin), str(one.failed))
    console = Console()
    console.print(table)
    said = f"{tally.candidates} replies to {tally.prompts} prompts are scored; {tally.with_margin} of the prompts have a margin."
    refused = f" {tally.refused} prompts could not be asked." if tally.refused else ""
    console.print(said + refused)
    for name, count in tally.unreadable_answers.items():
        if count:
            console.print(f"{name}: {count} answers of the judge were not A, B or tie, and count as ties.")
    for why in tally.failures.values():
        console.print(escape(why))
