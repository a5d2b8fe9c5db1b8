"""The commands of one machine. What they need is imported when they run."""

from typing import Annotated

import typer

database = typer.Typer(help="The tables of the database.", no_args_is_help=True)


def up(
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing; the logs are in data_dir/logs.")] = False,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Start everything on this machine and keep it running until Ctrl-C, SIGTERM or `whetstone down`."""
    from deploy import up as service

    service.up(quiet, with_parent)


def down() -> None:
    """Stop what `whetstone up` started, and what a killed one left behind."""
    from deploy.remains import stop
    from ingest.settings import load_settings

    settings = load_settings()
    typer.echo("Stopped." if stop(settings.run_dir) else f"Nothing runs on {settings.data_dir}.")


def demo() -> None:
    """Run the story on a data directory of its own, and end with a report."""
    from deploy.demo import run

    raise typer.Exit(run())


def setup() -> None:
    """Make what the first start needs: demo model, tables, keys, secrets. Again, it changes nothing."""
    import os
    from pathlib import Path

    from deploy.model import fetch
    from deploy.provision import provision
    from ingest.settings import ModelSettings, load_settings

    os.umask(0o077)  # as `up` does
    name = load_settings().model.name
    if name == ModelSettings().name and not (Path(name) / "config.json").exists():
        typer.echo("Demo model: downloaded, and converted once (about a minute).")
        fetch(Path(name))
    settings = provision()
    typer.echo(f"Ready: keys in {settings.data_dir / 'keys.json'}, secrets in {settings.data_dir / 'secrets.toml'}.")


def config(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Every setting: value, source, allowed range, meaning. Secrets are masked."""
    import json
    from dataclasses import asdict

    from deploy.config import rows
    from ingest.settings import load_settings

    found = rows(load_settings())
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], indent=2))
        return
    for row in found:
        typer.secho(row.name, bold=True, nl=False)
        typer.echo(
            f" = {'' if row.value is None else json.dumps(row.value)}   ({'; '.join(filter(None, (row.source, row.range)))})"
        )
        typer.echo(f"    {row.description}")


@database.command()
def upgrade() -> None:
    """Make the tables, or bring them to the newest version."""
    from deploy.migrations import upgrade as upgrade_tables
    from ingest.settings import load_settings

    settings = load_settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    upgrade_tables(settings.database_url)
    typer.echo("The tables are the newest.")
