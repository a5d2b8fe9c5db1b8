import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from ingest.database import Database
from tests.services.rounds import NOW
from trainer.tables import Round

ROOT = Path(__file__).parents[3]


def rounds(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-c", "from trainer.cli import rounds; rounds()", *arguments]
    environment = os.environ | {"WHETSTONE_DATA_DIR": str(directory), "WHETSTONE_CONFIG": str(directory / "none.toml")}
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An installation with a passed and a failed round."""
    with closing(Database(f"sqlite:///{tmp_path}/whetstone.db")) as database:
        SQLModel.metadata.create_all(database.engine)
        with database.begin() as session:
            base = {"parent": "base", "live": "base", "planned_at": NOW}
            verdict = {"passed": True, "reasons": ["word-limit rose from 30.0% to 90.0%."], "figures": {"prompts": 12}}
            session.add(Round(task="short", number=1, state="passed", train_s=12.5, verdict=verdict, **base))
            session.add(Round(task="long", number=1, state="failed", error="The model is gone.", **base))
    return tmp_path


def test_rounds_are_listed_newest_first_with_the_reason_that_a_person_reads_first(directory: Path) -> None:
    found = json.loads(rounds(directory, "list", "--json").stdout)
    assert [(one["adapter"], one["state"], one["why"]) for one in found] == [
        ("long-r000001", "failed", "The model is gone."),
        ("short-r000001", "passed", "word-limit rose from 30.0% to 90.0%."),
    ]
    only = json.loads(rounds(directory, "list", "--task", "short", "--json").stdout)
    assert [one["adapter"] for one in only] == ["short-r000001"]


def test_a_round_is_shown_with_the_figures_of_its_verdict(directory: Path) -> None:
    assert json.loads(rounds(directory, "show", "short-r000001", "--json").stdout)["verdict"]["figures"] == {"prompts": 12}
    missing = rounds(directory, "show", "short-r000009")
    assert missing.returncode == 2
    assert "whetstone rounds list" in missing.stderr


def test_a_database_without_tables_is_said_in_one_sentence(tmp_path: Path) -> None:
    listed = rounds(tmp_path, "list")
    assert listed.returncode == 1
    assert "whetstone database upgrade" in listed.stderr
    assert "Traceback" not in listed.stderr


def test_no_command_of_the_trainer_imports_torch_before_a_round_trains() -> None:
    heavy = "import sys, trainer.cli, trainer.schedule, trainer.child; print({'torch', 'trl', 'peft'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.strip() == "set()"
