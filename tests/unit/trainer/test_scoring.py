"""Which prompts are scored, what is sent about their replies, and what stands in the way."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from ingest.events import canonical
from ingest.settings import (
    CriterionSettings,
    GatewaySettings,
    IngestSettings,
    Settings,
    TaskPairingSettings,
    TaskSettings,
    TrainerSettings,
    WrongSetting,
)
from pairing.rules.in_force import rules_of
from tests.services.feedback import TASK, choice, generation, held, ref
from tests.services.ledger import Ledger, ledger
from trainer.criteria import FreshReply
from trainer.errors import CannotScore
from trainer.scoring import Sampled, Tally, score_events
from trainer.scoring_doors import Sampler, Sampling
from trainer.scoring_prompts import prompts_to_score, recent_prompts
from trainer.scoring_run import key_of

LIMIT = CriterionSettings(name="limit", type="word_limit", max_words=5)
SAMPLED = Sampled("g", datetime(2026, 1, 2, tzinfo=UTC), (FreshReply("p", "one", False), FreshReply("p", "two", False)))


@pytest.fixture
def filled() -> Iterator[Ledger]:
    with ledger() as empty:
        yield empty


def settings(**tasks: TaskSettings) -> Settings:
    """Settings without a file; nothing listens where they point to."""
    return Settings.model_construct(
        tasks=tasks,
        gateway=GatewaySettings(url="http://127.0.0.1:1"),
        ingest=IngestSettings(url="http://127.0.0.1:1"),
        trainer=TrainerSettings(),
    )


def prompts(ledger: Ledger, most: int = 10) -> list[tuple[Any, str | None]]:
    with ledger.database.read() as session:
        return [(one.prompt, one.user) for one in recent_prompts(session, TASK, most)]


def test_each_prompt_that_people_asked_comes_once_the_last_asked_first_with_whoever_asked_it_last(filled: Ledger) -> None:
    filled.add(
        generation("g1", "a", prompt="rain", at=1, user="ann"),
        generation("g2", "a", prompt="snow", at=2, user="ann"),
        generation("g3", "a", prompt="rain", at=3, user="bob"),
        generation("g4", "a", prompt="hail", at=4, user=None),
    )
    assert prompts(filled) == [("hail", None), ("rain", "bob"), ("snow", "ann")]
    assert prompts(filled, most=1) == [("hail", None)]


def test_what_a_gate_asked_is_no_prompt_of_people_and_what_an_app_carried_is_one(filled: Ledger) -> None:
    filled.add(
        generation("g1", "a", prompt="judged by", purpose="evaluation"),
        choice("c", ref("g2"), ref("g2"), ref("g2", 1), generation=held("g2", "a", "b", prompt="carried"), user="ann"),
    )
    assert prompts(filled) == [("carried", "ann")]


def test_scores_made_twice_are_the_same_events() -> None:
    first, second = (score_events(TASK, SAMPLED, {"limit": [1.0, 0.0], "kinder": [0.5, 0.5]}) for _ in range(2))
    assert list(map(canonical, first)) == list(map(canonical, second))
    assert len({event.event_id for event in first}) == 4
    assert {(event.criterion, event.reply.candidate, event.value) for event in first} >= {("limit", 0, 1.0), ("kinder", 1, 0.5)}


def tallied(*scores: dict[str, list[float]], **pairing: Any) -> Tally:
    """What a run tells of generations with these scores."""
    kinder = {"type": "judge", "min_margin": 0.5}
    criteria = (LIMIT, CriterionSettings.model_validate({"name": "kinder", **kinder}))
    rules, tally = rules_of(TaskSettings(criteria=criteria, pairing=TaskPairingSettings(**pairing))), Tally()
    for of_one in scores:
        tally.add(rules, 2, of_one)
    return tally


def test_the_summary_says_how_the_criteria_scored_and_in_which_generations_they_tell_replies_apart() -> None:
    tally = tallied({"limit": [1.0, 0.0], "kinder": [1.0, 0.0]}, {"limit": [1.0, 1.0], "kinder": [0.7, 0.3]})
    assert (tally.prompts, tally.candidates, tally.with_margin) == (2, 4, 1)
    assert (tally.criteria["limit"].mean, tally.criteria["limit"].with_margin) == (0.75, 1)
    assert (tally.criteria["kinder"].mean, tally.criteria["kinder"].with_margin) == (0.5, 1)


@pytest.mark.parametrize(("rule", "apart"), [("weighted", 0), ("lexicographic", 1)])
def test_the_summary_counts_as_the_tasks_rules_decide(rule: str, apart: int) -> None:
    tally = tallied({"limit": [1.0, 0.0], "kinder": [0.0, 1.0]}, criteria=rule)
    assert (tally.with_margin, tally.criteria["limit"].with_margin, tally.criteria["kinder"].with_margin) == (apart, 1, 1)


def test_what_is_missing_before_a_run_is_said_with_the_next_step(filled: Ledger) -> None:
    database, whole = filled.database, settings(rain=TaskSettings(), snow=TaskSettings(criteria=(LIMIT,)))
    with pytest.raises(CannotScore, match="There is no task hail: the settings name rain, snow"):
        prompts_to_score(database, whole, "hail", 1)
    with pytest.raises(CannotScore, match=r"\[\[tasks\.rain\.criteria\]\]"):
        prompts_to_score(database, whole, "rain", 1)
    with pytest.raises(CannotScore, match="Nobody has asked snow anything yet"):
        prompts_to_score(database, whole, "snow", 1)
    lacking = TaskSettings(criteria=(CriterionSettings(name="limit", type="word_limit"),))
    with pytest.raises(WrongSetting, match="needs max_words or limit_pattern"):
        prompts_to_score(database, settings(snow=lacking), "snow", 1)


def test_the_key_of_the_environment_goes_before_the_one_that_the_set_up_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHETSTONE_KEY", raising=False)
    with pytest.raises(CannotScore, match="make setup"):
        key_of(settings())
    made = Settings.model_construct(trainer=TrainerSettings(criteria_key=SecretStr("made")))
    assert key_of(made) == "made"
    monkeypatch.setenv("WHETSTONE_KEY", "given")
    assert key_of(made) == "given"


def test_a_gateway_that_is_not_there_is_named_at_once() -> None:
    async def check() -> None:
        sampler = Sampler(settings(), TASK, "wsk_key", Sampling(2, 0.7, 16))
        try:
            await sampler.check()
        finally:
            await sampler.close()

    with pytest.raises(CannotScore, match=r"The gateway at http://127\.0\.0\.1:1 does not answer"):
        asyncio.run(check())
