"""Planning a round and recording its verdict, over a real SQLite database."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import SQLModel, select

from ingest.database import Database
from ingest.settings import Settings
from tests.services.rounds import NOW, add_pairs, manifest, pair
from trainer import manifest as manifests
from trainer import plan
from trainer.child import RoundRun, give_up
from trainer.errors import TrainerError
from trainer.gate import Evidence, Verdict, judge
from trainer.manifest import Manifest
from trainer.tables import Adapter, Release, Round, RoundPair

TASK = "short"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/whetstone.db")
    SQLModel.metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tasks = {TASK: {"trigger": {"min_new_pairs": 10}, "training": {"replay_share": 0.5, "max_pairs": 100}}}
    return Settings.model_validate({"data_dir": tmp_path, "tasks": tasks})


def opened(database: Database, settings: Settings) -> Manifest:
    """Open a round and publish its manifest."""
    with database.begin() as session:
        round_ = plan.open_round(session, settings, TASK, NOW)
    with database.read() as session:
        frozen = plan.freeze(session, settings, round_)
    with database.begin() as session:
        plan.publish(session, settings, frozen)
    return frozen


def ended(database: Database, round_id: int, state: str) -> None:
    with database.begin() as session:
        round_ = session.get_one(Round, round_id)
        round_.state, round_.finished_at = state, NOW


def new_pairs(database: Database) -> int:
    with database.read() as session:
        return plan.state_of(session, TASK).new_pairs


def released(database: Database, adapter: str) -> None:
    """Another adapter, live."""
    with database.begin() as session:
        session.add(Release(task=TASK, adapter=adapter, reason="promote", asked_by="ann", created_at=NOW, live_at=NOW))


def adapter(database: Database, name: str, round_id: int) -> None:
    with database.begin() as session:
        row = Adapter(
            name=name, task=TASK, round_id=round_id, parent="base", path=f"/adapters/{name}", manifest_sha256="", sealed_at=NOW
        )
        row.wanted = True
        session.add(row)


def test_a_round_trains_on_train_pairs_and_is_judged_by_held_out_ones(database: Database, settings: Settings) -> None:
    with database.begin() as session:
        train = add_pairs(session, TASK, range(20))
        held_out = add_pairs(session, TASK, range(100, 105), "holdout")
        add_pairs(session, "other", range(200, 210))
    frozen = opened(database, settings)
    assert [one.id for one in frozen.train] == train[::-1]  # newest first
    assert {one.id for one in frozen.holdout} == set(held_out)
    with database.read() as session:
        recorded = {(row.pair_id, row.split) for row in session.exec(select(RoundPair))}
    assert recorded == {*((one, "train") for one in train), *((one, "holdout") for one in held_out)}


def test_a_round_that_is_read_back_is_the_one_that_was_planned(database: Database, settings: Settings) -> None:
    with database.begin() as session:
        add_pairs(session, TASK, range(20))
    frozen = opened(database, settings)
    assert manifests.read(manifests.folder_of(settings, frozen.name)) == frozen


def test_the_manifest_tells_when_the_last_event_behind_its_training_pairs_happened(
    database: Database, settings: Settings
) -> None:
    with database.begin() as session:
        add_pairs(session, TASK, range(20))
        add_pairs(session, TASK, range(100, 105), "holdout")
    assert opened(database, settings).last_event_at == NOW + timedelta(hours=19)


def test_a_training_pair_whose_prompt_nearly_repeats_a_held_out_one_is_left_out(database: Database, settings: Settings) -> None:
    with database.begin() as session:
        add_pairs(session, TASK, [1], prompt="In at most 12 words: what is amber?")
        add_pairs(session, TASK, [2], prompt="In at most 12 words: what is basalt?")
        add_pairs(session, TASK, [100], "holdout", prompt="in at most 7 words, what is AMBER")
    frozen = opened(database, settings)
    assert [one.id for one in frozen.train] == [pair(2).id]
    assert frozen.near_holdout == 1


@pytest.mark.parametrize(("state", "new"), [("passed", 5), ("refused", 5), ("failed", 25), ("training", 25)])
def test_pairs_are_new_until_a_round_with_them_reached_a_verdict(
    database: Database, settings: Settings, state: str, new: int
) -> None:
    with database.begin() as session:
        add_pairs(session, TASK, range(20))
    ended(database, opened(database, settings).round_id, state)
    with database.begin() as session:
        add_pairs(session, TASK, range(50, 55))
    assert new_pairs(database) == new


def test_earlier_pairs_come_back_as_replay(database: Database, settings: Settings) -> None:
    with database.begin() as session:
        add_pairs(session, TASK, range(20))
    ended(database, opened(database, settings).round_id, "passed")
    with database.begin() as session:
        add_pairs(session, TASK, range(50, 60))
    second = opened(database, settings)
    assert [one.replay for one in second.train] == [False] * 10 + [True] * 10
    assert second.name == "short-r000002"


def test_failed_rounds_count_up_to_the_last_verdict(database: Database, settings: Settings) -> None:
    with database.begin() as session:
        add_pairs(session, TASK, range(20))
    for state in ("failed", "passed", "failed", "failed"):
        ended(database, opened(database, settings).round_id, state)
    with database.read() as session:
        state_now = plan.state_of(session, TASK)
    assert (state_now.failures, state_now.failed_at) == (2, NOW)


def test_a_name_that_an_earlier_database_used_is_not_used_again(database: Database, settings: Settings) -> None:
    (settings.adapters_dir / "short-r000004").mkdir(parents=True)
    (settings.rounds_dir / "short-r000006").mkdir(parents=True)
    (settings.adapters_dir / "short-and-sweet-r000009").mkdir()
    assert opened(database, settings).name == "short-r000007"


def test_a_round_trains_from_what_is_live(database: Database, settings: Settings) -> None:
    with database.begin() as session:
        add_pairs(session, TASK, range(20))
    first = opened(database, settings)
    adapter(database, first.name, first.round_id)
    released(database, first.name)
    second = opened(database, settings)
    assert (second.parent, second.live, second.parent_path) == (first.name, first.name, f"/adapters/{first.name}")


def verdict(passed: bool) -> Verdict:
    judged = judge(Evidence([], [], [], 0.0), {}, (), manifest("model", []).settings.gate)
    return Verdict(passed, judged.reasons, judged.figures)


@pytest.fixture
def sealed(database: Database, settings: Settings) -> RoundRun:
    """A round whose adapter is sealed and loaded."""
    with database.begin() as session:
        add_pairs(session, TASK, range(20))
    frozen = opened(database, settings)
    ended(database, frozen.round_id, "sealed")
    adapter(database, frozen.name, frozen.round_id)
    return RoundRun(settings, database, frozen)


def seen(database: Database) -> tuple[str, bool, list[str]]:
    """The round's state, whether its adapter is wanted, and the releases."""
    with database.read() as session:
        releases = [release.adapter for release in session.exec(select(Release))]
        return session.exec(select(Round.state)).one(), session.exec(select(Adapter.wanted)).one(), releases


def test_a_passed_candidate_is_released(database: Database, sealed: RoundRun) -> None:
    assert sealed.record(verdict(True), "base")
    assert seen(database) == ("passed", False, ["short-r000001"])


def test_a_refused_candidate_is_let_go_of_and_not_released(database: Database, sealed: RoundRun) -> None:
    assert sealed.record(verdict(False), "base")
    assert seen(database) == ("refused", False, [])


def test_a_verdict_against_what_is_not_live_any_more_is_not_recorded(database: Database, sealed: RoundRun) -> None:
    released(database, "short-r000777")
    assert not sealed.record(verdict(True), "base")
    assert seen(database) == ("sealed", True, ["short-r000777"])


def test_a_round_has_one_verdict(database: Database, sealed: RoundRun) -> None:
    sealed.record(verdict(False), "base")
    with pytest.raises(TrainerError, match="another process"):
        sealed.record(verdict(True), "base")
    assert seen(database) == ("refused", False, [])


def test_a_failed_round_says_why_and_lets_go_of_its_adapter(database: Database, sealed: RoundRun) -> None:
    give_up(database, 1, "the reason")
    assert seen(database) == ("failed", False, [])
    with database.read() as session:
        assert session.get_one(Round, 1).error == "the reason"
