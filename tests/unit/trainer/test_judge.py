import asyncio

import pytest

from ingest.settings import CriterionSettings, WrongSetting
from tests.standins.judge import StandinJudge, judge
from trainer.criteria import FreshReply
from trainer.errors import CannotScore
from trainer.judge import Judge


def criterion(url: str, **fields: object) -> CriterionSettings:
    whole = {"name": "kind", "type": "judge", "judge_url": url, "judge_model": "j", "instruction": "The kinder one is better."}
    return CriterionSettings.model_validate(whole | fields)


def scored(at: StandinJudge, *texts: str, **fields: object) -> tuple[list[float], int]:
    """The scores of replies with these texts, and how many answers could not be read."""

    async def ask() -> tuple[list[float], int]:
        asking = Judge(criterion(at.url, **fields))
        try:
            return await asking.scores([FreshReply("Say something.", text, False) for text in texts]), asking.unreadable
        finally:
            await asking.close()

    return asyncio.run(ask())


def longer(a: str, b: str) -> str:
    return "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"


def test_a_replys_score_is_the_share_of_comparisons_that_it_wins_and_each_two_are_asked_about_in_both_orders() -> None:
    with judge(longer) as at:
        assert scored(at, "one", "three", "seventeen", "fifteen") == ([0.0, 1 / 3, 1.0, 2 / 3], 0)
    assert len(at.questions) == 4 * 3


def test_a_judge_that_prefers_what_stands_first_decides_nothing() -> None:
    with judge(lambda a, b: "A") as at:
        assert scored(at, "one", "three", "seventeen") == ([0.5, 0.5, 0.5], 0)


def test_a_tie_is_half_a_win_for_each() -> None:
    with judge(longer) as at:
        assert scored(at, "one", "two", "three") == ([0.25, 0.25, 1.0], 0)


@pytest.mark.parametrize("answer", ["Reply A is better.", "a", "", "C", "A or B"])
def test_an_answer_that_is_not_exactly_a_b_or_tie_counts_as_a_tie_and_is_counted(answer: str) -> None:
    with judge(lambda a, b: answer) as at:
        assert scored(at, "one", "three") == ([0.5, 0.5], 2)


def test_nothing_is_asked_about_equal_replies_and_an_empty_one_loses() -> None:
    with judge(longer) as at:
        assert scored(at, "same", "same", " \n") == ([0.75, 0.75, 0.0], 0)
    assert at.questions == []


def test_a_busy_judge_is_asked_again() -> None:
    with judge(longer, first=[503, 429, 503]) as at:
        assert scored(at, "one", "three") == ([0.0, 1.0], 0)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "401.*judge_key_env"), (404, "404.*judge_model"), (400, "see its log"), (200, "judge_url")]
)
def test_a_judge_that_refuses_or_is_none_ends_with_what_to_correct(status: int, advice: str) -> None:
    with judge(longer, first=[status] * 2) as at, pytest.raises(CannotScore, match=f"Criterion kind: .*{advice}"):
        scored(at, "one", "three")


def test_a_judge_that_stays_away_ends_with_a_sentence() -> None:
    with judge(longer, first=[503] * 100) as at, pytest.raises(CannotScore, match=r"answers 503\. Run the command again later"):
        scored(at, "one", "three")


def test_the_judge_sees_the_text_and_gets_the_key_of_its_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-another-host")
    monkeypatch.setenv("KIND_KEY", "secret")
    with judge(longer) as at:
        scored(at, "one", "three", judge_key_env="KIND_KEY")
        scored(at, "one", "three")
    assert at.keys == {"Bearer secret", "Bearer none"}
    assert all(said in at.questions[0] for said in ("The kinder one is better.", "Say something.", "one", "three"))


def test_a_key_that_is_not_there_is_named_before_anything_is_asked() -> None:
    with pytest.raises(WrongSetting, match="Criterion kind: the environment variable NO_SUCH_VARIABLE"):
        Judge(criterion("http://127.0.0.1:1/v1", judge_key_env="NO_SUCH_VARIABLE"))
