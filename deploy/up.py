"""`whetstone up`: the service in the foreground, shown while it starts, with examples that work when pasted."""

import asyncio
import ctypes
import json
import os
import signal
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy import preflight
from deploy.processes import processes
from deploy.provision import provision
from deploy.remains import reap, the_only_one
from deploy.status import ProcessStatus, Status
from deploy.supervisor import Supervisor
from ingest.settings import Settings, load_settings

_PR_SET_PDEATHSIG = 1
_COLOURS = {"ready": "green", "failed": "bold red", "pausing": "yellow", "starting": "cyan"}


def up(quiet: bool, with_parent: bool) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Raises:
        AlreadyRunning: it runs already on this data directory.
        CannotStart: something that it needs is missing.
        StartFailed: a process does not start.
    """
    if with_parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.umask(0o077)  # what people said is kept for this user only, whichever process writes it
    run_dir = load_settings().run_dir
    with the_only_one(run_dir):
        reap(run_dir)
        preflight.check(load_settings())
        settings = provision()
        screen = Screen(settings, quiet)
        with screen.live:
            asyncio.run(_serve(settings, screen))


async def _serve(settings: Settings, screen: "Screen") -> None:
    await Supervisor(processes(settings), settings.run_dir, settings.data_dir / "logs", screen.show).serve()


class Screen:
    """A table while things start and stop; then the examples; then a line for each thing that happens."""

    def __init__(self, settings: Settings, quiet: bool) -> None:
        self._settings = settings
        self._console = Console(quiet=quiet, highlight=False)
        self.live = Live(console=self._console, auto_refresh=False, transient=False)
        self._told: dict[str, tuple[str, str]] = {}
        self._was_running = False

    def show(self, status: Status) -> None:
        """Called with each change."""
        if not self._was_running and status.state != "stopping":
            self.live.update(_table(status), refresh=True)
        if status.state == "running" and not self._was_running:
            self._was_running = True
            self._told = {process.name: (process.state, process.note) for process in status.processes}
            self.live.stop()
            self._console.print(examples(self._settings), markup=False, soft_wrap=True)
        elif self._was_running:
            for process in status.processes:
                self._tell(process)

    def _tell(self, process: ProcessStatus) -> None:
        said = (process.state, process.note)
        if self._told[process.name] != said and process.state != "starting":
            self._console.print(Text(f"{process.name}: {process.note or process.state}", _COLOURS.get(process.state, "")))
        self._told[process.name] = said


def _table(status: Status) -> Table:
    table = Table.grid(padding=(0, 2))
    for process in status.processes:
        table.add_row(process.name, Text(process.state, _COLOURS.get(process.state, "dim")), process.note)
    return table


def examples(settings: Settings) -> str:
    """Where to send requests and feedback, as commands with the keys filled in."""
    key = json.loads((settings.data_dir / "keys.json").read_text())["app"]
    door = f"http://{settings.ingest.host}:{settings.ingest.port}"
    return _EXAMPLES.format(gateway=settings.gateway_url, ingest=door, key=key, task=next(iter(settings.tasks)))


_EXAMPLES = (Path(__file__).parent / "examples.txt").read_text()
