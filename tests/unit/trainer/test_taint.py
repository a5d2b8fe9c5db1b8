"""Adapters that rest on what was erased: which they are, what answers instead, and what their rounds still hold of it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlmodel import SQLModel, col, select

from ingest.database import Database
from ingest.settings import Settings
from pairing.tables import Erasure, Pair, StoredEvent, StoredVote
from serving.adapters import Refused, ask_promotion, ask_rollback, list_rows
from serving.releases import read
from tests.services.rounds import NOW, add_pairs, pair
from trainer import manifest as manifests
from trainer import plan
from trainer.manifest import Manifest
from trainer.schedule import Rounds
from trainer.tables import Adapter, Release, Round
from trainer.taint import Trained, clean_ancestor, tainted

TASK = "short"
ANNS = 3
"""The number of the pair that Ann's event is behind."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/whetstone.db")) as database:
        SQLModel.metadata.create_all(database.engine)
        yield database


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tasks = {TASK: {"trigger": {"min_new_pairs": 100}, "training": {"replay_share": 0.0}}}
    return Settings.model_validate({"data_dir": tmp_path, "tasks": tasks})


def planned(database: Database, settings: Settings) -> Manifest:
    with database.begin() as session:
        round_ = plan.open_round(session, settings, TASK, NOW)
        frozen = plan.freeze(session, settings, round_)
        assert plan.publish(session, settings, frozen)
    return frozen


def live(database: Database, frozen: Manifest) -> str:
    """The round passed, and its adapter answers."""
    with database.begin() as session:
        round_ = session.get_one(Round, frozen.round_id)
        round_.state, round_.finished_at = "passed", NOW
        made = {
            "name": frozen.name,
            "task": TASK,
            "round_id": frozen.round_id,
            "parent": frozen.parent,
            "path": f"/{frozen.name}",
        }
        session.add(Adapter(**made, manifest_sha256="", sealed_at=NOW))
        session.add(Release(task=TASK, adapter=frozen.name, reason="gate", asked_by="gate", created_at=NOW, live_at=NOW))
    return frozen.name


def erase(database: Database, number: int) -> None:
    """As pairing leaves it: a skeleton, no vote and no pair, and a proof."""
    event = f"event-{number}"
    with database.begin() as session:
        for vote in session.exec(select(StoredVote).where(StoredVote.event_id == event)).all():
            session.delete(vote)
        session.delete(session.get_one(Pair, pair(number).id))
        of_event = {"task": TASK, "event_id": event, "type": "choice", "occurred_at": NOW, "received_at": NOW}
        session.add(StoredEvent(**of_event, body="", body_hash="", outcome="erased"))
        session.add(Erasure(task=TASK, user_hash="of Ann", event_id="x", asked_at=NOW, log="removed", erased_at=NOW))


def scheduled(database: Database, settings: Settings, turns: int = 2) -> None:
    """The scheduler looks."""
    rounds = Rounds(settings, database, lambda: NOW)
    for _ in range(turns):
        rounds.turn()
    rounds.stop()


def adapters(database: Database) -> dict[str, bool]:
    with database.read() as session:
        return {row.name: row.tainted_at is not None for row in session.exec(select(Adapter)).all()}


def releases(database: Database) -> list[tuple[str, str]]:
    with database.read() as session:
        return [(one.adapter, one.reason) for one in session.exec(select(Release).order_by(col(Release.id)))]


def test_taint_passes_to_what_was_trained_on_top_and_not_to_what_was_before() -> None:
    chain = [Trained(f"a{n}", f"a{n - 1}" if n else "base", on_erased=n == 1) for n in range(4)]
    chain.append(Trained("beside", "a0", on_erased=False))
    assert tainted(reversed(chain)) == {"a1", "a2", "a3"}
    assert clean_ancestor("a3", {one.adapter: one.parent for one in chain}, tainted(chain)) == "a0"


def test_without_a_clean_ancestor_the_base_model_answers() -> None:
    assert clean_ancestor("a1", {"a1": "a0", "a0": "base"}, {"a0", "a1"}) == "base"


@pytest.fixture
def three(database: Database, settings: Settings) -> list[str]:
    """Three adapters, each on top of the one before; the second was trained on Ann's pair, the third answers."""
    names = []
    for numbers in (range(3), range(3, 6), range(6, 9)):
        with database.begin() as session:
            add_pairs(session, TASK, numbers)
        names.append(live(database, planned(database, settings)))
    return names


def test_an_erasure_taints_two_generations_and_the_nearest_clean_ancestor_answers(
    database: Database, settings: Settings, three: list[str]
) -> None:
    erase(database, ANNS)
    scheduled(database, settings)
    assert adapters(database) == {three[0]: False, three[1]: True, three[2]: True}
    assert releases(database)[-1] == (three[0], "taint")
    assert len(releases(database)) == 4  # said once, however often the scheduler looks
    with database.read() as session:
        assert session.exec(select(Erasure)).one().rounds_at is not None


def test_the_pairs_that_survive_are_new_again(database: Database, settings: Settings, three: list[str]) -> None:
    erase(database, ANNS)
    scheduled(database, settings)
    with database.read() as session:
        assert plan.state_of(session, TASK).new_pairs == 5
        assert {row.adapter: row.state for row in session.exec(select(Round)).all()} == {
            three[0]: "passed",
            three[1]: "tainted",
            three[2]: "tainted",
        }


def test_a_tainted_adapter_is_neither_promoted_nor_gone_back_to(database: Database, settings: Settings, three: list[str]) -> None:
    erase(database, ANNS)
    scheduled(database, settings)
    with database.begin() as session, pytest.raises(Refused, match="erased"):
        ask_promotion(session, three[1], [TASK], "ann", NOW)
    with database.begin() as session:
        session.exec(select(Release).order_by(col(Release.id).desc())).first().live_at = NOW  # type: ignore[union-attr]
    with database.begin() as session:
        assert ask_rollback(session, TASK, [TASK], "ann", NOW).adapter == "base"
    assert [bool(row.tainted_at) for row in list_rows(database, [TASK])] == [True, True, False]


def test_nothing_returns_to_a_tainted_adapter_that_answered_between_clean_ones() -> None:
    order = [("one", "gate"), ("bad", "promote"), ("two", "promote")]
    rows = [
        Release(id=number, task=TASK, adapter=name, reason=reason, asked_by="x", created_at=NOW, live_at=NOW)
        for number, (name, reason) in enumerate(order)
    ]
    assert read(rows, {"bad"}).previous == "one"


def test_a_round_under_way_with_an_erased_pair_ends_and_its_rest_is_new(database: Database, settings: Settings) -> None:
    with database.begin() as session:
        add_pairs(session, TASK, range(6))
    planned(database, settings)
    erase(database, ANNS)
    scheduled(database, settings)
    with database.read() as session:
        round_ = session.exec(select(Round)).one()
        assert (round_.state, plan.state_of(session, TASK).new_pairs) == ("tainted", 5)
        assert round_.error
        assert plan.state_of(session, TASK).failures == 0  # nothing to wait for


def test_no_round_starts_on_top_of_a_tainted_adapter(database: Database, settings: Settings, three: list[str]) -> None:
    eager = Settings.model_validate({"data_dir": settings.data_dir, "tasks": {TASK: {"trigger": {"min_new_pairs": 1}}}})
    erase(database, ANNS)
    scheduled(database, eager)  # the release that falls back is not live yet
    with database.read() as session:
        assert len(session.exec(select(Round)).all()) == 3


def test_what_a_round_froze_loses_what_was_erased_and_nothing_else(database: Database, settings: Settings) -> None:
    with database.begin() as session:
        add_pairs(session, TASK, range(6))
    frozen = planned(database, settings)
    folder = manifests.folder_of(settings, frozen.name)
    before, said = manifests.digest(folder), pair(ANNS).prompt
    assert str(said) in (folder / "manifest.json").read_text()
    live(database, frozen)
    erase(database, ANNS)
    scheduled(database, settings)
    assert str(said) not in (folder / "manifest.json").read_text()
    rest = manifests.read(folder)
    assert (len(rest.train), rest.removed, rest.original_sha256) == (5, 1, before)
