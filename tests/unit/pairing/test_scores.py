from collections.abc import Sequence
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.events import Event
from ingest.settings import CriterionSettings, TaskPairingSettings, TaskSettings
from pairing.outcomes import Outcome
from pairing.rules.votes import Derived
from tests.services.feedback import event, generation, ref
from tests.services.rules import derived, facts, said

THREE = generation("g", "alpha", "beta", "gamma", adapter="summarise-r000001")


def score(id_: str, candidate: int, value: float, criterion: str = "length", generation_id: str = "g", **fields: Any) -> Event:
    return event("score", id_, by="criterion", reply=ref(generation_id, candidate), criterion=criterion, value=value, **fields)


def criteria(how: Literal["weighted", "lexicographic"] = "weighted", **each: dict[str, float]) -> TaskSettings:
    made = [CriterionSettings(name=name, type="word_limit", max_words=9, **fields) for name, fields in each.items()]
    return TaskSettings(pairing=TaskPairingSettings(criteria=how), criteria=tuple(made))


ONE = criteria(length={})


def outcomes(one: Derived, *ids: str) -> list[Outcome]:
    return [one.outcomes[id_] for id_ in ids]


def test_the_highest_score_is_preferred_over_the_lowest() -> None:
    found = derived(THREE, score("a", 0, 0.2), score("b", 1, 0.9), score("c", 2, 0.5), settings=ONE)
    [vote] = found.votes
    assert said(found.votes) == [("beta", "alpha")]
    assert (vote.source, vote.event_id, vote.events, vote.held_by) == ("criterion", "b", {"a", "b"}, {"g"})
    assert vote.chosen_adapter == vote.rejected_adapter == "summarise-r000001"
    assert found.outcomes["c"] == Outcome.BETWEEN


@pytest.mark.parametrize("how", ["weighted", "lexicographic"])
def test_a_margin_as_large_as_the_least_one_is_large_enough(how: Any) -> None:
    scores = [score("a", 0, 0.3), score("b", 1, 0.2)]  # 0.3 - 0.2 < 0.1 in floats
    assert said(derived(THREE, *scores, settings=criteria(how, length={"min_margin": 0.1})).votes) == [("alpha", "beta")]
    found = derived(THREE, *scores, settings=criteria(how, length={"min_margin": 0.11}))
    assert (found.votes, outcomes(found, "a", "b")) == ([], [Outcome.SMALL_MARGIN] * 2)


@pytest.mark.parametrize("how", ["weighted", "lexicographic"])
def test_equal_scores_make_no_pair_even_without_a_least_margin(how: Any) -> None:
    found = derived(THREE, score("a", 0, 1), score("b", 1, 1), settings=criteria(how, length={}))
    assert (found.votes, outcomes(found, "a", "b")) == ([], [Outcome.SMALL_MARGIN] * 2)


def test_several_criteria_are_added_up_by_weight() -> None:
    settings = criteria(length={"weight": 1, "min_margin": 0.5}, style={"weight": 3, "min_margin": 0.5})
    scores = [score("a1", 0, 1), score("a2", 0, 0, "style"), score("b1", 1, 0), score("b2", 1, 1, "style")]
    found = derived(THREE, *scores, settings=settings)
    assert said(found.votes) == [("beta", "alpha")]
    assert found.votes[0].events == {"a1", "a2", "b1", "b2"}


def test_the_sum_of_margins_must_reach_the_sum_of_the_least_ones_by_weight() -> None:
    scores = [score("a1", 0, 1), score("a2", 0, 1, "style"), score("b1", 1, 0), score("b2", 1, 0, "style")]
    enough = criteria(length={"weight": 2, "min_margin": 1.5}, style={"weight": 1, "min_margin": 0})
    assert said(derived(THREE, *scores, settings=enough).votes) == [("alpha", "beta")]
    too_much = criteria(length={"weight": 2, "min_margin": 1.5}, style={"weight": 1, "min_margin": 0.1})
    assert derived(THREE, *scores, settings=too_much).votes == []


def test_or_the_first_criterion_decides_whose_margin_is_large_enough() -> None:
    settings = criteria("lexicographic", length={"min_margin": 0.5}, style={"weight": 0.001})
    scores = [score("a1", 0, 0.6), score("a2", 0, 0, "style"), score("b1", 1, 0.2), score("b2", 1, 0.1, "style")]
    assert said(derived(THREE, *scores, settings=settings).votes) == [("beta", "alpha")]
    assert said(derived(THREE, *scores, score("a3", 0, 0.7, at=1), settings=settings).votes) == [("alpha", "beta")]


def test_replies_that_the_deciding_criterion_finds_alike_are_told_apart_by_the_next() -> None:
    settings = criteria("lexicographic", length={}, style={})
    values = [(1, 0.2), (1, 0.8), (0, 0.3), (0, 0.1)]
    scores = [score(f"l{i}", i, one) for i, (one, _) in enumerate(values)]
    scores += [score(f"s{i}", i, two, "style") for i, (_, two) in enumerate(values)]
    found = derived(generation("g", "alpha", "beta", "gamma", "delta"), *scores, settings=settings)
    assert said(found.votes) == [("beta", "delta")]


@pytest.mark.parametrize("how", ["weighted", "lexicographic"])
def test_of_replies_alike_in_everything_the_first_ones_are_paired(how: Any) -> None:
    four = generation("g", "alpha", "beta", "gamma", "delta")
    scores = [score(f"s{i}", i, value) for i, value in enumerate((0, 1, 1, 0))]
    assert said(derived(four, *scores, settings=criteria(how, length={})).votes) == [("beta", "alpha")]


def test_a_reply_is_compared_once_each_criterion_has_scored_it() -> None:
    settings = criteria(length={}, style={})
    scores = [score("a1", 0, 1), score("a2", 0, 1, "style"), score("b1", 1, 0)]
    found = derived(THREE, *scores, settings=settings)
    assert (found.votes, set(found.outcomes.values())) == ([], {Outcome.WAITING_FOR_SCORE})
    assert said(derived(THREE, *scores, score("b2", 1, 0, "style"), settings=settings).votes) == [("alpha", "beta")]


def test_of_two_scores_of_one_criterion_for_one_reply_the_last_counts_whoever_sent_it() -> None:
    scores = [score("a1", 0, 0, at=1), score("a2", 0, 1, at=2, user="bob"), score("b", 1, 0.5)]
    found = derived(THREE, *scores, settings=ONE)
    assert said(found.votes) == [("alpha", "beta")]
    assert found.outcomes["a1"] == Outcome.SUPERSEDED


def test_what_says_nothing_about_two_replies_has_its_reason() -> None:
    judged = generation("judged", "alpha", purpose="evaluation")
    alone, unknown, missing = score("s1", 0, 1), score("s2", 1, 0, "tone"), score("s3", 7, 0)
    early, judging = score("s4", 0, 1, generation_id="later"), score("s5", 0, 1, generation_id="judged")
    found = derived(THREE, judged, alone, unknown, missing, early, judging, settings=ONE)
    assert found.votes == []
    assert outcomes(found, "s1", "s2", "s3", "s4", "s5") == [
        Outcome.WAITING_FOR_SCORE,
        Outcome.UNKNOWN_CRITERION,
        Outcome.UNKNOWN_CANDIDATE,
        Outcome.WAITING_FOR_GENERATION,
        Outcome.EVALUATION,
    ]


def test_equal_texts_with_different_scores_make_no_pair() -> None:
    found = derived(generation("g", "alpha", "alpha"), score("a", 0, 0), score("b", 1, 1), settings=ONE)
    assert (found.votes, outcomes(found, "a", "b")) == ([], [Outcome.SAME_TEXT] * 2)


def test_criteria_have_one_vote_on_two_replies_however_often_they_meet() -> None:
    again = generation("h", "beta", "alpha")
    scores = [score("a", 0, 0), score("b", 1, 1), score("c", 0, 1, generation_id="h"), score("d", 1, 0, generation_id="h")]
    found = derived(THREE, again, *scores, settings=ONE)
    assert said(found.votes) == [("beta", "alpha")] * 2
    assert len({vote.voter for vote in found.votes}) == 1


def test_the_largest_numbers_are_added_up_and_compared_all_the_same() -> None:
    most = 1.7976931348623157e308
    settings = criteria(length={"weight": most, "min_margin": most}, style={"weight": most})
    scores = [score("a1", 0, most), score("a2", 0, -most, "style"), score("b1", 1, -most), score("b2", 1, -most, "style")]
    assert said(derived(THREE, *scores, settings=settings).votes) == [("alpha", "beta")]


SCORES = st.builds(
    lambda drawn: [score(f"s{i}", *one, at=i % 3, generation_id=id_) for i, (id_, one) in enumerate(drawn)],
    st.lists(
        st.tuples(
            st.sampled_from(["g", "g", "h", "lost"]),
            st.tuples(
                st.integers(0, 3), st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0]), st.sampled_from(["length", "style", "tone"])
            ),
        ),
        max_size=20,
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.data(), SCORES, st.sampled_from(["weighted", "lexicographic"]))
def test_the_order_of_scores_changes_nothing(data: st.DataObject, scores: Sequence[Event], how: Any) -> None:
    rules = criteria(how, style={"weight": 0.3, "min_margin": 0.1}, length={})
    world = (THREE, generation("h", "beta", "alpha", "alpha"))
    again = data.draw(st.permutations(scores))
    first = derived(*world, *scores, settings=rules)
    assert facts(derived(*world, *again, settings=rules)) == facts(first)
    explained = first.outcomes.keys() | {id_ for vote in first.votes for id_ in vote.events}
    assert explained == {one.event_id for one in scores}
