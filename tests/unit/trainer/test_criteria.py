import pytest

from ingest.settings import CriterionSettings, WrongSetting
from trainer.criteria import FreshReply, checks


def passes(text: str, prompt: str = "In at most 5 words, what is rain?", cut_off: bool = False, **criterion: object) -> bool:
    (check,) = checks([CriterionSettings.model_validate({"name": "it", **criterion})]).values()
    return check(FreshReply(prompt, text, cut_off))


STATED = {"type": "word_limit", "limit_pattern": r"at most (\d+) words"}


@pytest.mark.parametrize(("text", "kept"), [("Water from clouds that falls", True), ("Water that falls out of clouds", False)])
def test_a_reply_keeps_the_limit_that_its_prompt_states(text: str, kept: bool) -> None:
    assert passes(text, **STATED) is kept


def test_the_limit_that_a_conversation_states_last_counts() -> None:
    assert passes("one two three", prompt="At most 2 words.\nNow at most 3 words, please.", **STATED)


def test_a_reply_cut_off_by_the_token_limit_is_over_any_word_limit() -> None:
    assert not passes("Water", cut_off=True, **STATED)


def test_a_prompt_without_a_stated_limit_falls_back_to_the_fixed_one() -> None:
    assert passes("a b c d", prompt="What is rain?", **STATED)
    assert not passes("a b c d", prompt="What is rain?", **STATED, max_words=3)


def test_an_empty_reply_passes_no_criterion() -> None:
    assert not passes(" \n", **STATED)
    assert not passes("", type="regex", pattern=".*")
    assert not passes("", type="python", function="operator:contains")


def test_a_reply_matches_a_pattern_somewhere() -> None:
    assert passes("it is **rain** that falls", type="regex", pattern=r"\*\*\w+\*\*")
    assert not passes("it is rain", type="regex", pattern=r"\*\*\w+\*\*")


def test_a_function_of_ones_own_is_asked_with_prompt_and_reply() -> None:
    assert passes("rain", prompt="What is rain?", type="python", function="operator:contains")
    assert not passes("snow", prompt="What is rain?", type="python", function="operator:contains")


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        ({"type": "word_limit"}, "needs max_words or limit_pattern"),
        ({"type": "word_limit", "limit_pattern": "at most"}, "needs one group"),
        ({"type": "regex"}, "needs pattern"),
        ({"type": "regex", "pattern": "("}, "is no regular expression"),
        ({"type": "python", "function": "no.such:thing"}, "must be MODULE:FUNCTION"),
        ({"type": "python", "function": "operator"}, "must be MODULE:FUNCTION"),
    ],
)
def test_a_criterion_that_cannot_be_checked_is_named_before_any_round(criterion: dict[str, str], said: str) -> None:
    with pytest.raises(WrongSetting, match=f"Criterion it.*{said}"):
        passes("text", **criterion)
