"""The prompts of traffic and report."""

import random

from deploy.demo.criteria import word_limit
from deploy.demo.judging import report_prompts
from deploy.demo.prompts import LIMITS, any_prompt, phrasings
from deploy.demo.subjects import REPORT, TRAFFIC


def test_no_subject_of_the_report_is_ever_sent_as_traffic() -> None:
    assert not {subject.name for subject in TRAFFIC} & {subject.name for subject in REPORT}
    assert len(REPORT) == 64


def test_every_wording_states_its_limit_and_its_subject() -> None:
    for subject in (TRAFFIC[0], REPORT[-1]):
        for prompt in phrasings(subject, 17):
            assert word_limit(prompt) == 17
            assert subject.name in prompt


def test_wordings_differ() -> None:
    prompts = list(phrasings(TRAFFIC[0], 12))
    assert len(set(prompts)) == len(prompts) == 80


def test_limits_differ_from_prompt_to_prompt() -> None:
    chance = random.Random(0)
    limits = {word_limit(any_prompt(TRAFFIC[0], chance)) for _ in range(500)}
    assert limits == set(LIMITS)


def test_the_report_asks_only_prompts_that_are_held_out() -> None:
    held_out = {prompt for subject in REPORT for prompt in list(phrasings(subject, 8))[40:]}
    without_numbers = {prompt.replace(" 8 ", " N ") for prompt in held_out}
    prompts = report_prompts(lambda prompt: prompt.replace(f" {word_limit(prompt)} ", " N ") in without_numbers)
    assert len(prompts) == len(REPORT)
    assert all(prompt.replace(f" {word_limit(prompt)} ", " N ") in without_numbers for prompt in prompts)
    assert len({word_limit(prompt) for prompt in prompts}) == len(LIMITS)


def test_a_subject_of_which_no_wording_is_held_out_is_not_asked_about() -> None:
    assert report_prompts(lambda prompt: "dogs" not in prompt)[0] == next(phrasings(REPORT[1], 13))
