"""What is served behind one door though several stages make it: only here are they put together."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fastapi import FastAPI

ingest = typer.Typer(help="The feedback API, and the pairs that feedback became.", no_args_is_help=True)


@ingest.callback()
def _ingest() -> None:
    """Keeps `serve` a command of its own, though it is the only one."""


@ingest.command()
def serve() -> None:
    """Serve the API for feedback and for pairs until SIGTERM."""
    from ingest.cli import run_server

    run_server("deploy.doors:ingest_app")


def ingest_app() -> "FastAPI":
    """The app of one worker process: ingest's, with pairing's routes in it."""
    from ingest.app import serve_app
    from pairing.api import routes

    return serve_app(routes)
