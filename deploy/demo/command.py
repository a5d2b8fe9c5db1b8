"""`make demo`: an installation of its own, the story, the report."""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from deploy.demo.prompts import TASK
from deploy.demo.report import show
from deploy.demo.screen import Screen
from deploy.demo.story import StoryStopped, Told, tell
from deploy.remains import stop
from deploy.service import Service
from ingest.settings import Settings, WrongSetting, load_settings

STATE = Path("var/demo/state")
REPORT = Path("var/demo/report.json")


def demo() -> int:
    """Run the demo and return its exit status: 0 where the gate passed the adapter.

    Raises:
        WrongSetting: the settings have no task for the demo, or are wrong.
        ServiceFailed: the service did not start.
    """
    console = Console()
    environment = _environment(datetime.now(UTC))
    _start_afresh(_settings(environment))
    try:
        with Screen(console) as screen:
            screen.say("The service starts.")
            with Service(environment):
                told = tell(_settings(environment), screen)  # with the secrets that the start made
                screen.say("The service stops.")
    except StoryStopped as stopped:
        console.print(f"[bold red]{stopped}")
        return 1
    return _ended(console, told)


def _start_afresh(settings: Settings) -> None:
    """Every run tells its own story from the start: end what a killed one left, and forget it."""
    stop(settings.run_dir)
    shutil.rmtree(STATE, ignore_errors=True)


def _environment(now: datetime) -> dict[str, str]:
    """Nothing of the user's own service is read or changed: state, database and topic are the demo's."""
    return {
        "WHETSTONE_DATA_DIR": str(STATE),
        "WHETSTONE_DATABASE_URL": f"sqlite:///{STATE.absolute()}/whetstone.db",
        "WHETSTONE_KAFKA_TOPIC": f"whetstone.demo.{now:%Y%m%dT%H%M%S}",
    }


def _settings(environment: dict[str, str]) -> Settings:
    os.environ.update(environment)
    load_settings.cache_clear()  # they are the demo's from here on
    settings = load_settings()
    if TASK not in settings.tasks:
        raise WrongSetting(f"The demo needs the task {TASK} in whetstone.toml, as the repository has it.")
    return settings


def _ended(console: Console, told: Told) -> int:
    REPORT.write_text(json.dumps(told.report.as_json(), indent=2) + "\n")
    show(console, told.report, told.base, told.adapter)
    console.print(f"Written to {REPORT}.")
    return 0 if told.report.verdict.get("passed") else 1
