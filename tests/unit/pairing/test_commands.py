import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from typer import Typer
from typer.testing import CliRunner

from ingest.events import canonical
from ingest.log import NewRecord
from ingest.settings import TaskPairingSettings, load_settings
from pairing.cli import pairs
from pairing.erasures_cli import erasures
from pairing.letters_cli import dead_letters
from pairing.tables import DeadLetter
from tests.services.feedback import TASK, choice, edit, event, generation, preference, ref
from tests.services.ledger import Ledger, settings_for
from tests.services.ledger import ledger as empty_ledger


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    url = f"sqlite:///{tmp_path}/test.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHETSTONE_DATABASE_URL", url)
    for secret in ("WHETSTONE_HOLDOUT_KEY", "WHETSTONE_ERASURE_KEY"):
        monkeypatch.setenv(secret, "a key")  # the ledger's
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


def test_pairs_are_found_by_the_adapter_that_wrote_a_side_and_by_the_time_they_were_made(ledger: Ledger) -> None:
    ledger.add(generation("h", "one", "two", adapter="summarise-r000001"), choice("d", ref("h"), ref("h"), ref("h", 1)))

    def chosen(*arguments: str) -> set[str]:
        return {pair["chosen"] for pair in json.loads(run(pairs, "list", "--json", *arguments).stdout)}

    assert chosen("--adapter", "summarise-r000001") == {"one"}
    assert chosen("--adapter", "base") == {"alpha", "better"}
    assert chosen("--adapter", "summarise-r00000_") == set()
    assert chosen("--since", "2026-01-01") == {"alpha", "better", "one"}
    assert chosen("--since", "2999-01-01") == set()


def test_a_pair_is_shown_with_its_votes_and_the_events_behind_them(ledger: Ledger) -> None:
    ledger.add(
        choice("c2", ref("g", 1), ref("g"), ref("g", 1), user="bob"), choice("c3", ref("g"), ref("g"), ref("g", 1), user="cid")
    )
    whole = next(pair.id for pair in ledger.rows() if pair.source == "choice")
    shown = json.loads(run(pairs, "show", whole[:10], "--json").stdout)
    assert sorted((vote["events"][0], vote["for"]) for vote in shown["votes"]) == [("c", True), ("c2", False), ("c3", True)]
    assert (shown["id"], shown["prompt"], shown["chosen"]) == (whole, "Describe the sea.", "alpha")
    assert sorted(event["event_id"] for event in shown["events"]) == ["c", "c2", "c3", "g"]
    assert "alpha" in run(pairs, "show", whole).stdout


def test_an_unknown_pair_ends_with_a_sentence(ledger: Ledger) -> None:
    result = run(pairs, "show", "nothing")
    assert (result.exit_code, result.stderr.strip()) == (1, "There is none with this id.")


@pytest.fixture
def configured(ledger: Ledger, tmp_path: Path) -> Iterator[Path]:
    """The settings file of the ledger's task, with nothing in it yet but its name."""
    file = tmp_path / "whetstone.toml"
    file.write_text(f"[tasks.{TASK}]\n")
    load_settings.cache_clear()
    yield file
    load_settings.cache_clear()


@pytest.mark.parametrize("which", ["each", "first"])
def test_the_bias_to_what_stands_first_is_shown_by_task_whatever_makes_a_pair(
    ledger: Ledger, configured: Path, which: Literal["each", "first"]
) -> None:
    configured.write_text(f'[tasks.{TASK}.pairing]\nchoice = "{which}"\n')
    ledger.settings = settings_for(TaskPairingSettings(choice=which))
    shown = ref("g"), ref("g", 1)
    ledger.add(*(choice(f"c-{user}", shown[user % 10 == 0], *shown, user=f"u-{user}") for user in range(59)))
    ledger.add(choice("tie", "tie", *shown, user="zoe"))
    [told] = json.loads(run(pairs, "bias", "--json").stdout)
    assert (told["task"], told["choices"], told["first"], told["expected"]) == (TASK, 60, 0.9, 0.5)
    assert told["biased"]
    assert "90.0%" in run(pairs, "bias").stdout


def test_a_rebuild_says_by_task_that_nothing_differs_or_what_does(ledger: Ledger, configured: Path) -> None:
    assert run(pairs, "rebuild").stdout == f"{TASK}: nothing differs.\n"
    configured.write_text(f"[tasks.{TASK}.pairing]\nmin_edit_share = 1\n")
    load_settings.cache_clear()
    assert json.loads(run(pairs, "rebuild", "--json").stdout) == {TASK: {}}
    ledger.add(edit("small", "g", "gamma gamma", candidate=2, user="bob"))
    told = json.loads(run(pairs, "rebuild", "--json").stdout)[TASK]
    assert told["pairs removed"] == 1
    assert run(pairs, "rebuild", "--task", "another").exit_code == 1


def test_the_proofs_of_erasures_are_listed(ledger: Ledger) -> None:
    assert "Nobody was erased." in run(erasures, "list").stdout
    ledger.add(event("erasure", "x", user="ann")).add()
    [proof] = json.loads(run(erasures, "list", "--json").stdout)
    assert (proof["task"], proof["event_id"], proof["events"], proof["log"]) == (TASK, "x", 3, "removed")
    assert proof["erased_at"]
    assert "ann" not in json.dumps(proof)
    assert "under way" in run(erasures, "list", "--task", TASK).stdout  # rounds were not seen to yet


def test_dead_letters_are_shown_with_their_reason_and_as_they_came(ledger: Ledger) -> None:
    ledger.add_records([NewRecord(b"k", b'{"type":"poem"}')])
    [letter] = json.loads(run(dead_letters, "list", "--json", "--reason", "invalid").stdout)
    shown = json.loads(run(dead_letters, "show", letter["id"], "--json").stdout)
    assert (shown["value"], shown["reason"]) == ('{"type":"poem"}', "invalid")
    assert "poem" in run(dead_letters, "show", letter["id"][:8]).stdout
    assert "invalid" in run(dead_letters, "list").stdout


def test_dead_letters_that_are_events_after_a_fix_go_through_once_and_the_others_stay(ledger: Ledger) -> None:
    ledger.add_records([NewRecord(b"k", b'{"type":"poem"}')])
    body = canonical(preference("p", "good", "bad"))
    with ledger.database.begin() as session:  # as a version left it that did not know this type
        row = {"detail": "type: unknown", "partition": 0, "offset": 7, "received_at": datetime(2026, 1, 1, tzinfo=UTC)}
        session.add(DeadLetter(id=hashlib.sha256(body).hexdigest(), reason="invalid", value=body, **row))
    done = run(dead_letters, "replay", "--all", "--json")
    assert done.exit_code == 3
    told = json.loads(done.stdout)
    assert told["events"] == [hashlib.sha256(body).hexdigest()]
    assert [letter["reason"] for letter in told["stayed"]] == ["invalid"]

    ledger.add()
    assert ("good", "bad") in ledger.pairs()
    assert [letter.value for letter in ledger.dead()] == [b'{"type":"poem"}']
    again = run(dead_letters, "replay", "--reason", "invalid")
    assert again.exit_code == 3
    assert "0 are events now, 1 stayed dead letters." in again.stdout
    ledger.add(preference("p", "good", "bad"))
    assert ledger.pairs().count(("good", "bad")) == 1


def test_a_letter_that_says_what_a_stored_event_says_goes_and_one_in_conflict_with_it_stays(ledger: Ledger) -> None:
    bodies = [canonical(edit("e", "g", text, candidate=2)) for text in ("better", "other", "another")]
    kept = min(bodies, key=lambda body: hashlib.sha256(body).hexdigest())
    ledger.add_records([NewRecord(b"k", body) for body in bodies])
    assert {letter.value for letter in ledger.dead()} == set(bodies) - {kept}
    assert run(dead_letters, "replay", "--all").exit_code == 3
    assert {letter.value for letter in ledger.dead()} == set(bodies) - {kept}


def test_which_dead_letters_go_through_again_must_be_said(ledger: Ledger) -> None:
    for arguments in ([], ["--all", "--reason", "invalid"], ["abc", "--all"]):
        told = run(dead_letters, "replay", *arguments)
        assert (told.exit_code, told.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(pairs, ("--source", "chioce")), (pairs, ("--split", "held-out")), (dead_letters, ("--reason", "broken"))],
)
def test_a_filter_that_can_match_nothing_is_told_with_what_could(
    ledger: Ledger, command: Typer, arguments: tuple[str, ...]
) -> None:
    result = run(command, "list", *arguments)
    assert result.exit_code == 2
    assert {"--source": "choice", "--split": "holdout", "--reason": "conflicting-body"}[arguments[0]] in result.output


def test_an_export_from_no_source_there_is_is_told_so() -> None:
    result = run(pairs, "export", "--task", "t", "--format", "openai", "--source", "chioce")
    assert result.exit_code == 2
    assert "choice" in result.stderr
