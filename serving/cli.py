"""The commands of serving: `whetstone gateway`, `whetstone rollout`, `whetstone adapters`."""

import getpass
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.printing import AsJson, fail, opened_database, print_json, print_rows
from ingest.settings import load_settings

if TYPE_CHECKING:
    from sqlmodel import Session

    from trainer.tables import Release

gateway = typer.Typer(help="The OpenAI-compatible door in front of vLLM.", no_args_is_help=True)
rollout = typer.Typer(help="The loop that loads adapters and moves traffic to them.", no_args_is_help=True)
adapters = typer.Typer(help="The adapters: which there are, which answers, and moving traffic by hand.", no_args_is_help=True)

_GRACE_S = 5
_IDLE_S = 60  # longer than clients keep idle connections: one that closes just then fails a request for nothing
By = Annotated[str, typer.Option(help="Who says so, for the record.", default_factory=getpass.getuser)]
Timeout = Annotated[float, typer.Option(min=0, help="Wait so many seconds for the traffic to move.")]


@gateway.callback()
def _gateway() -> None:
    """Keeps `serve` a command of its own, though it is the only one."""


@rollout.callback()
def _rollout() -> None:
    """Keeps `run` a command of its own, though it is the only one."""


@gateway.command("serve")
def serve() -> None:
    """Answer requests until SIGTERM; what is being answered then has a few seconds to finish."""
    import uvicorn

    from ingest.observe import configure_logging, share_metrics

    settings, run_dir = load_settings().gateway, load_settings().run_dir
    configure_logging("gateway")
    if settings.workers > 1:
        share_metrics(run_dir / "gateway-metrics")
    uvicorn.run(
        "serving.gateway.app:serve_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


@rollout.command("run")
def run() -> None:
    """Load, warm, flip, drain and unload until SIGTERM."""
    from ingest.observe import configure_logging
    from serving.rollout.run import run

    configure_logging("rollout")
    run(load_settings())


@adapters.command("list")
def list_adapters(task: Annotated[str | None, typer.Option(help="Only this task's.")] = None, as_json: AsJson = False) -> None:
    """Every sealed adapter, and which answers its task."""
    from serving.adapters import AdapterRow, list_rows

    with opened_database() as database:
        rows = [row for row in list_rows(database, sorted(load_settings().tasks)) if task in (None, row.task)]
    columns: dict[str, Callable[[AdapterRow], object]] = {
        "adapter": lambda row: row.name,
        "task": lambda row: row.task,
        "state": lambda row: f"{row.state}, tainted" if row.tainted_at else row.state,
        "parent": lambda row: row.parent,
        "sealed at": lambda row: row.sealed_at,
    }
    none = "No adapter yet: `whetstone rounds list` shows the rounds that make them."
    print_rows(rows, columns, AdapterRow.plain, as_json, none)


@adapters.command("promote")
def promote(name: str, by: By, as_json: AsJson = False, timeout_s: Timeout = 120) -> None:
    """Move its task's traffic to this adapter, whatever the gate said of it."""
    from serving.adapters import ask_promotion

    _move(lambda session, now: ask_promotion(session, name, load_settings().tasks, by, now), as_json, timeout_s)


@adapters.command("rollback")
def rollback(task: str, by: By, as_json: AsJson = False, timeout_s: Timeout = 120) -> None:
    """Move the task's traffic back to what answered before."""
    from serving.adapters import ask_rollback

    _move(lambda session, now: ask_rollback(session, task, load_settings().tasks, by, now), as_json, timeout_s)


def _move(ask: "Callable[[Session, datetime], Release]", as_json: bool, timeout_s: float) -> None:
    """Write the wish down, then watch rollout fulfil it."""
    from rich.console import Console

    from serving.adapters import Refused, wait_until_live

    with opened_database() as database:
        try:
            with database.begin() as session:
                release = ask(session, datetime.now(UTC))
        except Refused as refusal:
            fail(str(refusal))
        with Console(stderr=True).status(f"{release.adapter} is loaded and warmed, then {release.task} moves to it"):
            live = wait_until_live(database, release, timeout_s)
    if as_json:
        print_json({"task": release.task, "adapter": release.adapter, "release": release.id, "live": live})
    elif live:
        typer.echo(f"{release.adapter} answers {release.task}.")
    if not live:
        wanted = f"{release.adapter} is wanted for {release.task}, but does not answer after {timeout_s:g} s."
        fail(f"{wanted} The wish stays: traffic moves once `whetstone rollout run` and vLLM are up.")
