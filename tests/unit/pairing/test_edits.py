import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.settings import TaskPairingSettings
from pairing.outcomes import Outcome
from pairing.rules.edit import lacks_substance
from tests.services.feedback import edit, generation
from tests.services.ledger import Ledger, ledger, settings_for


def test_the_saved_text_is_preferred_over_the_models_draft(ledger: Ledger) -> None:
    ledger.add(generation("g", "a long draft about the sea", adapter="summarise-r000001"), edit("e", "g", "The sea."))
    pair = ledger.pair()
    assert ledger.pairs() == [("The sea.", "a long draft about the sea")]
    assert (pair.source, pair.chosen_adapters, pair.rejected_adapters) == ("edit", "[]", '["summarise-r000001"]')


def test_of_several_saves_the_last_makes_the_only_pair(ledger: Ledger) -> None:
    ledger.add(generation("g", "a long draft"), edit("e2", "g", "final", at=2, edit_of="e1"), edit("e1", "g", "half way", at=1))
    assert ledger.pairs() == [("final", "a long draft")]
    assert ledger.outcome("e1") == Outcome.SUPERSEDED


def test_two_people_and_two_candidates_make_pairs_of_their_own(ledger: Ledger) -> None:
    ledger.add(generation("g", "draft one", "draft two"))
    ledger.add(edit("e1", "g", "Ann's"), edit("e2", "g", "Bob's", user="bob"), edit("e3", "g", "other", candidate=1))
    assert ledger.pairs() == [("Ann's", "draft one"), ("Bob's", "draft one"), ("other", "draft two")]


def test_who_saves_the_draft_again_takes_the_edit_back(ledger: Ledger) -> None:
    ledger.add(generation("g", "the draft"), edit("e1", "g", "something else", at=1))
    assert ledger.add(edit("e2", "g", "the draft", at=2)).pairs() == []


@pytest.mark.parametrize("saved", ["The sea is wide", "the  sea,\nis wide!"])
def test_white_space_and_punctuation_are_no_substance(ledger: Ledger, saved: str) -> None:
    ledger.add(generation("g", saved.replace(",", " ").replace("!", ".")), edit("e", "g", saved))
    assert ledger.outcome("e") == Outcome.UNCHANGED_EDIT


def test_an_edit_under_the_set_share_makes_no_pair() -> None:
    with ledger(settings=settings_for(TaskPairingSettings(min_edit_share=0.5))) as strict:
        strict.add(generation("g", "one two three"), edit("e", "g", "one two four"))
        assert strict.pairs() == []
        assert strict.outcome("e") == Outcome.SMALL_EDIT


def test_the_share_counts_what_changed_and_not_where() -> None:
    draft = '"' + "x" * 100 + '"'
    assert lacks_substance(draft, '"a' + "x" * 98 + 'b"', 0.02) is None
    assert lacks_substance(draft, '"a' + "x" * 98 + 'b"', 0.03) is Outcome.SMALL_EDIT


def test_words_in_another_order_are_a_change() -> None:
    assert lacks_substance('"first the sea then the land"', '"first the land then the sea"', 0.1) is None


@given(st.text(), st.text())
def test_without_a_least_share_only_unchanged_edits_lack_substance(draft: str, saved: str) -> None:
    import json

    reason = lacks_substance(json.dumps(draft), json.dumps(saved), 0)
    assert reason in (None, Outcome.UNCHANGED_EDIT)
    assert draft != saved or reason is Outcome.UNCHANGED_EDIT


def test_a_full_rewrite_of_a_long_text_is_compared_quickly() -> None:
    draft = '"' + "abcdefghij" * 50_000 + '"'
    assert lacks_substance(draft, '"' + "jihgfedcba" * 50_000 + '"', 0.02) is None


def test_in_tool_calls_every_character_counts(ledger: Ledger) -> None:
    def call(arguments: str) -> dict[str, object]:
        return {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": arguments}}]}

    asked = [{"role": "user", "content": "Find it."}]
    drafted = generation("g", prompt=asked, candidates=[{"reply": call('{"n": 1}')}])
    assert ledger.add(drafted, edit("e", "g", call('{"n":1}'))).outcome("e") == Outcome.PAIRED


def test_text_saved_over_a_draft_that_is_a_message_is_kept_as_a_message(ledger: Ledger) -> None:
    asked = [{"role": "user", "content": "Describe the sea."}]
    drafted = generation("g", prompt=asked, candidates=[{"reply": {"role": "assistant", "content": "A draft."}}])
    pair = ledger.add(drafted, edit("e", "g", "Wide.")).pair()
    assert pair.chosen == '{"content":"Wide.","role":"assistant"}'
    assert ledger.add(edit("e2", "g", "A draft.", at=5)).pairs() == []
