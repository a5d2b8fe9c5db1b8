"""Commands: `whetstone ingest serve`, `whetstone keys create|list|revoke`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from sqlmodel import Session

    from ingest.keys import ApiKey

ingest = typer.Typer(help="The feedback API.", no_args_is_help=True)
keys = typer.Typer(help="API keys: who may do what, for which tasks.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@ingest.callback()
def _ingest() -> None:
    """The feedback API."""


@ingest.command()
def serve() -> None:
    """Serve the feedback API until SIGTERM."""
    run_server("ingest.app:serve_app")


def run_server(factory: str) -> None:
    """Serve, by the settings of ingest, the app that MODULE:FUNCTION makes in each worker process."""
    import uvicorn

    from ingest.observe import configure_logging, share_metrics
    from ingest.settings import load_settings

    settings = load_settings()
    configure_logging("ingest")
    if settings.ingest.workers > 1:
        share_metrics(settings.run_dir / "ingest-metrics")
    uvicorn.run(
        factory,
        factory=True,
        host=settings.ingest.host,
        port=settings.ingest.port,
        workers=settings.ingest.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="What you call it.")],
    scope: Annotated[list[str], typer.Option(help="What it may do; several times for several.")],
    task: Annotated[list[str], typer.Option(help="The task it is for; several times for several, * for all.")],
    as_json: AsJson = False,
) -> None:
    """Make a key and print it. It cannot be printed again."""
    from pydantic import ValidationError

    from ingest.keys import SCOPES, create_key

    try:
        with _session() as session:
            key = create_key(session, name, task, scope)  # type: ignore[arg-type]  # create_key checks the scopes
    except ValidationError:
        _fail(f"Scopes are {', '.join(SCOPES)}. Tasks are lower-case letters, digits and hyphens, or * for all.")
    typer.echo(json.dumps({"key": key}) if as_json else key)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys, revoked ones too. The keys themselves are kept nowhere."""
    from sqlmodel import col, select

    from ingest.keys import ApiKey

    with _session() as session:
        rows = session.exec(select(ApiKey).order_by(col(ApiKey.created_at), col(ApiKey.id))).all()
    if as_json:
        typer.echo(json.dumps([row.model_dump(mode="json", exclude={"digest"}) for row in rows]))
    else:
        _show(rows)


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="Its id, as `whetstone keys list` shows it.")]) -> None:
    """Revoke a key. Running services stop taking it within seconds."""
    from ingest.keys import ApiKey

    with _session() as session:
        row = session.get(ApiKey, key_id)
        if row is None:
            _fail("There is no such key: `whetstone keys list` shows them.")
        row.revoked_at = row.revoked_at or datetime.now(UTC)
    typer.echo(f"Revoked {key_id}.")


@contextmanager
def _session() -> "Iterator[Session]":
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from ingest.database import Database
    from ingest.settings import load_settings

    database = Database(load_settings().database_url)
    try:
        with database.begin() as session:
            yield session
    except (OperationalError, ProgrammingError) as error:
        _fail(f"The database cannot be used: {error.orig}. Is it running, and was `whetstone database upgrade` run?")
    finally:
        database.close()


def _show(rows: "Sequence[ApiKey]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "name", "tasks", "scopes", "made", "revoked")
    for row in rows:
        revoked = f"{row.revoked_at:%Y-%m-%d %H:%M}" if row.revoked_at else ""
        table.add_row(row.id, row.name, ", ".join(row.tasks), ", ".join(row.scopes), f"{row.created_at:%Y-%m-%d %H:%M}", revoked)
    Console().print(table)


def _fail(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)
