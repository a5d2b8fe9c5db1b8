import pytest

from ingest.settings import CriterionSettings, WrongSetting
from trainer.criteria import FreshReply, checks, scorers
from trainer.errors import CriterionFailed


def passes(text: str, prompt: str = "In at most 5 words, what is rain?", cut_off: bool = False, **criterion: object) -> bool:
    (check,) = checks([CriterionSettings.model_validate({"name": "it", **criterion})]).values()
    return check(FreshReply(prompt, text, cut_off))


def score(text: str, **criterion: object) -> float:
    (scorer,) = scorers([CriterionSettings.model_validate({"name": "it", **criterion})]).values()
    return scorer(FreshReply("What is rain?", text, False))


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


PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"age": 7}', True),
        ('{"age": "7"}', False),
        ('{"age": 7, "name": "Ann"}', False),
        ('Here it is: {"age": 7}', False),
        ('{"age": 7', False),
        ('{"age": NaN}', False),
        ("[" * 100_000, False),
    ],
)
def test_a_reply_that_is_nothing_but_json_by_the_schema_keeps_it(text: str, kept: bool) -> None:
    assert passes(text, type="json_schema", json_schema=PERSON) is kept


def test_a_schema_fetches_nothing() -> None:
    with pytest.raises(CriterionFailed, match="Criterion it: its json_schema refers to something outside itself"):
        passes("{}", type="json_schema", json_schema={"$ref": "http://127.0.0.1:1/schema.json"})


def test_a_check_scores_one_or_zero_and_a_function_may_say_a_number() -> None:
    assert score("it is **rain**", type="regex", pattern=r"\*\*\w+\*\*") == 1.0
    assert score("it is rain", type="regex", pattern=r"\*\*\w+\*\*") == 0.0
    assert score("0.25", type="python", function=f"{__name__}:value_of") == 0.25
    assert score(" ", type="python", function=f"{__name__}:value_of") == 0.0


@pytest.mark.parametrize(("said", "passed"), [("0.49", False), ("0.5", True), ("1", True), ("True", True), ("False", False)])
def test_the_gate_takes_half_a_score_and_more_as_passed(said: str, passed: bool) -> None:
    assert passes(said, type="python", function=f"{__name__}:value_of") is passed


@pytest.mark.parametrize("said", ["None", "'1'", "1e999", "1e999 - 1e999", "1.5", "-0.1", "[1]"])
def test_a_function_that_returns_no_number_from_0_to_1_is_named(said: str) -> None:
    with pytest.raises(CriterionFailed, match=r"Criterion it: its function returned .*, not True, False or a number"):
        score(said, type="python", function=f"{__name__}:value_of")


def test_a_function_that_raises_is_named_with_the_place_and_without_what_a_person_wrote() -> None:
    with pytest.raises(
        CriterionFailed, match=r"Criterion it: its function raised KeyError at .*test_criteria\.py:\d+\."
    ) as raised:
        score("a secret", type="python", function=f"{__name__}:raises")
    assert "secret" not in str(raised.value)


def test_a_pattern_that_never_comes_to_an_end_matches_nothing() -> None:
    assert not passes("a" * 60 + "b", type="regex", pattern="^(a|aa)+$")


def test_the_gate_leaves_judges_out() -> None:
    judging = {"type": "judge", "judge_url": "http://127.0.0.1:1/v1", "judge_model": "j", "instruction": "The kinder is better."}
    assert checks([CriterionSettings.model_validate({"name": "it", **judging})]) == {}


def value_of(_prompt: str, reply: str) -> object:
    return eval(reply)


def raises(_prompt: str, reply: str) -> bool:
    return {}[reply]


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        ({"type": "word_limit"}, "needs max_words or limit_pattern"),
        ({"type": "word_limit", "limit_pattern": "at most"}, "needs one group"),
        ({"type": "regex"}, "needs pattern"),
        ({"type": "regex", "pattern": "("}, "is no regular expression"),
        ({"type": "json_schema"}, "needs json_schema"),
        ({"type": "json_schema", "json_schema": {"type": "person"}}, "is no JSON schema"),
        ({"type": "judge", "judge_model": "j"}, "needs judge_url, judge_model and instruction"),
        ({"type": "python", "function": "no.such:thing"}, "must be MODULE:FUNCTION"),
        ({"type": "python", "function": "operator"}, "must be MODULE:FUNCTION"),
    ],
)
def test_a_criterion_that_cannot_be_checked_is_named_before_any_round(criterion: dict[str, object], said: str) -> None:
    with pytest.raises(WrongSetting, match=f"Criterion it.*{said}"):
        passes("text", **criterion)
