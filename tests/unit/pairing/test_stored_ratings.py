"""Ratings over the whole way: stored, added up, matched, and explained."""

from typing import Any

from ingest.events import Event
from ingest.settings import CriterionSettings, TaskPairingSettings, TaskSettings
from pairing.outcomes import Outcome
from tests.services.feedback import TASK, event, generation, ref
from tests.services.ledger import Ledger, everything, settings_for
from tests.services.ledger import ledger as empty_ledger


def rating(id_: str, generation_id: str, thumb: str, user: str = "ann", **fields: Any) -> Event:
    return event("rating", id_, reply=ref(generation_id), thumb=thumb, user=user, **fields)


def examples(ledger: Ledger) -> dict[str, bool]:
    return {reply: label for (_, _, reply), label in everything(ledger.database)["examples"].items()}


def test_a_liked_reply_is_preferred_over_a_disliked_one_to_the_same_prompt(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha"), generation("h", "beta"), generation("o", "gamma", prompt="Another one."))
    ledger.add(rating("r1", "g", "up"), rating("r2", "h", "down", "bob"), rating("r3", "o", "down"))
    assert ledger.pairs() == [("alpha", "beta")]
    assert (ledger.pair().source, ledger.behind()) == ("rating", {"r1", "r2", "g", "h"})
    assert examples(ledger) == {'"gamma"': False}
    assert [ledger.outcome(id_) for id_ in ("r1", "r2", "r3")] == [Outcome.PAIRED, Outcome.PAIRED, Outcome.UNPAIRED_EXAMPLE]


def test_a_person_who_changes_their_mind_takes_the_pair_back(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha"), generation("h", "beta"), rating("r1", "g", "up"), rating("r2", "h", "down"))
    ledger.add(rating("r3", "h", "up", at=5))
    assert ledger.pairs() == []
    assert examples(ledger) == {'"alpha"': True, '"beta"': True}
    assert ledger.outcome("r2") == Outcome.SUPERSEDED


def test_likes_and_dislikes_of_one_text_add_up_over_generations(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha"), generation("h", "alpha"), rating("r1", "g", "up"), rating("r2", "h", "down", "bob"))
    assert (examples(ledger), ledger.outcome("r1")) == ({}, Outcome.DRAW)
    ledger.add(rating("r3", "g", "down", "cid"))
    assert (examples(ledger), ledger.outcome("r1"), ledger.outcome("r2")) == (
        {'"alpha"': False},
        Outcome.OUTVOTED,
        Outcome.UNPAIRED_EXAMPLE,
    )


def test_a_prompt_makes_no_more_pairs_by_rating_than_the_setting_says() -> None:
    with empty_ledger(settings=settings_for(TaskPairingSettings(rating_pairs_per_prompt=1))) as ledger:
        for number in range(3):
            ledger.add(generation(f"g{number}", f"good {number}"), generation(f"b{number}", f"bad {number}"))
            ledger.add(rating(f"u{number}", f"g{number}", "up"), rating(f"d{number}", f"b{number}", "down"))
        ledger.add(rating("more", "g1", "up", "bob"))
        [(liked, _)] = ledger.pairs()
        assert liked == "good 1"
        assert len(examples(ledger)) == 4


def test_scores_of_one_generation_make_the_highest_preferred_over_the_lowest() -> None:
    criteria = (CriterionSettings(name="limit", type="word_limit", max_words=3, min_margin=0.5),)
    settings = settings_for().model_copy(update={"tasks": {TASK: TaskSettings(criteria=criteria)}})
    with empty_ledger(settings=settings) as ledger:
        ledger.add(generation("g", "alpha", "beta", "gamma"))
        scores = enumerate((0.2, 1.0, 0.6))
        ledger.add(
            *(
                event("score", f"s{n}", by="criterion", user=None, reply=ref("g", n), criterion="limit", value=value)
                for n, value in scores
            )
        )
        assert (ledger.pairs(), ledger.pair().source) == ([("beta", "alpha")], "criterion")
        assert ledger.outcome("s2") == Outcome.BETWEEN
