from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.events import Event
from pairing.identity import Text
from pairing.outcomes import Outcome
from pairing.rules.rating import Rated, counting, event_id_of, matched, standing, vote_of
from tests.services.feedback import event, generation, ref
from tests.services.rules import derived


def rating(id_: str, thumb: str, generation_id: str = "g", candidate: int = 0, **fields: Any) -> Event:
    return event("rating", id_, reply=ref(generation_id, candidate), thumb=thumb, **fields)


def rated(name: str, net: int) -> Rated:
    return Rated(Text(f'"{name}"', hash=f"hash of {name}"), net=net, adapter=None)


def test_a_rating_is_an_opinion_of_the_replys_text() -> None:
    found = derived(generation("g", "alpha", adapter="summarise-r000001"), rating("r", "up", user="ann"))
    [opinion] = found.ratings
    assert (opinion.event_id, opinion.reply.json, opinion.up, opinion.held_by) == ("r", '"alpha"', True, "g")
    assert (opinion.voter, opinion.adapter) == ("user user ann", "summarise-r000001")
    assert (found.votes, found.outcomes) == ([], {})


def test_a_rating_of_what_is_no_reply_has_its_reason() -> None:
    judged = generation("judged", "alpha", purpose="evaluation")
    early, missing, judging = rating("r1", "up", "later"), rating("r2", "up", candidate=3), rating("r3", "up", "judged")
    found = derived(generation("g", "alpha"), judged, early, missing, judging)
    assert found.ratings == []
    assert found.outcomes == {
        "r1": Outcome.WAITING_FOR_GENERATION,
        "r2": Outcome.UNKNOWN_CANDIDATE,
        "r3": Outcome.EVALUATION,
    }


def test_a_persons_last_rating_of_a_text_counts_wherever_they_met_it() -> None:
    met_twice = [generation("g", "alpha"), generation("h", "alpha"), generation("other", "alpha", prompt="Another one.")]
    ratings = [rating("r1", "up", at=1), rating("r2", "down", "h", at=2), rating("r3", "up", "other", at=0)]
    found = derived(*met_twice, *ratings, rating("r4", "up", user="bob", at=0))
    assert {one.event_id for one in counting(found.ratings)} == {"r2", "r3", "r4"}


def test_people_without_a_name_are_told_apart_by_the_generation() -> None:
    ratings = [rating("r1", "up", user=None, at=1), rating("r2", "down", user=None, at=2), rating("r3", "up", "h", user=None)]
    found = derived(generation("g", "alpha"), generation("h", "alpha"), *ratings)
    assert {one.event_id for one in counting(found.ratings)} == {"r2", "r3"}


@settings(deadline=None)
@given(st.permutations([rating(f"r{n}", "up" if n % 2 else "down", at=n % 3, user=f"u{n % 4}") for n in range(9)]))
def test_the_order_of_ratings_does_not_change_which_count(ratings: list[Event]) -> None:
    found = derived(generation("g", "alpha"), *ratings)
    assert {one.event_id for one in counting(found.ratings)} == {"r2", "r5", "r7", "r8"}


def test_the_best_liked_reply_is_paired_with_the_least_liked_one_and_so_on() -> None:
    ups, downs = [rated("loved", 5), rated("liked", 1)], [rated("hated", -7), rated("disliked", -2), rated("poor", -1)]
    assert matched(ups, downs, 4) == [(ups[0], downs[0]), (ups[1], downs[1])]


def test_a_prompt_has_no_more_pairs_than_the_setting_says() -> None:
    ups, downs = [rated(f"up {n}", 9 - n) for n in range(4)], [rated(f"down {n}", n - 9) for n in range(4)]
    assert matched(ups, downs, 2) == [(ups[0], downs[0]), (ups[1], downs[1])]
    assert matched(ups, downs, 0) == []


def test_a_match_is_one_vote_that_does_not_depend_on_who_rated() -> None:
    vote = vote_of("a prompt's hash", rated("liked", 5), rated("disliked", -3))
    assert (vote.event_id, vote.voter, vote.source) == (event_id_of("a prompt's hash"), "ratings", "rating")
    assert (vote.chosen.json, vote.rejected.json) == ('"liked"', '"disliked"')
    assert vote == vote_of("a prompt's hash", rated("liked", 1), rated("disliked", -1))


@pytest.mark.parametrize(
    ("up", "net", "of_match", "outcome"),
    [
        (True, 2, Outcome.PAIRED, Outcome.PAIRED),
        (False, -2, Outcome.DRAW, Outcome.DRAW),
        (True, 2, None, Outcome.UNPAIRED_EXAMPLE),
        (False, 2, Outcome.PAIRED, Outcome.OUTVOTED),
        (True, -1, None, Outcome.OUTVOTED),
        (True, 0, None, Outcome.DRAW),
    ],
)
def test_every_rating_has_an_outcome(up: bool, net: int, of_match: Outcome | None, outcome: Outcome) -> None:
    assert standing(up, net, of_match) == outcome
