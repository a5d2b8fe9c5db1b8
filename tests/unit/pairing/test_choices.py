import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.events import BASE, Event
from pairing.outcomes import Outcome
from tests.services.feedback import choice, generation, held, ref
from tests.services.ledger import Ledger
from tests.services.rules import by, derived, facts, said

A, B, C = ref("g", 0), ref("g", 1), ref("g", 2)
THREE = generation("g", "alpha", "beta", "gamma")


@pytest.fixture
def shown(ledger: Ledger) -> Ledger:
    return ledger.add(THREE)


def test_the_picked_reply_is_preferred_over_each_one_shown_and_not_picked(shown: Ledger) -> None:
    shown.add(choice("c", B, A, B, C))
    assert shown.pairs() == [("beta", "alpha"), ("beta", "gamma")]
    assert shown.outcome("c") == Outcome.PAIRED


def test_a_candidate_that_was_not_shown_is_in_no_pair(shown: Ledger) -> None:
    assert shown.add(choice("c", B, A, B)).pairs() == [("beta", "alpha")]


def test_or_over_the_one_shown_first_only_by_setting() -> None:
    assert said(derived(THREE, choice("c", B, C, B, A), settings=by(choice="first")).votes) == [("beta", "gamma")]


def test_who_picks_the_first_one_then_says_nothing_with_its_reason() -> None:
    found = derived(THREE, choice("c", A, A, B, C), settings=by(choice="first"))
    assert (found.votes, found.outcomes) == ([], {"c": Outcome.PICKED_FIRST})
    found = derived(generation("g", "alpha", "alpha"), choice("c", B, A, B), settings=by(choice="first"))
    assert (found.votes, found.outcomes) == ([], {"c": Outcome.SAME_TEXT})


@pytest.mark.parametrize(("who", "source"), [("user", "choice"), ("expert", "expert"), ("criterion", "criterion")])
def test_the_source_says_whether_a_user_an_expert_or_a_criterion_chose(who: str, source: str) -> None:
    assert derived(THREE, choice("c", A, A, B, by=who)).votes[0].source == source


def test_a_vote_names_the_adapters_that_wrote_its_replies_or_the_base_model() -> None:
    picked, other = ref("g"), ref("h")
    by_adapter = generation("g", "alpha", adapter="summarise-r000001")
    [vote] = derived(by_adapter, generation("h", "beta"), choice("c", picked, picked, other)).votes
    assert (vote.chosen_adapter, vote.rejected_adapter) == ("summarise-r000001", BASE)


@pytest.mark.parametrize(("says", "adapter"), [({}, None), ({"model": "llama"}, BASE), ({"adapter": "r1"}, "r1")])
def test_nobody_guesses_who_wrote_the_replies_that_an_app_carries(says: dict[str, str], adapter: str | None) -> None:
    [vote] = derived(choice("c", A, A, B, generation=held("g", "alpha", "beta", **says))).votes
    assert vote.chosen_adapter == vote.rejected_adapter == adapter


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


def test_an_expert_and_a_user_of_one_name_are_two_people() -> None:
    found = derived(THREE, choice("c1", A, A, B), choice("c2", B, A, B, at=2, by="expert"))
    assert said(found.votes) == [("alpha", "beta"), ("beta", "alpha")]
    assert len({vote.voter for vote in found.votes}) == 2


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


CHOICES = st.builds(
    lambda drawn: [choice(f"c{i}", picked, *shown, at=i % 4, user=user) for i, (shown, picked, user) in enumerate(drawn)],
    st.lists(
        st.lists(st.sampled_from([A, B, C, ref("h", 0), ref("h", 1)]), min_size=2, max_size=4, unique_by=str).flatmap(
            lambda shown: st.tuples(
                st.just(shown), st.sampled_from([*shown, "tie", "none"]), st.sampled_from(["ann", "bob", None])
            )
        ),
        max_size=12,
    ),
)


@settings(deadline=None)
@given(st.data(), CHOICES, st.sampled_from(["each", "first"]))
def test_the_order_of_choices_changes_nothing(data: st.DataObject, choices: list[Event], which: str) -> None:
    world, rules = (THREE, generation("h", "beta", "delta")), by(choice=which)
    again = data.draw(st.permutations(choices))
    assert facts(derived(*world, *again, settings=rules)) == facts(derived(*world, *choices, settings=rules))
