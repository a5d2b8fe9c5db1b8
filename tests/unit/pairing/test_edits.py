import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.events import Event
from ingest.settings import TaskPairingSettings
from pairing.outcomes import Outcome
from pairing.rules.edit import lacks_substance
from tests.services.feedback import edit, generation, regeneration
from tests.services.ledger import Ledger, ledger, settings_for
from tests.services.rules import derived, facts, said


def test_the_saved_text_is_preferred_over_the_models_draft(ledger: Ledger) -> None:
    ledger.add(generation("g", "a long draft about the sea"), edit("e", "g", "The sea."))
    assert (ledger.pairs(), ledger.pair().source) == ([("The sea.", "a long draft about the sea")], "edit")


def test_what_a_person_wrote_names_no_adapter() -> None:
    drafted = generation("g", "a draft", adapter="summarise-r000001")
    [vote] = derived(drafted, edit("e", "g", "The sea.")).votes
    assert (vote.chosen_adapter, vote.rejected_adapter) == (None, "summarise-r000001")


def test_of_several_saves_the_last_makes_the_only_pair(ledger: Ledger) -> None:
    ledger.add(generation("g", "a long draft"), edit("e2", "g", "final", at=2, edit_of="e1"), edit("e1", "g", "half way", at=1))
    assert ledger.pairs() == [("final", "a long draft")]
    assert ledger.outcome("e1") == Outcome.SUPERSEDED


def test_an_edit_of_an_edit_belongs_to_the_draft_of_the_first_whichever_reply_it_names() -> None:
    drafted = generation("g", "draft one", "draft two")
    edits = [edit("e1", "g", "half way", at=1), edit("e2", "g", "final", candidate=1, at=2, edit_of="e1")]
    found = derived(drafted, *edits)
    assert (said(found.votes), found.outcomes["e1"]) == ([("final", "draft one")], Outcome.SUPERSEDED)


def test_who_goes_on_with_another_persons_edit_is_compared_with_the_models_draft() -> None:
    edits = [edit("e1", "g", "a user's", at=1), edit("e2", "g", "an expert's", at=2, by="expert", edit_of="e1")]
    votes = derived(generation("g", "a draft"), *edits).votes
    assert said(votes) == [("a user's", "a draft"), ("an expert's", "a draft")]
    assert {vote.source for vote in votes} == {"edit", "expert"}


def test_the_last_saved_wins_though_it_goes_on_from_an_earlier_edit() -> None:
    edits = [
        edit("e1", "g", "one", at=1),
        edit("e2", "g", "two", at=2, edit_of="e1"),
        edit("e3", "g", "three", at=3, edit_of="e1"),
    ]
    assert said(derived(generation("g", "a draft"), *edits).votes) == [("three", "a draft")]


def test_an_edit_waits_for_the_one_that_it_started_from_and_so_do_those_of_it() -> None:
    drafted = generation("g", "a draft")
    edits = [edit("e2", "g", "two", at=2, edit_of="e1"), edit("e3", "g", "three", at=3, edit_of="e2")]
    found = derived(drafted, *edits)
    assert (found.votes, found.outcomes) == ([], dict.fromkeys(("e2", "e3"), Outcome.WAITING_FOR_EDIT))
    assert said(derived(drafted, *edits, edit("e1", "g", "one", at=1)).votes) == [("three", "a draft")]


def test_an_edit_of_an_edit_of_another_generation_waits_even_where_both_are_known() -> None:
    asked = [generation("g", "a draft"), generation("h", "another"), regeneration("r", "g", "h")]
    found = derived(*asked, edit("e1", "g", "one", at=1), edit("e2", "h", "two", at=2, edit_of="e1"))
    assert found.outcomes["e2"] == Outcome.WAITING_FOR_EDIT


def test_edits_of_edits_that_go_round_in_a_circle_have_their_reason() -> None:
    circle = [edit("e1", "g", "one", edit_of="e2"), edit("e2", "g", "two", edit_of="e1"), edit("e4", "g", "self", edit_of="e4")]
    found = derived(generation("g", "a draft"), *circle, edit("e3", "g", "three", edit_of="e2"))
    assert (found.votes, found.outcomes) == ([], dict.fromkeys(("e1", "e2", "e3", "e4"), Outcome.CYCLE))


EDITS = st.builds(
    lambda drawn: [
        edit(f"e{i}", id_, text, candidate, at=i % 3, user=user, edit_of=of and f"e{of}")
        for i, (id_, text, candidate, user, of) in enumerate(drawn)
    ],
    st.lists(
        st.tuples(
            st.sampled_from(["g", "g", "h"]),
            st.sampled_from(["one", "two", "a draft."]),
            st.integers(0, 1),
            st.sampled_from(["ann", "bob"]),
            st.none() | st.integers(1, 9),
        ),
        max_size=8,
    ),
)


@settings(deadline=None)
@given(st.data(), EDITS)
def test_the_order_of_edits_changes_nothing(data: st.DataObject, edits: list[Event]) -> None:
    world = (generation("g", "a draft", "another draft"), generation("h", "one", "a draft"), regeneration("r", "g", "h"))
    again = data.draw(st.permutations(edits))
    assert facts(derived(*world, *again)) == facts(derived(*world, *edits))


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


def test_small_changes_far_apart_in_a_long_text_are_small_together() -> None:
    draft = "The sea is wide and it is restless. " * 200
    assert lacks_substance(f'"{draft}"', f'"Thee{draft[3:-10]}restles. "', 0.02) is Outcome.SMALL_EDIT


@settings(deadline=None)
@given(st.text("abc ", max_size=12), st.text("abc ", max_size=12), st.sampled_from([0.1, 0.3, 0.5, 1]))
def test_an_edit_is_small_exactly_if_fewer_letters_changed_than_the_share(draft: str, saved: str, share: float) -> None:
    one, other = draft.replace(" ", ""), saved.replace(" ", "")
    longest = max(len(one), len(other))
    small = longest - most_in_common(one, other) < share * longest
    expected = Outcome.UNCHANGED_EDIT if one == other else Outcome.SMALL_EDIT if small else None
    assert lacks_substance(f'"{draft}"', f'"{saved}"', share) is expected


def most_in_common(one: str, other: str) -> int:
    """Letters that stand in both in the same order, counted the plain way."""
    if not one or not other:
        return 0
    if one[0] == other[0]:
        return 1 + most_in_common(one[1:], other[1:])
    return max(most_in_common(one[1:], other), most_in_common(one, other[1:]))


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
