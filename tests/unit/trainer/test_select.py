from hypothesis import given
from hypothesis import strategies as st

from deploy.demo.prompts import phrasings
from deploy.demo.subjects import TRAFFIC
from ingest.events import Message, TextPart
from ingest.settings import TrainingSettings
from tests.services.rounds import pair
from trainer.manifest import FrozenPrompt
from trainer.repeats import near_repeats
from trainer.select import apart_from, for_judging, prompt_key, select_pairs, to_answer


def settings(max_pairs: int = 100, replay_share: float = 0.25) -> TrainingSettings:
    return TrainingSettings(max_pairs=max_pairs, replay_share=replay_share)


def test_earlier_pairs_make_up_the_replay_share() -> None:
    new, earlier = [pair(n) for n in range(30)], [pair(n) for n in range(100, 200)]
    assert select_pairs(new, earlier, settings()) == [*new, *earlier[:10]]


def test_the_first_round_has_no_replay() -> None:
    new = [pair(n) for n in range(30)]
    assert select_pairs(new, [], settings()) == new


def test_a_full_round_takes_the_newest_pairs_and_keeps_its_replay() -> None:
    new, earlier = [pair(n) for n in range(300)], [pair(n) for n in range(1000, 1100)]
    assert select_pairs(new, earlier, settings(max_pairs=40)) == [*new[:30], *earlier[:10]]


def test_room_that_replay_does_not_fill_goes_to_new_pairs() -> None:
    new, earlier = [pair(n) for n in range(300)], [pair(1000)]
    assert select_pairs(new, earlier, settings(max_pairs=40)) == [*new[:39], *earlier]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 50), st.floats(0, 0.9))
def test_a_round_never_has_more_pairs_than_it_may(new: int, earlier: int, most: int, share: float) -> None:
    chosen = select_pairs([pair(n) for n in range(new)], [pair(n) for n in range(100, 100 + earlier)], settings(most, share))
    assert len(chosen) <= most
    assert len({one.id for one in chosen}) == len(chosen)
    assert len(chosen) >= min(new, most)


def test_a_prompt_that_differs_from_a_held_out_one_by_number_case_or_comma_is_left_out() -> None:
    held_out = ["In at most 9 words, describe the salt mines of Austria."]
    same = "in at most 23 words describe the salt mines of austria"
    other = "In at most 9 words, describe the lagoon of Venice."
    assert near_repeats([same, other], of=[*held_out, "Describe the tower of Pisa in at most 8 words."]) == {same}


def test_a_prompt_that_adds_a_word_of_politeness_is_left_out() -> None:
    prompts = [wording for subject in TRAFFIC[:40] for wording in phrasings(subject, 12)]
    repeated = "Please describe rivers in at most 12 words."
    assert near_repeats([repeated], of=["Describe rivers in at most 12 words.", *prompts]) == {repeated}


def test_prompts_of_one_long_template_about_different_things_do_not_repeat_each_other() -> None:
    template = "You are a careful assistant. Read the note and answer in one sentence, without a list. Note: {} was late today."
    held_out = [template.format(name) for name in ("Anna", "Bram", "Chloe", "Dirk")]
    assert near_repeats([template.format(name) for name in ("Emil", "Fay")], of=held_out) == set()


def test_the_same_subject_in_other_words_is_no_repetition() -> None:
    asked = [wording for subject in TRAFFIC[:40] for wording in phrasings(subject, 12)]
    assert "Teach me about rivers. Use at most 12 words." not in near_repeats(
        ["Teach me about rivers. Use at most 12 words."], of=[prompt for prompt in asked if "Teach me" not in prompt]
    )


def test_many_prompts_are_compared_in_a_moment() -> None:
    wordings = [wording for subject in TRAFFIC for wording in phrasings(subject, 12)]
    assert near_repeats(wordings[:4000], of=wordings[4000:8000]) is not None


def test_pairs_apart_from_held_out_prompts_stay() -> None:
    kept, left = pair(1, prompt="What is amber?"), pair(2, prompt="What is  GLASS")
    assert apart_from(["what is glass?"], [kept, left]) == [kept]


def test_a_prompt_as_text_as_message_and_as_parts_is_one_prompt() -> None:
    message = (Message(role="user", content="What is amber?"),)
    parts = (Message(role="user", content=(TextPart(type="text", text="What is amber?"),)),)
    for asked in (message, parts):
        assert apart_from([asked], [pair(1, prompt="What is amber?")]) == []


def test_judging_takes_so_many_held_out_prompts_and_pairs_at_most() -> None:
    held_out = [pair(n, prompt=f"prompt {'abcdefgh'[n % 8]}") for n in range(32)]
    chosen = for_judging(held_out, most_prompts=3, most_pairs=10)
    assert len({prompt_key(one) for one in chosen}) == 3
    assert len(chosen) == 10


def test_held_out_prompts_that_people_asked_are_answered_afresh_whether_or_not_a_pair_came_of_them() -> None:
    of_pair = pair(1, prompt="One")
    others = [FrozenPrompt(prompt=text) for text in ("Two", "One", "Three", "Four")]
    assert [one.prompt for one in to_answer([of_pair], others, most=3)] == ["One", "Two", "Three"]
