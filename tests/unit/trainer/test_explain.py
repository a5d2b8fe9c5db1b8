"""`whetstone explain` for every type of event, for pairs and for adapters, in both directions."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlmodel import Session, select
from typer.testing import CliRunner

from deploy.cli import app
from ingest.log import NewRecord
from ingest.settings import CriterionSettings, Settings, TaskSettings, load_settings
from pairing.outcomes import Outcome
from pairing.standing import behind
from pairing.tables import Pair, StoredEvent, StoredVote
from tests.services.feedback import (
    TASK,
    acceptance,
    choice,
    crowd,
    edit,
    event,
    everyone,
    generation,
    held,
    preference,
    ref,
    regeneration,
)
from tests.services.ledger import Ledger, everything, ledger, settings_for
from tests.services.rounds import NOW
from trainer.explain import AdapterFound, EventFound, Found, LetterFound, PairFound, WithdrawnPair, as_json
from trainer.explain_reading import find
from trainer.explain_tree import as_tree
from trainer.tables import Adapter, Round, RoundEvent, RoundPair

ADAPTER = f"{TASK}-r000001"


@pytest.fixture
def filled() -> Iterator[Ledger]:
    """Feedback of every type, and a round that trained on what it became."""
    with ledger() as empty:
        empty.add(
            generation("g", "alpha", "beta", "gamma"),
            choice("c", ref("g"), ref("g"), ref("g", 1)),
            edit("e", "g", "better", candidate=2),
            generation("g1", "one", adapter="summarise-r000009"),
            generation("g2", "two"),
            generation("g3", "three"),
            regeneration("r1", "g1", "g2"),
            regeneration("r2", "g2", "g3"),
            acceptance("a", "g3"),
            preference("p", "good", "bad"),
            event("score", "s", reply=ref("g"), criterion="unknown", value=1.0, by="criterion", user=None),
            event("rating", "t", reply=ref("g"), thumb="up"),
            event("erasure", "x", user="zoe"),
            choice("w", ref("later"), ref("later"), ref("later", 1)),
        )
        with empty.database.begin() as session:
            _add_round(session, [pair.id for pair in empty.rows()])
        yield empty


def _add_round(session: Session, pairs: Sequence[str], number: int = 1, sealed: bool = True, **fields: Any) -> None:
    verdict = {"passed": True, "reasons": ["word-limit rose from 30.0% to 90.0%."], "figures": {}}
    whole: dict[str, Any] = {"state": "passed", "parent": "base", "verdict": verdict} | fields
    round_ = Round(task=TASK, number=number, live="base", planned_at=NOW, **whole)
    session.add(round_)
    session.flush()
    assert round_.id is not None
    session.add_all(RoundPair(round_id=round_.id, pair_id=id_, split="train") for id_ in pairs)
    replies = {id_: pair.replies for id_ in pairs if (pair := session.get(Pair, id_))}
    events = behind(session, TASK, set(replies.values()))
    session.add_all(RoundEvent(round_id=round_.id, pair_id=id_, event_id=one) for id_ in replies for one in events[replies[id_]])
    if sealed:
        row = {"task": TASK, "round_id": round_.id, "parent": round_.parent, "path": "/nowhere", "manifest_sha256": "x"}
        session.add(Adapter(name=round_.adapter, sealed_at=NOW, **row))


def explained(ledger: Ledger, id_: str) -> Any:
    """The one thing that is found under this id."""
    [found] = all_of(ledger, id_)
    return found


def all_of(ledger: Ledger, id_: str, most_pairs: int = 10) -> list[Found]:
    with ledger.database.read() as session:
        return find(session, id_, most_pairs)


def text(found: Found) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(as_tree(found), highlight=False)
    return captured.get()


@pytest.mark.parametrize("id_", ["g", "c", "e", "g1", "g2", "g3", "r1", "r2", "a", "p", "s", "t", "x", "w"])
def test_every_type_of_event_is_explained_with_the_meaning_of_its_outcome(filled: Ledger, id_: str) -> None:
    found = explained(filled, id_)
    assert (found.event_id, found.task) == (id_, TASK)
    assert found.meaning == Outcome(found.outcome).meaning
    assert found.meaning in text(found)
    assert as_json(found)["kind"] == "event"


@pytest.mark.parametrize(("id_", "source"), [("c", "choice"), ("e", "edit"), ("a", "regeneration"), ("p", "preference")])
def test_an_event_leads_to_its_pair_the_round_that_trained_on_it_and_the_adapter(filled: Ledger, id_: str, source: str) -> None:
    found = explained(filled, id_)
    [vote] = found.votes
    assert (found.outcome, vote.source, vote.standing, vote.stands) == ("paired", source, "paired", True)
    assert [(one.adapter, one.sealed) for one in vote.trained] == [(ADAPTER, True)]
    assert f"which made adapter {ADAPTER}" in text(found)
    assert explained(filled, vote.pair_id[:12]).source == source


@pytest.mark.parametrize("id_", ["r1", "r2"])
def test_feedback_that_takes_part_in_a_vote_leads_to_it_too(filled: Ledger, id_: str) -> None:
    [vote] = explained(filled, id_).votes
    assert (vote.event_id, vote.rests_on, vote.held_by, vote.stands) == ("a", ["r1", "r2"], ["g1", "g3"], True)


@pytest.mark.parametrize("id_", ["g", "g1", "g3"])
def test_what_holds_a_reply_leads_to_the_votes_on_it_and_says_none_of_them(filled: Ledger, id_: str) -> None:
    found = explained(filled, id_)
    assert (found.votes, found.outcome) == ([], "recorded")
    assert found.holds_for
    assert all(id_ in vote.held_by and vote.stands for vote in found.holds_for)
    assert "it holds a reply of a vote by" in text(found)


def test_the_outcome_of_feedback_is_not_that_of_the_votes_on_the_generation_that_it_carries() -> None:
    with ledger() as filled:
        shown = ref("g"), ref("g", 1)
        filled.add(
            choice("c", shown[0], *shown, generation=held("g", "alpha", "beta")),
            choice("of bob", shown[0], *shown, user="bob"),
            generation("h", "alpha", "beta"),
            choice("again", ref("h", 1), ref("h"), ref("h", 1), at=9),
            choice("of cid", shown[0], *shown, user="cid"),
        )
        found = explained(filled, "c")
        assert (found.outcome, filled.outcome("c")) == ("superseded", "superseded")
        assert [(vote.event_id, vote.standing) for vote in found.votes] == [("c", "superseded")]
        assert [(vote.event_id, vote.standing) for vote in found.holds_for] == [("of bob", "paired"), ("of cid", "paired")]
        assert (explained(filled, "of bob").outcome, explained(filled, "again").outcome) == ("paired", "outvoted")


def test_a_link_of_a_chain_that_carries_a_generation_says_only_the_votes_of_its_chain() -> None:
    with ledger() as filled:
        filled.add(
            regeneration("r", "g1", "g2", generation=held("g1", "first", "other")),
            generation("g2", "second"),
            choice("of bob", ref("g1"), ref("g1"), ref("g1", 1), user="bob", at=-9),
            acceptance("a", "g2"),
        )
        found = explained(filled, "r")
        assert [(vote.event_id, vote.held_by) for vote in found.votes] == [("a", ["g2", "r"])]
        assert [(vote.event_id, vote.held_by) for vote in found.holds_for] == [("of bob", ["r"])]


def test_ratings_lead_to_the_pair_that_they_make_together_and_it_leads_back(filled: Ledger) -> None:
    filled.add(
        generation("h", "good", "poor", prompt="Describe rain."),
        event("rating", "up", reply=ref("h"), thumb="up"),
        event("rating", "down", reply=ref("h", 1), thumb="down", user="bob"),
    )
    [vote], [same] = explained(filled, "up").votes, explained(filled, "down").votes
    assert (vote.source, vote.standing, vote.pair_id) == ("rating", "paired", same.pair_id)
    assert "said by: all ratings of the two replies" in text(explained(filled, "up"))
    assert {one.event_id for one in explained(filled, vote.pair_id).events} == {"h", "up", "down"}
    assert [one.pair_id for one in explained(filled, "h").holds_for] == [vote.pair_id]
    filled.add(event("rating", "up again", reply=ref("h"), thumb="up", at=9))
    assert (explained(filled, "up").outcome, explained(filled, "up").votes) == ("superseded", [])
    assert {one.event_id for one in explained(filled, vote.pair_id).events} == {"h", "up again", "down"}


def test_scores_lead_to_their_pair(filled: Ledger) -> None:
    limit = CriterionSettings(name="limit", type="word_limit", max_words=5)
    filled.settings = Settings.model_construct(**(filled.settings.__dict__ | {"tasks": {TASK: TaskSettings(criteria=(limit,))}}))
    scores = {"by": "criterion", "user": None, "criterion": "limit"}
    filled.add(
        generation("h", "good", "poor", prompt="Describe rain."),
        event("score", "high", reply=ref("h"), value=1.0, **scores),
        event("score", "low", reply=ref("h", 1), value=0.0, **scores),
    )
    found = [explained(filled, id_) for id_ in ("high", "low", "h")]
    for [vote] in (found[0].votes, found[1].votes, found[2].holds_for):
        assert (vote.source, vote.standing) == ("criterion", "paired")


def test_of_a_generation_that_thousands_voted_on_some_votes_are_shown_and_the_others_counted(filled: Ledger) -> None:
    shown = ref("many"), ref("many", 1)
    votes = [choice(f"c{n}", shown[n % 2], *shown, user=f"u{n}", at=n) for n in range(2_350)]
    with filled.database.begin() as session:  # as many as SQLite takes as one statement's values, were there more votes
        session.connection().connection.driver_connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 300)  # type: ignore[union-attr]
    filled.add(generation("many", "alpha", "beta", prompt="Popular."), *votes)
    found = explained(filled, "many")
    assert [vote.event_id for vote in found.holds_for] == [f"c{n}" for n in range(2_349, 2_249, -1)]
    assert (found.holds_for_left_out, as_json(found)["holds_for_left_out"]) == (2_250, 2_250)
    assert "and replies of 2,250 more votes" in text(found)
    assert explained(filled, "c0").votes[0].standing == "draw"


def test_of_what_was_behind_hundreds_of_pairs_in_rounds_some_are_shown_and_the_others_counted(filled: Ledger) -> None:
    with filled.database.begin() as session:
        _add_round(session, [f"{n:064x}" for n in range(150)], number=7)
        id_ = session.exec(select(Round.id).where(Round.number == 7)).one()
        session.add_all(RoundEvent(round_id=id_, pair_id=f"{n:064x}", event_id="w") for n in range(150))
    found = explained(filled, "w")
    assert (len(found.in_rounds), found.in_rounds_left_out) == (100, 50)
    assert "50 more pairs that it was behind were in rounds" in text(found)


def test_of_a_long_list_of_events_a_person_reads_the_beginning_and_how_many_more_there_are(filled: Ledger) -> None:
    ids = [f"long-{number:03}" for number in range(121)]
    links = [regeneration(f"link-{n:03}", ids[n], ids[n + 1]) for n in range(120)]
    filled.add(*(generation(id_, id_, prompt="A long chain.") for id_ in ids), *links, acceptance("kept", ids[-1]))
    [vote] = explained(filled, "kept").votes
    assert "said by: kept, link-000" in text(explained(filled, "kept"))
    assert " and 101 more" in text(explained(filled, "kept"))
    with filled.database.begin() as session:
        _add_round(session, [vote.pair_id], number=8)
    assert " and 103 more" in text(explained(filled, f"{TASK}-r000008"))
    filled.add(acceptance("taken back", ids[0], at=9))
    withdrawn = explained(filled, vote.pair_id)
    assert (isinstance(withdrawn, WithdrawnPair), len(withdrawn.events)) == (True, 123)
    assert "and 23 more" in text(withdrawn)


def test_an_event_that_became_nothing_says_why(filled: Ledger) -> None:
    found = explained(filled, "w")
    assert (found.outcome, found.votes) == ("waiting-for-generation", [])
    assert "has not come yet" in text(found)


def test_a_generation_says_which_adapter_wrote_it(filled: Ledger) -> None:
    assert (explained(filled, "g1").written_by, explained(filled, "g").written_by) == ("summarise-r000009", "base")


def test_what_looks_like_markup_in_an_adapters_name_is_printed_as_it_is(filled: Ledger) -> None:
    shown = ref("h"), ref("h", 1)
    filled.add(generation("h", "one", "other", adapter="[/x]", prompt="Again."), choice("d", shown[0], *shown))
    found = explained(filled, "h")
    assert "written by [/x]" in text(found)
    assert "chosen, by [/x]" in text(explained(filled, found.holds_for[0].pair_id))


def test_a_vote_that_lost_says_so_and_names_what_was_trained_on_its_pair_before(filled: Ledger) -> None:
    filled.add(*(choice(f"against-{user}", ref("g", 1), ref("g"), ref("g", 1), user=user) for user in ("bob", "cid")))
    [vote] = explained(filled, "c").votes
    assert (vote.standing, vote.stands, [one.adapter for one in vote.trained]) == ("outvoted", False, [ADAPTER])
    withdrawn = explained(filled, vote.pair_id)
    assert isinstance(withdrawn, WithdrawnPair)
    assert [one.event_id for one in withdrawn.events] == ["c", "g"]
    assert "withdrawn since" in text(withdrawn)


def test_a_vote_that_its_voter_cast_anew_in_another_generation_is_superseded(filled: Ledger) -> None:
    filled.add(generation("h", "alpha", "beta"), choice("again", ref("h", 1), ref("h"), ref("h", 1), at=9))
    [vote], [last] = explained(filled, "c").votes, explained(filled, "again").votes
    assert (vote.standing, last.standing) == ("superseded", "paired")
    assert explained(filled, "c").outcome == "superseded"


def test_a_pair_names_its_events_who_wrote_each_side_and_what_was_trained_on_it(filled: Ledger) -> None:
    with filled.database.read() as session:
        id_ = session.exec(select(Pair.id).where(Pair.source == "regeneration")).one()
    found: PairFound = explained(filled, id_[:10])
    assert {one.event_id for one in found.events} == {"g1", "g3", "r1", "r2", "a"}
    assert (found.chosen, found.rejected) == ("three", "one")
    assert (found.votes_for, found.votes_against, found.votes_left_out) == (1, 0, 0)
    assert list(found.rejected_adapters) == ["summarise-r000009"]
    assert [one.adapter for one in found.trained] == [ADAPTER]
    assert all(said in text(found) for said in ("by regeneration", "three", "1 votes for it, 0 against", "acceptance a"))


def test_an_adapter_names_its_parents_its_verdict_its_pairs_and_their_events(filled: Ledger) -> None:
    with filled.database.begin() as session:
        _add_round(session, [*(pair.id for pair in filled.rows()), "f" * 64], number=2, parent=ADAPTER)
    found: AdapterFound = explained(filled, f"{TASK}-r000002")
    assert (list(found.parents), found.state) == ([ADAPTER, "base"], "passed")
    assert found.pairs == {"train": {"choice": 1, "edit": 1, "preference": 1, "regeneration": 1, "withdrawn": 1}}
    assert {id_ for pair in found.shown for id_ in pair.events} == {"g", "c", "e", "g1", "g3", "r1", "r2", "a", "p"}
    assert [pair.id for pair in found.shown if pair.source is None] == ["f" * 64]
    assert len(all_of(filled, f"{TASK}-r000002", most_pairs=2)[0].shown) == 2  # type: ignore[union-attr]
    assert all(said in text(found) for said in ("word-limit rose", f"on top of {ADAPTER}, then base", "withdrawn since"))


def test_a_round_that_failed_is_explained_under_the_name_that_its_adapter_would_have(filled: Ledger) -> None:
    with filled.database.begin() as session:
        _add_round(session, [], number=3, sealed=False, state="failed", verdict=None, error="The model is gone.")
    found: AdapterFound = explained(filled, f"{TASK}-r000003")
    assert (found.state, found.sealed_at, found.why, found.pairs) == ("failed", None, ["The model is gone."], {})
    assert "never sealed" in text(found)


def test_an_id_in_two_tasks_is_explained_in_both() -> None:
    with ledger(settings=settings_for(tasks=(TASK, "other"))) as filled:
        filled.add(preference("p", "good", "bad"), preference("p", "good", "bad", task="other"))
        assert [found.task for found in all_of(filled, "p") if isinstance(found, EventFound)] == ["other", TASK]


def test_what_became_a_dead_letter_is_found_by_the_id_that_it_claims(filled: Ledger) -> None:
    filled.add_records(
        [NewRecord(b"k", b'{"event_id": "poem-1", "task": "summarise", "type": "poem"}'), NewRecord(b"k", b"\xff")]
    )
    found: LetterFound = explained(filled, "poem-1")
    assert (found.task, found.reason) == (TASK, "invalid")
    assert "Not an event" in text(found)
    assert explained(filled, found.id[:12]) == found


def test_an_event_whose_content_was_removed_still_leads_to_the_adapters_that_rest_on_it(filled: Ledger) -> None:
    with filled.database.begin() as session:
        row = session.get_one(StoredEvent, ("c", TASK))
        row.body, row.body_hash, row.user, row.outcome = "", "", None, Outcome.ERASED.value
        for model in (StoredVote, Pair):
            for gone in session.exec(select(model).where(model.source == "choice")).all():
                session.delete(gone)
        session.get_one(Adapter, ADAPTER).tainted_at = NOW
    found = explained(filled, "c")
    assert (found.by, found.outcome, found.votes) == (None, "erased", [])
    [once] = found.in_rounds
    assert (once.stands, [(one.adapter, one.tainted) for one in once.trained]) == (False, [(ADAPTER, True)])
    assert f"which made adapter {ADAPTER}, tainted" in text(found)
    assert [one.event_id for one in explained(filled, once.pair_id).events] == ["c", "g"]
    assert "never answers again" in text(explained(filled, ADAPTER))
    assert "its content is gone" in text(found)


def test_every_event_of_a_crowd_is_explained_and_what_is_paired_leads_to_a_pair_that_stands() -> None:
    with ledger() as filled:
        events = crowd(60)
        filled.add(*events)
        for one in {one.event_id: one for one in events}.values():
            found = explained(filled, one.event_id)
            assert found.meaning in text(found)
            assert (found.outcome == "paired") == any(vote.stands for vote in found.votes)
            for vote in (vote for vote in (*found.votes, *found.holds_for) if vote.standing == "paired"):
                assert one.event_id in {other.event_id for other in explained(filled, vote.pair_id).events}
        with filled.database.read() as session:
            for pair in filled.rows():
                found = explained(filled, pair.id)
                assert {event.event_id for event in found.events} == behind(session, TASK, [pair.replies])[pair.replies]


def test_the_command_tells_of_every_event_what_the_plain_model_is_compared_with() -> None:
    with ledger() as filled:
        filled.add(*everyone(45))
        told = everything(filled.database)["outcomes"]
        assert {(TASK, id_): explained(filled, id_).outcome for _, id_ in told} == told


@pytest.mark.parametrize("id_", [f"upload-r{'9' * digits}" for digits in (6, 9, 10, 20, 180)] + ["f" * 64, "%", "_", "[/b]"])
def test_an_events_id_may_look_like_any_other(filled: Ledger, id_: str) -> None:
    found = explained(filled.add(preference(id_, "this", "that")), id_)
    assert (found.event_id, found.outcome) == (id_, "paired")
    assert id_[:20] in text(found)


def test_an_id_that_nobody_knows_finds_nothing(filled: Ledger) -> None:
    assert [all_of(filled, id_) for id_ in ("nothing", "0123456789ab", "summarise-r000077")] == [[], [], []]


def test_the_command_prints_json_or_a_tree_and_ends_with_a_sentence_where_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/test.db"
    monkeypatch.setenv("WHETSTONE_DATABASE_URL", url)
    monkeypatch.setenv("WHETSTONE_CONFIG", str(tmp_path / "none.toml"))
    load_settings.cache_clear()
    with ledger(url) as filled:
        filled.add(preference("p[1]", "good", "bad"))
        runner = CliRunner(env={"COLUMNS": "200"})
        [told] = json.loads(runner.invoke(app, ["explain", "p[1]", "--json"]).stdout)
        assert (told["kind"], told["event_id"], told["votes"][0]["stands"]) == ("event", "p[1]", True)
        assert "preference p[1]" in runner.invoke(app, ["explain", "p[1]"]).stdout
        unknown = runner.invoke(app, ["explain", "nothing"])
        assert (unknown.exit_code, unknown.stderr.count("\n")) == (2, 1)
    load_settings.cache_clear()
