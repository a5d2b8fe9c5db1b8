"""Deriving everything anew beside the present tables: the proof that step by step gave the same, on both databases."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select, update

from ingest.database import Database
from ingest.settings import TaskPairingSettings
from pairing.rebuild import rebuild
from pairing.start import mark_all
from pairing.tables import Pair, StoredEvent, StoredVote
from tests.services.feedback import TASK, choice, crowd, event, generation, ref
from tests.services.ledger import Ledger, everything, ledger, settings_for

LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def filled(url: str) -> Iterator[Ledger]:
    rated = [event("rating", f"r{n}", reply=ref(f"g{n * 3}", n % 4), thumb="up" if n % 2 else "down") for n in range(20)]
    erasure = event("erasure", "x", user="user-7")
    with ledger(url, settings_for(batch_events=37)) as one:
        yield one.add(*crowd(150), *rated, erasure)


def anew(one: Ledger) -> dict[str, int]:
    steps: list[tuple[int, int]] = []
    found = rebuild(one.database, one.settings, TASK, LATER, lambda done, total: steps.append((done, total)))
    assert steps
    assert steps[-1][0] == steps[-1][1]
    return dict(found)


def made_at(database: Database) -> dict[str, datetime]:
    with database.read() as session:
        return dict(session.exec(select(Pair.id, Pair.created_at)).all())


def test_nothing_differs_when_nothing_has_changed(filled: Ledger) -> None:
    before, made = everything(filled.database), made_at(filled.database)
    assert len(before["pairs"]) > 50
    assert anew(filled) == {}
    assert (everything(filled.database), made_at(filled.database)) == (before, made)


def test_what_is_derived_beside_has_no_name_on_the_disk_that_would_outlive_the_process(
    filled: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for variable in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(variable, str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)  # as in a process that has just started
    left: list[Path] = []
    rebuild(filled.database, filled.settings, TASK, LATER, lambda done, total: left.extend(scratch.rglob("*")))
    assert left == []


def test_what_was_derived_wrongly_is_named_and_put_right(filled: Ledger) -> None:
    before, made = everything(filled.database), made_at(filled.database)
    [changed, gone] = sorted(made)[:2]
    with filled.database.begin() as session:
        session.exec(update(Pair).where(col(Pair.id) == changed).values(votes_for=77))
        session.delete(session.get_one(Pair, gone))
        vote = session.exec(select(StoredVote).limit(1)).one()
        session.exec(update(StoredEvent).where(col(StoredEvent.event_id) == vote.event_id).values(outcome="tie"))
    assert anew(filled) == {"pairs changed": 1, "pairs added": 1, "outcomes changed": 1}
    assert everything(filled.database) == before
    assert made_at(filled.database) == made | {gone: made_at(filled.database)[gone]}


def test_changed_settings_show_as_differences(filled: Ledger) -> None:
    filled.settings = settings_for(TaskPairingSettings(regeneration="each", choice="first"))
    found = anew(filled)
    assert found["pairs removed"] > 0
    assert found["pairs added"] > 0
    with ledger(settings=filled.settings) as other:
        other.log = filled.log
        for _ in range(3):  # a removal takes some turns
            other.add_records([])
        anew_from_log = everything(other.database)
    after = everything(filled.database)
    assert after["pairs"] == anew_from_log["pairs"]
    # The log holds nothing more of the erased user.
    assert {id_: outcome for id_, outcome in after["outcomes"].items() if outcome != "erased"} == anew_from_log["outcomes"]


def test_what_was_left_to_be_derived_is_no_difference(filled: Ledger) -> None:
    with filled.database.begin() as session:
        mark_all(session, TASK, LATER)
    assert anew(filled) == {}
    assert filled.add(generation("new", "alpha", "beta"), choice("c", ref("new"), ref("new"), ref("new", 1))).rows()
