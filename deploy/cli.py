"""The `whetstone` command: every stage's commands under one name, each loaded only when it is called."""

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is, as MODULE:NAME, and what the list of commands says of it."""

    where: str
    help: str
    panel: str


_PEOPLE, _PROCESSES = "For people", "Processes, as the supervisor starts them"
COMMANDS = {
    "up": Entry("deploy.commands:up", "Start everything on this machine and keep it running.", _PEOPLE),
    "down": Entry("deploy.commands:down", "Stop what `up` started.", _PEOPLE),
    "demo": Entry("deploy.commands:demo", "Watch the model get better from simulated users.", _PEOPLE),
    "setup": Entry("deploy.commands:setup", "Make what the first start needs: model, tables, keys, secrets.", _PEOPLE),
    "config": Entry("deploy.commands:config", "Every setting: value, source, range, meaning.", _PEOPLE),
    "database": Entry("deploy.commands:database", "The tables of the database.", _PEOPLE),
    "keys": Entry("ingest.cli:keys", "API keys: create, list, revoke.", _PEOPLE),
    "pairs": Entry("pairing.cli:pairs", "The pairs that feedback became.", _PEOPLE),
    "explain": Entry("trainer.explain_cli:explain", "Where an event, pair or adapter came from, and what became of it.", _PEOPLE),
    "dead-letters": Entry("pairing.letters_cli:dead_letters", "Events that could not be processed, with the reason.", _PEOPLE),
    "criteria": Entry("trainer.criteria_cli:criteria", "Score fresh replies by a task's criteria.", _PEOPLE),
    "erasures": Entry("pairing.erasures_cli:erasures", "The proofs that users were erased.", _PEOPLE),
    "rounds": Entry("trainer.cli:rounds", "The trainings, and what the gate said of each.", _PEOPLE),
    "adapters": Entry("serving.cli:adapters", "The adapters: list, promote, roll back.", _PEOPLE),
    "ingest": Entry("deploy.doors:ingest", "The API for feedback and for pairs.", _PROCESSES),
    "pairing": Entry("pairing.cli:pairing", "Turns events into pairs.", _PROCESSES),
    "trainer": Entry("trainer.cli:trainer", "Decides when a round is due, and runs it.", _PROCESSES),
    "gateway": Entry("serving.cli:gateway", "The OpenAI-compatible door in front of vLLM.", _PROCESSES),
    "rollout": Entry("serving.cli:rollout", "Loads adapters and moves traffic to them.", _PROCESSES),
}
_EXPECTED = (
    "ingest.settings:WrongSetting",
    "ingest.log:LogError",
    "sqlalchemy.exc:OperationalError",
    "deploy.kafka:NoKafka",
    "deploy.model:NoModel",
    "deploy.preflight:CannotStart",
    "deploy.remains:AlreadyRunning",
    "deploy.service:ServiceFailed",
    "deploy.supervisor:StartFailed",
)


class LazyGroup(TyperGroup):
    """Lists the commands from the table; imports one only to run it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if (entry := COMMANDS.get(cmd_name)) is None:
            return None
        return TyperCommand(cmd_name, help=entry.help, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load(COMMANDS[str(name)]), rest


def load(entry: Entry) -> Any:
    """The command itself."""
    module, _, attribute = entry.where.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return get_group(found)
    command = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    command.command()(found)
    return get_command(command)


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def whetstone() -> None:
    """Keeps a deployed language model learning from the people who use it."""


def main() -> None:
    """Run the command line. An expected error is one sentence and exit status 2."""
    sys.path.append(os.getcwd())  # as for `python -m`: a function that the settings name may lie beside whetstone.toml
    try:
        app()
    except _expected() as error:
        typer.echo(_sentence(error), err=True)
        sys.exit(2)


def _expected() -> tuple[type[Exception], ...]:
    """Called when an error is there already: one whose module was never imported cannot be it."""
    named = (where.partition(":") for where in _EXPECTED)
    return tuple(getattr(sys.modules[module], name) for module, _, name in named if module in sys.modules)


def _sentence(error: Exception) -> str:
    if cause := getattr(error, "orig", None):
        return f"The database cannot be used: {str(cause).strip()}. Is it there, and did `whetstone database upgrade` run?"
    return str(error) or (type(error).__doc__ or "").strip()


if __name__ == "__main__":
    main()
