"""The `whetstone` command as people meet it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.cli import COMMANDS, Entry, load

ROOT = Path(__file__).parents[3]


def whetstone(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.cli", *arguments]
    env = {key: value for key, value in os.environ.items() if not key.startswith("WHETSTONE_")}
    return subprocess.run(command, cwd=ROOT, env={**env, **environment}, capture_output=True, text=True, timeout=60)


def test_help_lists_every_command_in_under_a_second() -> None:
    took_s = []
    for _ in range(3):  # the shortest: other processes may have the processor
        started = time.monotonic()
        told = whetstone("--help")
        took_s.append(time.monotonic() - started)
    assert min(took_s) < 1
    assert told.returncode == 0
    assert all(name in told.stdout for name in COMMANDS)


def test_help_imports_neither_torch_nor_any_stage() -> None:
    said = "import sys; from deploy.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert "typer" in modules
    assert not {"torch", "transformers", "sqlmodel", "ingest.settings", "trainer.cli"} & set(modules)


@pytest.mark.parametrize("entry", COMMANDS.values(), ids=COMMANDS.keys())
def test_every_command_that_is_listed_exists(entry: Entry) -> None:
    assert load(entry).help


def test_no_command_line_imports_torch() -> None:
    modules = sorted({entry.where.partition(":")[0] for entry in COMMANDS.values()})
    said = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], cwd=ROOT).returncode == 0


def test_a_wrong_setting_is_one_sentence_with_its_name_and_range() -> None:
    told = whetstone("config", WHETSTONE_GATEWAY_PORT="70000")
    assert told.returncode == 2
    assert told.stdout == ""
    assert told.stderr.count("\n") == 1
    assert "gateway.port" in told.stderr
    assert "less than or equal to 65535" in told.stderr


def test_config_shows_value_source_range_and_meaning_of_every_setting(tmp_path: Path) -> None:
    file = tmp_path / "whetstone.toml"
    file.write_text("[gateway]\nport = 8411\n[tasks.short.gate]\nprompts = 7\n")
    (tmp_path / "secrets.toml").write_text('[holdout]\nkey = "very secret"\n')
    environment = {"WHETSTONE_CONFIG": str(file), "WHETSTONE_DATA_DIR": str(tmp_path), "WHETSTONE_INGEST_PORT": "8412"}
    told = whetstone("config", "--json", **environment)
    rows = {row["name"]: row for row in json.loads(told.stdout)}
    assert (rows["gateway.port"]["value"], rows["gateway.port"]["source"]) == (8411, "whetstone.toml")
    assert rows["ingest.port"]["value"] == 8412
    assert rows["ingest.port"]["source"] == "environment (WHETSTONE_INGEST_PORT)"
    assert rows["ingest.port"]["range"] == "at least 1, at most 65535"
    assert rows["log"]["range"] == "embedded | kafka"
    assert rows["engine.max_loras"]["source"] == "default"
    assert rows["tasks.short.gate.prompts"]["value"] == 7
    assert rows["holdout.key"]["source"] == "secrets.toml"
    assert "very secret" not in told.stdout + whetstone("config", **environment).stdout
    assert all(row["description"] for row in rows.values())


def test_a_function_that_the_settings_name_may_lie_beside_them(tmp_path: Path) -> None:
    """Also for the installed command, whose path begins with the folder that it lies in."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "whetstone").write_text("from deploy.cli import main\nmain()\n")
    (tmp_path / "of_my_own.py").write_text("def is_good(prompt, reply):\n    return True\n")
    criterion = 'name = "mine"\ntype = "python"\nfunction = "of_my_own:is_good"\n'
    (tmp_path / "whetstone.toml").write_text(f"[[tasks.short.criteria]]\n{criterion}")
    env = {key: value for key, value in os.environ.items() if not key.startswith("WHETSTONE_")} | {"PYTHONPATH": str(ROOT)}
    for arguments, said in ((["database", "upgrade"], ""), (["criteria", "run", "short"], "Nobody has asked short anything yet")):
        command = [sys.executable, "bin/whetstone", *arguments]
        told = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert said in told.stderr


def test_down_where_nothing_runs_says_so(tmp_path: Path) -> None:
    told = whetstone("down", WHETSTONE_DATA_DIR=str(tmp_path))
    assert told.returncode == 0
    assert "Nothing runs" in told.stdout
