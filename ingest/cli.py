"""Commands: `whetstone ingest serve`, `whetstone keys create|list|revoke`."""

from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated

import typer

from ingest.printing import AsJson, fail, opened_database, print_json, print_rows

ingest = typer.Typer(help="The feedback API.", no_args_is_help=True)
keys = typer.Typer(help="API keys: who may do what, for which tasks.", no_args_is_help=True)


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
        with opened_database() as database, database.begin() as session:
            key = create_key(session, name, task, scope)  # type: ignore[arg-type]  # create_key checks the scopes
    except ValidationError:
        fail(f"Scopes are {', '.join(SCOPES)}. Tasks are lower-case letters, digits and hyphens, or * for all.")
    print_json({"key": key}) if as_json else typer.echo(key)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys, revoked ones too. The keys themselves are kept nowhere."""
    from sqlmodel import col, select

    from ingest.keys import ApiKey

    with opened_database() as database, database.read() as session:
        rows = session.exec(select(ApiKey).order_by(col(ApiKey.created_at), col(ApiKey.id))).all()
    columns = {name: attrgetter(name) for name in ("id", "name", "tasks", "scopes", "created_at", "revoked_at")}
    print_rows(rows, columns, lambda row: row.model_dump(mode="json", exclude={"digest"}), as_json)


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="Its id, as `whetstone keys list` shows it.")]) -> None:
    """Revoke a key. Running services stop taking it within seconds."""
    from ingest.keys import ApiKey

    with opened_database() as database, database.begin() as session:
        row = session.get(ApiKey, key_id)
        if row is None:
            fail("There is no such key: `whetstone keys list` shows them.")
        row.revoked_at = row.revoked_at or datetime.now(UTC)
    typer.echo(f"Revoked {key_id}.")
