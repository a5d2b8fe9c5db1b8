"""A run of a task's criteria: fresh candidates for recent prompts, their scores, and the events that say them."""

import asyncio
import os
from collections.abc import Callable, Sequence

from ingest.settings import Settings
from pairing.rules.in_force import rules_of
from trainer.criteria import FreshReply, Scorer, scorers
from trainer.errors import CannotScore, CriterionFailed
from trainer.judge import Judge
from trainer.scoring import RecentPrompt, Sampled, Tally, score_events
from trainer.scoring_doors import Sampler, Sampling, Sender


def key_of(settings: Settings) -> str:
    """The API key that scores are sampled and sent with.

    Raises:
        CannotScore: there is none.
    """
    if key := os.environ.get("WHETSTONE_KEY"):
        return key
    if settings.trainer.criteria_key is None:
        raise CannotScore("trainer.criteria_key is not set: `make setup` makes it. Or give a key in WHETSTONE_KEY.")
    return settings.trainer.criteria_key.get_secret_value()


class CriteriaRun:
    """One run. A generation's scores are sent together once all are there: none is ever half scored."""

    def __init__(self, settings: Settings, task: str, sampling: Sampling, tally: Tally) -> None:
        """Raises as `key_of` does; WrongSetting: a criterion cannot be used."""
        self._task = task
        criteria = settings.tasks[task].criteria
        self._rules = rules_of(settings.tasks[task])
        self._scorers = scorers(criteria)
        self._judges = {one.name: Judge(one) for one in criteria if one.type == "judge"}
        self._sampler = Sampler(settings, task, key_of(settings), sampling)
        self._sender = Sender(settings, key_of(settings))
        self._tally = tally

    async def run(self, prompts: Sequence[RecentPrompt], on_prompt: Callable[[], None]) -> None:
        """Score all the prompts; the tally goes along.

        Raises:
            CannotScore: the gateway, the feedback API or a judge stays away, or refuses.
        """
        try:
            await self._sampler.check()
            await asyncio.gather(*(self._one(prompt, on_prompt) for prompt in prompts))
        finally:
            closing = [self._sampler.close(), self._sender.close(), *(judge.close() for judge in self._judges.values())]
            await asyncio.gather(*closing)

    async def _one(self, prompt: RecentPrompt, on_prompt: Callable[[], None]) -> None:
        sampled = await self._sampler.sample(prompt)
        if sampled is None:
            self._tally.refused += 1
        else:
            await self._score(sampled)
        on_prompt()

    async def _score(self, sampled: Sampled) -> None:
        scores = self._checked(sampled.replies)
        for name, judge in self._judges.items():
            scores[name] = await judge.scores(sampled.replies)
        if scores:
            await self._sender.send(score_events(self._task, sampled, scores))
            self._tally.add(self._rules, len(sampled.replies), scores)
        self._tally.unreadable_answers = {name: judge.unreadable for name, judge in self._judges.items()}

    def _checked(self, replies: Sequence[FreshReply]) -> dict[str, list[float]]:
        """Of each criterion but judges. One that has no answer about some candidate says nothing about the generation."""
        found = {name: self._answers(name, scorer, replies) for name, scorer in self._scorers.items()}
        return {name: scores for name, scores in found.items() if scores is not None}

    def _answers(self, name: str, scorer: Scorer, replies: Sequence[FreshReply]) -> list[float] | None:
        try:
            return [scorer(reply) for reply in replies]
        except CriterionFailed as error:
            self._tally.add_failure(name, str(error))
            return None
