import pytest

from ingest.settings import TaskPairingSettings
from pairing.outcomes import Outcome
from tests.services.feedback import acceptance, choice, edit, generation, ref, regeneration
from tests.services.ledger import Ledger, ledger, settings_for
from tests.services.rules import by, derived, said

DAY_S = 86_400


@pytest.fixture
def chain(ledger: Ledger) -> Ledger:
    """Three replies, each thrown away for the next."""
    generations = [generation("g1", "first"), generation("g2", "second"), generation("g3", "third")]
    return ledger.add(*generations, regeneration("r1", "g1", "g2"), regeneration("r2", "g2", "g3"))


def test_the_accepted_reply_is_preferred_over_the_first_one_thrown_away(chain: Ledger) -> None:
    assert chain.add(acceptance("a", "g3")).pairs() == [("third", "first")]
    assert [chain.outcome(id_) for id_ in ("r1", "r2", "a")] == [Outcome.PAIRED] * 3


def test_or_over_each_one_by_setting() -> None:
    with ledger(settings=settings_for(TaskPairingSettings(regeneration="each"))) as chain:
        chain.add(generation("g1", "first"), generation("g2", "second"), generation("g3", "third"))
        chain.add(regeneration("r2", "g2", "g3"), acceptance("a", "g3"), regeneration("r1", "g1", "g2"))
        assert chain.pairs() == [("third", "first"), ("third", "second")]


def test_a_chain_that_nobody_closed_makes_nothing(chain: Ledger) -> None:
    assert chain.pairs() == []
    assert chain.outcome("r1") == chain.outcome("r2") == Outcome.WAITING_FOR_CLOSING


def test_links_and_not_times_order_a_chain(ledger: Ledger) -> None:
    ledger.add(*(generation(f"g{n}", f"reply {n}") for n in (1, 2, 3)))
    ledger.add(regeneration("r1", "g1", "g2", at=50), regeneration("r2", "g2", "g3", at=10), acceptance("a", "g3", at=1))
    assert ledger.pairs() == [("reply 3", "reply 1")]


def test_the_last_closing_event_wins(chain: Ledger) -> None:
    chain.add(acceptance("a2", "g2", at=9), acceptance("a3", "g3", at=5))
    assert chain.pairs() == [("second", "first")]
    assert chain.outcome("a3") == Outcome.SUPERSEDED


def test_who_goes_back_to_the_first_reply_prefers_it_over_the_next_one_thrown_away(chain: Ledger) -> None:
    assert chain.add(acceptance("a", "g1")).pairs() == [("first", "second")]


def test_taking_back_the_only_rejection_leaves_nothing_rejected(ledger: Ledger) -> None:
    ledger.add(generation("g1", "first"), generation("g2", "second"), regeneration("r", "g1", "g2"), acceptance("a", "g1"))
    assert ledger.pairs() == []
    assert ledger.outcome("a") == ledger.outcome("r") == Outcome.NOTHING_REJECTED


def test_replies_thrown_away_for_the_same_text_are_the_reason_that_nothing_comes_of_a_chain(ledger: Ledger) -> None:
    ledger.add(*(generation(f"g{n}", "same") for n in (1, 2, 3)), regeneration("r1", "g1", "g2"), regeneration("r2", "g2", "g3"))
    ledger.add(acceptance("a", "g3", at=9), acceptance("earlier", "g2", at=1))
    assert ledger.pairs() == []
    assert [ledger.outcome(id_) for id_ in ("r1", "r2", "a")] == [Outcome.SAME_TEXT] * 3
    assert ledger.outcome("earlier") == Outcome.SUPERSEDED


def test_an_acceptance_without_a_chain_has_its_reason(ledger: Ledger) -> None:
    assert ledger.add(generation("g", "x"), acceptance("a", "g")).outcome("a") == Outcome.NOTHING_REJECTED


def test_a_choice_closes_a_chain(ledger: Ledger) -> None:
    ledger.add(generation("g1", "first"), generation("g2", "second", "other"), regeneration("r", "g1", "g2"))
    ledger.add(choice("c", ref("g2", 1), ref("g2", 0), ref("g2", 1)))
    assert ledger.pairs() == [("other", "first"), ("other", "second")]
    assert {pair.source for pair in ledger.rows()} == {"choice", "regeneration"}


def test_an_edit_closes_a_chain_with_the_text_as_it_was_saved(ledger: Ledger) -> None:
    ledger.add(generation("g1", "first"), generation("g2", "second"), regeneration("r", "g1", "g2"), edit("e", "g2", "saved"))
    assert ledger.pairs() == [("saved", "first"), ("saved", "second")]


def test_an_edit_of_nothing_but_spaces_still_closes_a_chain(ledger: Ledger) -> None:
    ledger.add(generation("g1", "first"), generation("g2", "second"), regeneration("r", "g1", "g2"), edit("e", "g2", "second "))
    assert ledger.pairs() == [("second ", "first")]


def test_a_changed_prompt_parts_a_chain(ledger: Ledger) -> None:
    ledger.add(generation("g1", "first", prompt="Before."), generation("g2", "second"), generation("g3", "third"))
    ledger.add(regeneration("r1", "g1", "g2"), regeneration("r2", "g2", "g3"), acceptance("a", "g3"))
    assert ledger.pairs() == [("third", "second")]
    assert ledger.outcome("r1") == Outcome.CHANGED_PROMPT


def test_a_prompt_that_may_have_changed_in_between_is_waited_for(ledger: Ledger) -> None:
    ledger.add(generation("g1", "first", prompt="Before."), generation("g3", "third"))
    ledger.add(regeneration("r1", "g1", "g2"), regeneration("r2", "g2", "g3"), acceptance("a", "g3"))
    assert ledger.outcome("a") == Outcome.WAITING_FOR_GENERATION
    assert ledger.add(generation("g2", "second")).pairs() == [("third", "second")]


def test_a_circle_of_regenerations_has_its_reason(chain: Ledger) -> None:
    chain.add(regeneration("r3", "g3", "g1"), acceptance("a", "g3"))
    assert chain.pairs() == []
    assert {chain.outcome(id_) for id_ in ("r1", "r2", "r3", "a")} == {Outcome.CYCLE}


def test_a_late_link_derives_the_chain_again(ledger: Ledger) -> None:
    ledger.add(*(generation(f"g{n}", f"reply {n}") for n in (1, 2, 3)), regeneration("r2", "g2", "g3"), acceptance("a", "g3"))
    assert ledger.pairs() == [("reply 3", "reply 2")]
    assert ledger.add(regeneration("r1", "g1", "g2")).pairs() == [("reply 3", "reply 1")]


def test_a_first_reply_with_the_accepted_text_is_passed_over(ledger: Ledger) -> None:
    ledger.add(generation("g1", "same"), generation("g2", "second"), generation("g3", "same"))
    ledger.add(regeneration("r1", "g1", "g2"), regeneration("r2", "g2", "g3"), acceptance("a", "g3"))
    assert ledger.pairs() == [("same", "second")]


def test_the_vote_names_every_event_of_its_chain() -> None:
    asked = [generation(f"g{n}", f"reply {n}") for n in (1, 2, 3)]
    links = [regeneration("r1", "g1", "g2"), regeneration("r2", "g2", "g3")]
    [vote] = derived(*asked, *links, acceptance("a", "g3")).votes
    assert (vote.events, vote.held_by) == ({"a", "r1", "r2"}, {"g1", "g3"})


def test_a_chain_may_be_of_any_length_and_go_on_for_days() -> None:
    asked = [generation(f"g{n}", f"reply {n}", at=n * DAY_S) for n in range(60)]
    links = [regeneration(f"r{n}", f"g{n}", f"g{n + 1}", at=n * DAY_S) for n in range(59)]
    chain = [*asked, *reversed(links), acceptance("a", "g59", at=60 * DAY_S)]
    assert said(derived(*chain).votes) == [("reply 59", "reply 0")]
    assert said(derived(*chain, settings=by(regeneration="each")).votes) == sorted(("reply 59", f"reply {n}") for n in range(59))


@pytest.mark.parametrize("which", ["first", "each"])
def test_a_choice_and_an_edit_close_a_chain_over_the_first_or_over_each(which: str) -> None:
    asked = [generation("g1", "first"), generation("g2", "second"), generation("g3", "third", "other")]
    links = [regeneration("r1", "g1", "g2"), regeneration("r2", "g2", "g3")]
    over = ["first", "second"] if which == "each" else ["first"]
    for closing, kept in ((choice("c", ref("g3", 1), ref("g3", 0), ref("g3", 1)), "other"), (edit("c", "g3", "saved"), "saved")):
        votes = derived(*asked, *links, closing, settings=by(regeneration=which)).votes
        assert said([vote for vote in votes if vote.source == "regeneration"]) == [(kept, rejected) for rejected in over]


def test_none_good_and_a_tie_close_nothing() -> None:
    asked = [generation("g1", "first"), generation("g2", "second", "other"), regeneration("r", "g1", "g2")]
    for picked in ("none", "tie"):
        found = derived(*asked, choice("c", picked, ref("g2", 0), ref("g2", 1)))
        assert (found.votes, found.outcomes["r"]) == ([], Outcome.WAITING_FOR_CLOSING)


def test_a_choice_of_the_reply_shown_first_closes_a_chain_though_it_says_nothing_by_itself() -> None:
    asked = [generation("g1", "first"), generation("g2", "second", "other"), regeneration("r", "g1", "g2")]
    picked = choice("c", ref("g2", 0), ref("g2", 0), ref("g2", 1))
    [vote] = derived(*asked, picked, settings=by(choice="first")).votes
    assert (said([vote]), vote.source, vote.events) == ([("second", "first")], "regeneration", {"c", "r"})


def test_the_last_closing_event_wins_of_whatever_kind_and_whoever_it_is() -> None:
    asked = [generation("g1", "first"), generation("g2", "second"), regeneration("r", "g1", "g2")]
    closing = [acceptance("a", "g2", at=3, user="bob"), edit("e", "g2", "saved", at=2)]
    votes = derived(*asked, *closing).votes
    assert said([vote for vote in votes if vote.source == "regeneration"]) == [("second", "first")]


@pytest.mark.parametrize("who", ["user", "expert", "criterion"])
def test_a_chain_is_a_regeneration_whoever_closes_it(who: str) -> None:
    asked = [generation("g1", "first"), generation("g2", "second"), regeneration("r", "g1", "g2")]
    assert [vote.source for vote in derived(*asked, acceptance("a", "g2", by=who)).votes] == ["regeneration"]
