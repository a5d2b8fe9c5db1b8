import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from ingest.log import NewRecord
from ingest.settings import load_settings
from pairing.cli import pairs
from pairing.letters_cli import dead_letters
from tests.services.feedback import choice, edit, generation, ref
from tests.services.ledger import Ledger
from tests.services.ledger import ledger as empty_ledger


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    url = f"sqlite:///{tmp_path}/test.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHETSTONE_DATABASE_URL", url)
    load_settings.cache_clear()
    with empty_ledger(url) as filled:
        yield filled.add(
            generation("g", "alpha", "[b]eta[/b]", "gamma"),
            choice("c", ref("g"), ref("g"), ref("g", 1)),
            edit("e", "g", "better", candidate=2),
        )
    load_settings.cache_clear()


def run(command: Typer, *arguments: str) -> Any:
    return CliRunner().invoke(command, arguments, env={"COLUMNS": "200"})


def test_the_list_shows_what_feedback_became(ledger: Ledger) -> None:
    shown = run(pairs, "list").stdout
    assert all(word in shown for word in ("alpha", "[b]eta[/b]", "better", "choice", "edit", "1:0"))
    listed = json.loads(run(pairs, "list", "--json", "--source", "edit").stdout)
    assert [(pair["chosen"], pair["rejected"]) for pair in listed] == [("better", "gamma")]
    assert json.loads(run(pairs, "list", "--json", "--task", "another").stdout) == []


def test_a_pair_is_shown_with_the_events_behind_it(ledger: Ledger) -> None:
    whole = next(pair.id for pair in ledger.rows() if pair.source == "choice")
    shown = json.loads(run(pairs, "show", whole[:10], "--json").stdout)
    assert (shown["id"], shown["prompt"], shown["chosen"]) == (whole, "Describe the sea.", "alpha")
    assert sorted(event["event_id"] for event in shown["events"]) == ["c", "g"]
    assert "alpha" in run(pairs, "show", whole).stdout


def test_an_unknown_pair_ends_with_a_sentence(ledger: Ledger) -> None:
    result = run(pairs, "show", "nothing")
    assert (result.exit_code, result.stderr.strip()) == (1, "There is none with this id.")


def test_dead_letters_are_shown_with_their_reason_and_as_they_came(ledger: Ledger) -> None:
    ledger.add_records([NewRecord(b"k", b'{"type":"poem"}')])
    [letter] = json.loads(run(dead_letters, "list", "--json", "--reason", "invalid").stdout)
    shown = json.loads(run(dead_letters, "show", letter["id"], "--json").stdout)
    assert (shown["value"], shown["reason"]) == ('{"type":"poem"}', "invalid")
    assert "poem" in run(dead_letters, "show", letter["id"][:8]).stdout
    assert "invalid" in run(dead_letters, "list").stdout
