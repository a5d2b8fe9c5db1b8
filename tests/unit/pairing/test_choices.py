import pytest

from pairing.outcomes import Outcome
from tests.services.feedback import choice, generation, ref
from tests.services.ledger import Ledger

A, B, C = ref("g", 0), ref("g", 1), ref("g", 2)


@pytest.fixture
def shown(ledger: Ledger) -> Ledger:
    return ledger.add(generation("g", "alpha", "beta", "gamma"))


def test_the_picked_reply_is_preferred_over_each_one_shown_and_not_picked(shown: Ledger) -> None:
    shown.add(choice("c", B, A, B, C))
    assert shown.pairs() == [("beta", "alpha"), ("beta", "gamma")]
    assert shown.outcome("c") == Outcome.PAIRED


def test_a_candidate_that_was_not_shown_is_in_no_pair(shown: Ledger) -> None:
    assert shown.add(choice("c", B, A, B)).pairs() == [("beta", "alpha")]


@pytest.mark.parametrize(("picked", "outcome"), [("tie", Outcome.TIE), ("none", Outcome.NONE_GOOD)])
def test_a_tie_and_none_good_make_no_pair_and_have_their_reason(shown: Ledger, picked: str, outcome: Outcome) -> None:
    assert shown.add(choice("c", picked, A, B)).pairs() == []
    assert shown.outcome("c") == outcome


def test_a_later_choice_of_the_same_person_replaces_the_earlier_one_whole(shown: Ledger) -> None:
    shown.add(choice("c2", A, A, B, at=2), choice("c1", C, A, B, C, at=1))
    assert shown.pairs() == [("alpha", "beta")]
    assert shown.outcome("c1") == Outcome.SUPERSEDED


def test_a_later_none_good_takes_an_earlier_choice_back(shown: Ledger) -> None:
    shown.add(choice("c1", A, A, B, at=1))
    assert shown.add(choice("c2", "none", A, B, at=2)).pairs() == []


def test_the_apps_own_revision_goes_before_its_clock(shown: Ledger) -> None:
    shown.add(choice("c1", A, A, B, at=9, revision=1), choice("c2", B, A, B, at=1, revision=2))
    assert shown.pairs() == [("beta", "alpha")]


def test_people_without_a_name_on_one_generation_are_one_person(shown: Ledger) -> None:
    shown.add(choice("c1", A, A, B, at=1, user=None), choice("c2", B, A, B, at=2, user=None))
    assert shown.pairs() == [("beta", "alpha")]


def test_an_expert_and_a_user_of_one_name_are_two_people(shown: Ledger) -> None:
    shown.add(choice("c1", A, A, B), choice("c2", B, A, B, at=2, by="expert"))
    assert shown.pairs() == []
    assert shown.outcome("c1") == shown.outcome("c2") == Outcome.DRAW


def test_equal_texts_make_no_pair(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "alpha"), choice("c", A, A, B))
    assert ledger.pairs() == []
    assert ledger.outcome("c") == Outcome.SAME_TEXT


def test_replies_of_several_generations_to_one_prompt_can_be_shown_together(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha"), choice("c", ref("h"), A, ref("h")))
    assert ledger.outcome("c") == Outcome.WAITING_FOR_GENERATION
    assert ledger.add(generation("h", "beta")).pairs() == [("beta", "alpha")]


def test_replies_to_different_prompts_are_never_compared(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha"), generation("h", "beta", prompt="Another one."), choice("c", A, A, ref("h")))
    assert ledger.pairs() == []
    assert ledger.outcome("c") == Outcome.DIFFERENT_PROMPTS


def test_a_candidate_that_was_never_written_has_its_reason(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "beta"), choice("c", A, A, ref("g", 7)))
    assert ledger.outcome("c") == Outcome.UNKNOWN_CANDIDATE


def test_generations_made_to_judge_an_adapter_never_become_pairs(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha", "beta", purpose="evaluation"), choice("c", A, A, B))
    assert ledger.pairs() == []
    assert ledger.outcome("c") == ledger.outcome("g") == Outcome.EVALUATION
