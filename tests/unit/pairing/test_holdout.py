import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.events import Message, TextPart
from ingest.settings import HoldoutSettings, WrongSetting
from pairing.holdout import HoldoutChanged, keep_holdout, split_of
from tests.services.feedback import preference
from tests.services.ledger import Ledger, settings_for

KEY = b"a key"


def asked(text: str) -> Message:
    return Message(role="user", content=text)


def test_about_the_set_share_is_held_out() -> None:
    held = sum(split_of(f"Describe {'x' * n}.", KEY, 0.15) == "holdout" for n in range(2_000))
    assert 220 < held < 380


@given(st.text(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_variants_that_differ_in_numbers_are_on_one_side(text: str, one: int, other: int) -> None:
    assert split_of(f"{text} in {one} words", KEY, 0.5) == split_of(f"{text} in {other} words", KEY, 0.5)


@given(st.text(alphabet="abc XYZ ﬁ Å\n\t", min_size=1))
def test_case_spaces_and_ways_to_write_a_letter_change_no_side(text: str) -> None:
    assert split_of(text, KEY, 0.5) == split_of(f"  {text.upper()} ".replace(" ", "  "), KEY, 0.5)


@given(st.text(), st.text(), st.text())
def test_all_turns_of_a_conversation_are_on_one_side(opening: str, reply: str, more: str) -> None:
    first = (Message(role="system", content=more), asked(opening))
    later = (*first, Message(role="assistant", content=reply), asked(more))
    in_parts = (Message(role="user", content=(TextPart(type="text", text=opening),)),)
    sides = {split_of(prompt, KEY, 0.5) for prompt in (first, later, in_parts, opening)}
    assert len(sides) == 1


def test_a_prompt_in_a_pair_is_on_the_side_that_the_key_says(ledger: Ledger) -> None:
    prompts = [f"Describe {'x' * n}." for n in range(30)]
    ledger.add(*(preference(f"p{n}", "good", "bad", prompt=prompt) for n, prompt in enumerate(prompts)))
    sides = {pair.prompt: pair.split for pair in ledger.rows()}
    assert sides == {f'"{prompt}"': split_of(prompt, KEY, 0.15) for prompt in prompts}
    assert set(sides.values()) == {"train", "holdout"}


def test_another_key_or_share_stops_the_start(ledger: Ledger) -> None:
    ledger.add()
    with pytest.raises(HoldoutChanged, match=r"holdout\.key"), ledger.database.begin() as session:
        keep_holdout(session, settings_for(key="another").holdout)
    with pytest.raises(HoldoutChanged, match=r"holdout\.share"), ledger.database.begin() as session:
        keep_holdout(session, ledger.settings.holdout.model_copy(update={"share": 0.2}))


def test_a_missing_key_says_how_to_make_one(ledger: Ledger) -> None:
    with pytest.raises(WrongSetting, match="make setup"), ledger.database.begin() as session:
        keep_holdout(session, HoldoutSettings(key=None))
