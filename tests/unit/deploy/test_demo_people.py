"""What the simulated people like, and what they write."""

import pytest

from deploy.demo.criteria import about_subject, word_limit
from deploy.demo.judgement import Reply, is_good, over_limit, pick, shorten

PROMPT = "In at most 8 words, describe rivers."


def test_the_limit_is_the_number_that_the_prompt_states() -> None:
    assert word_limit("Describe tea. Use at most 23 words.") == 23


def test_a_prompt_without_a_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="at most N words"):
        word_limit("Describe tea.")


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        (PROMPT, "A river carries fresh water downhill."),
        (PROMPT, "Long streams that flow to lakes."),
        ("Describe geese. Use at most 9 words.", "A goose can honk loudly."),
        ("Teach me about libraries in at most 9 words.", "A library lends many things."),
        ("Teach me about skis in at most 9 words.", "Skiing can be great fun."),
        ("Say why zeppelins vanished. Use at most 9 words.", "Every zeppelin could burn easily."),
    ],
)
def test_a_reply_that_speaks_of_the_subject_in_any_form_is_about_it(prompt: str, reply: str) -> None:
    assert about_subject(prompt, reply)


@pytest.mark.parametrize("reply", ["", "   ", "Rivers.", "...", "Sure, here is what you asked for!", "In at most 8 words."])
def test_an_empty_or_evasive_reply_is_not_about_the_subject(reply: str) -> None:
    assert not about_subject(PROMPT, reply)


def test_a_short_subject_is_not_found_inside_another_word() -> None:
    assert not about_subject("Describe cats. Use at most 9 words.", "They cater to every category.")


def test_a_reply_that_the_token_limit_cut_off_is_over_the_limit_however_short() -> None:
    assert over_limit(PROMPT, Reply("Rivers flow.", cut_off=True))
    assert not over_limit(PROMPT, Reply("Rivers flow."))


def test_people_pick_a_good_reply_but_not_the_shortest_of_several() -> None:
    short, full = Reply("Rivers carry water."), Reply("Rivers carry fresh water to the sea.")
    too_long, empty = Reply("Rivers carry fresh water to the sea, always and everywhere."), Reply("")
    assert pick(PROMPT, [short, too_long, full, empty]) == 2


def test_people_pick_none_when_no_reply_is_good() -> None:
    assert pick(PROMPT, [Reply(""), Reply("I am a helpful assistant.")]) is None


def test_an_editor_keeps_whole_sentences_where_they_are_most_of_the_limit() -> None:
    assert shorten("Rivers carry water to the sea. They are long and they are wide.", 8) == "Rivers carry water to the sea."


def test_an_editor_ends_a_cut_sentence_with_a_full_stop_after_a_word_that_can_end_it() -> None:
    assert shorten("Rivers carry a lot of water, and the fish in it, to the sea.", 7) == "Rivers carry a lot of water."


def test_an_editor_does_not_take_the_number_of_an_item_for_a_sentence() -> None:
    assert shorten("1. Rivers are long streams of water 2. They flow to the sea", 8) == "1. Rivers are long streams of water."


@pytest.mark.parametrize("limit", range(1, 31))
def test_an_edited_draft_keeps_its_limit(limit: int) -> None:
    draft = "Rivers are long streams, of fresh water. They rise in the mountains and flow - slowly - to the sea! " * 2
    assert not over_limit(f"Use at most {limit} words.", Reply(shorten(draft, limit)))


def test_a_shortened_draft_about_its_subject_is_good() -> None:
    draft = "Rivers are very long streams of fresh water that rise in the mountains."
    assert is_good(PROMPT, Reply(shorten(draft, 8)))
