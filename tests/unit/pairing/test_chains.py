import pytest

from ingest.settings import TaskPairingSettings
from pairing.outcomes import Outcome
from tests.services.feedback import acceptance, choice, edit, generation, ref, regeneration
from tests.services.ledger import Ledger, ledger, settings_for


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


def test_the_pair_names_every_event_of_its_chain(chain: Ledger) -> None:
    assert chain.add(acceptance("a", "g3")).behind() == {"a", "r1", "r2", "g1", "g3"}
