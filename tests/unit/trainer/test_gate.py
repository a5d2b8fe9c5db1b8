import json
import math
import random
from statistics import fmean

import pytest

from ingest.settings import CriterionSettings, GateSettings
from trainer.chance import chance_of_no_gain, least_values
from trainer.criteria import FreshReply, checks
from trainer.errors import CannotTrain
from trainer.gate import Evidence, Verdict, judge

LIMIT = CriterionSettings(name="word-limit", type="word_limit", max_words=10, max_drop=0.05)
TOPIC = CriterionSettings(name="topic", type="regex", pattern="river", max_drop=0.05)
RULE = GateSettings(min_gain=0.02, confidence=0.95)
GOOD, LONG, OFF = "a river carries water to the sea", "a river " + "flows on " * 10, "one two three four five six"


def replies(*kinds: str, prompts: int = 12, cut_off: bool = False) -> list[list[FreshReply]]:
    return [[FreshReply("about rivers", text, cut_off) for text in kinds] for _ in range(prompts)]


def verdict(
    candidate: list[list[FreshReply]],
    live: list[list[FreshReply]],
    gains: list[list[float]] | None = None,
    rule: GateSettings = RULE,
    training_margin: float = 2.0,
    criteria: tuple[CriterionSettings, ...] = (LIMIT, TOPIC),
) -> Verdict:
    return judge(Evidence(candidate, live, gains or [], training_margin), checks(criteria), criteria, rule)


def refusal(*arguments: object, **more: object) -> str:
    judged = verdict(*arguments, **more)  # type: ignore[arg-type]
    assert not judged.passed
    return " ".join(judged.reasons)


def test_a_candidate_that_keeps_its_limit_more_often_and_loses_nothing_passes() -> None:
    judged = verdict(replies(GOOD, GOOD, GOOD, LONG), replies(GOOD, LONG, LONG, LONG))
    assert judged.passed
    assert "word-limit rose from 25.0% to 75.0%" in judged.reasons[0]


def test_a_candidate_that_says_nothing_is_refused_though_nothing_is_over_the_limit() -> None:
    said = refusal(replies("", "", GOOD, GOOD), replies(GOOD, LONG, LONG, LONG))
    assert "Empty replies rose by 50.0%" in said
    assert "max_empty_rise 3.0%" in said


def test_a_candidate_whose_replies_collapse_in_length_is_refused() -> None:
    said = refusal(replies("river", "a river"), replies(LONG, LONG), criteria=(LIMIT,))
    assert "from 10.0 to 1.5 words (within limits), below min_length_ratio 0.4" in said


def test_a_criterion_that_falls_by_more_than_it_may_refuses_whatever_else_rose() -> None:
    said = refusal(replies(GOOD, GOOD, GOOD, OFF), replies(LONG, LONG, LONG, LONG))
    assert "topic fell from 100.0% to 75.0%, more than max_drop 5.0%" in said


def test_a_small_fall_of_one_criterion_does_not_stop_the_rise_of_another() -> None:
    live = replies(*[LONG] * 50)
    assert verdict(replies(*[GOOD] * 48, OFF, OFF), live).passed


def test_replies_cut_off_by_the_token_limit_are_over_it() -> None:
    assert "Nothing is better" in refusal(replies(GOOD, cut_off=True), replies(LONG))


def test_what_may_be_chance_is_refused() -> None:
    candidate, live = replies(GOOD, prompts=8), replies(GOOD, prompts=8)
    candidate[0], live[0] = replies(GOOD, prompts=1)[0], replies(LONG, prompts=1)[0]
    said = refusal(candidate, live)
    assert "Nothing is better by enough and beyond chance" in said
    assert "word-limit rose from 87.5% to 100.0% (chance 0.5)" in said


def test_a_gain_that_is_certain_but_tiny_is_refused() -> None:
    rule = RULE.model_copy(update={"min_gain": 0.6})
    assert "min_gain 60.0%" in refusal(replies(GOOD, LONG), replies(LONG, LONG), rule=rule)


def test_too_few_held_out_prompts_are_refused_as_such() -> None:
    assert "Too little to judge by: 4 held-out prompts" in refusal(replies(GOOD, prompts=4), replies(LONG, prompts=4))
    assert "Too little to judge by" in refusal([], [])


def test_held_out_pairs_that_come_out_right_more_often_are_enough_where_nothing_fell() -> None:
    judged = verdict(replies(GOOD), replies(GOOD), gains=[[0.5, 1.0]] * 20 + [[-0.5]] * 2)
    assert judged.passed
    assert "95.2% of held-out pairs" in judged.reasons[0]


def test_a_task_without_criteria_is_judged_by_its_held_out_pairs() -> None:
    assert verdict(replies(GOOD), replies(GOOD), gains=[[1.0]] * 15, criteria=()).passed
    assert "Nothing is better" in refusal(replies(GOOD), replies(GOOD), gains=[[1.0], [-1.0]] * 15, criteria=())


def test_many_pairs_of_one_prompt_count_as_one() -> None:
    assert "Too little" in refusal(replies(GOOD), replies(GOOD), gains=[[1.0] * 500], criteria=())


def test_a_candidate_that_learnt_nothing_is_refused() -> None:
    said = refusal(replies(GOOD, LONG), replies(GOOD, LONG), gains=[[0.0, 0.0]] * 30)
    assert "0.0% of held-out pairs" in said


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_probabilities_that_are_no_numbers_are_refused_and_can_still_be_recorded(bad: float) -> None:
    for judged in (
        verdict(replies(GOOD), replies(LONG), gains=[[1.0, bad]] * 10),
        verdict(replies(GOOD), replies(LONG), training_margin=bad),
    ):
        assert "not numbers" in judged.reasons[0]
        assert json.loads(json.dumps(judged.as_json(), allow_nan=False))["passed"] is False


@pytest.mark.parametrize(("gain", "training", "where"), [(31.0, 2.0, "held-out"), (1.0, 55.0, "training")])
def test_margins_that_run_away_are_refused(gain: float, training: float, where: str) -> None:
    said = refusal(replies(GOOD), replies(LONG), gains=[[gain]] * 10, training_margin=training)
    assert f"The mean margin of {where} pairs ran to" in said
    assert "past max_margin 30" in said


def test_the_same_evidence_gives_the_same_verdict() -> None:
    candidate, live = replies(GOOD, LONG, prompts=40), replies(LONG, LONG, prompts=40)
    assert verdict(candidate, live) == verdict(candidate, live)


def test_chance_is_exact_for_few_values_and_close_to_it_for_many() -> None:
    assert chance_of_no_gain([1.0] * 5) == 1 / 32
    assert chance_of_no_gain([1.0, -1.0]) == 0.75
    assert chance_of_no_gain([0.0] * 5) == 1
    assert chance_of_no_gain([]) == 1
    assert chance_of_no_gain([0.4, 0.3, -0.1] * 10) < 0.001
    assert least_values(0.05) == 5


def test_candidates_that_are_no_better_pass_as_rarely_as_the_confidence_says() -> None:
    """A hundred candidates as good as live, ten prompts of four replies each."""
    draw = random.Random(3)

    def by_chance() -> list[list[FreshReply]]:
        return [[FreshReply("p", GOOD if draw.random() < 0.5 else LONG, False) for _ in range(4)] for _ in range(10)]

    passed = [verdict(by_chance(), by_chance(), criteria=(LIMIT,)).passed for _ in range(100)]
    assert fmean(passed) <= 0.1


def test_a_judge_among_the_criteria_neither_helps_nor_hinders_a_candidate() -> None:
    fields = {"judge_url": "http://127.0.0.1:1/v1", "judge_model": "j", "instruction": "The kinder one is better."}
    criteria = (LIMIT, TOPIC, CriterionSettings.model_validate({"name": "kinder", "type": "judge", **fields}))
    judged = verdict(replies(GOOD, GOOD, GOOD, LONG), replies(GOOD, LONG, LONG, LONG), criteria=criteria)
    assert judged.passed
    assert judged.figures.criteria.keys() == {"word-limit", "topic"}


def test_a_criterion_whose_function_fails_ends_the_round_with_its_name_and_no_second_attempt() -> None:
    broken = CriterionSettings(name="broken", type="python", function="operator:truediv")
    with pytest.raises(CannotTrain, match=r"Criterion broken: its function raised TypeError"):
        verdict(replies(GOOD), replies(LONG), criteria=(broken,))
