import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ingest.cli import keys
from ingest.database import Database
from ingest.keys import KeyRing
from ingest.problems import Problem
from ingest.settings import load_settings


@pytest.fixture(autouse=True)
def _settings(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHETSTONE_DATABASE_URL", f"sqlite:///{tmp_path}/test.db")
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(keys, arguments)


def test_a_key_made_on_the_command_line_works_until_it_is_revoked(database: Database) -> None:
    key = run("create", "--name", "shop", "--scope", "feedback", "--task", "a", "--task", "b").stdout.strip()
    principal = KeyRing(database).authenticate(f"Bearer {key}")
    assert principal.tasks == {"a", "b"}
    assert run("revoke", principal.key_id).exit_code == 0
    with pytest.raises(Problem):
        KeyRing(database).authenticate(f"Bearer {key}")


def test_the_list_shows_keys_but_never_what_opens_the_door() -> None:
    key = json.loads(run("create", "--name", "shop", "--scope", "feedback", "--task", "*", "--json").stdout)["key"]
    (row,) = json.loads(run("list", "--json").stdout)
    assert (row["name"], row["tasks"], row["scopes"], row["revoked_at"]) == ("shop", ["*"], ["feedback"], None)
    assert "shop" in run("list").stdout
    assert key not in run("list").stdout + run("list", "--json").stdout
    assert "digest" not in row


@pytest.mark.parametrize("arguments", [("--scope", "everything", "--task", "a"), ("--scope", "feedback", "--task", "Not A Task")])
def test_a_wrong_scope_or_task_is_explained(arguments: tuple[str, ...]) -> None:
    result = run("create", "--name", "shop", *arguments)
    assert result.exit_code == 1
    assert "carried-generation" in result.stderr
    assert json.loads(run("list", "--json").stdout) == []


def test_revoking_an_unknown_key_is_an_error() -> None:
    assert run("revoke", "key-none").exit_code == 1


def test_a_database_without_tables_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHETSTONE_DATABASE_URL", f"sqlite:///{tmp_path}/empty.db")
    result = run("list")
    assert (result.exit_code, "whetstone database upgrade" in result.stderr) == (1, True)
