"""The story: people use a model, the loop decides by itself to train it, and moves them to the better one."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import httpx

from deploy.demo.crowd import Crowd, crowd
from deploy.demo.judging import ask_all, report_prompts
from deploy.demo.prompts import TASK
from deploy.demo.report import Asked, Report, measured
from deploy.demo.screen import Screen
from deploy.demo.watch import Watch
from ingest.settings import Settings
from pairing.holdout import split_of
from trainer.tables import BASE, Release, Round

T = TypeVar("T")

SEED = 1
_LOOK_EVERY_S = 0.5
_ROUND_DUE_S = 600
_VERDICT_S = 1800
_SWAP_S = 120
_GREETINGS = 3
"""Replies of the new adapter that people get before the story moves on."""


class StoryStopped(Exception):
    """The story cannot go on; the message says why, and where to look."""


@dataclass(frozen=True, slots=True)
class Told:
    """How the story ended, and what base model and adapter said."""

    report: Report
    base: Sequence[Asked]
    adapter: Sequence[Asked]


@dataclass(frozen=True, slots=True)
class Scene:
    """Who and what is there while the people are."""

    settings: Settings
    screen: Screen
    watch: Watch
    people: Crowd

    def until(self, look: Callable[[], T | None], timeout_s: float, what: str) -> T:
        """Watch everything move until `look` finds something.

        Raises:
            StoryStopped: it took too long, or the people are gone.
        """
        deadline = time.monotonic() + timeout_s
        while (found := look()) is None:
            self._show()
            if not self.people.is_there:
                raise StoryStopped(f"The simulated people stopped: see {self.settings.data_dir}/logs/people.log.")
            if time.monotonic() > deadline:
                raise StoryStopped(f"No {what} after {timeout_s:.0f} s: see {self.settings.data_dir}/logs.")
            time.sleep(_LOOK_EVERY_S)
        self._show()
        return found

    def _show(self) -> None:
        tally = self.people.tally
        self.screen.count("requests", tally.requests)
        self.screen.count("feedback", tally.feedback.total())
        trigger = self.settings.tasks[TASK].trigger
        self.screen.count("training pairs", self.watch.training_pairs(), trigger.min_new_pairs)
        for source, count in self.watch.pairs().items():
            self.screen.count(f"pairs by {source}", count)
        round_ = self.watch.round()
        if round_ and (progress := self.watch.progress(round_.adapter)):
            self.screen.go_through(f"round: {progress.phase}", progress.step, progress.steps)


def tell(settings: Settings, screen: Screen) -> Told:
    """The whole story, with the service running.

    Raises:
        StoryStopped: a part of the loop did not do its part.
    """
    keys = json.loads((settings.data_dir / "keys.json").read_text())
    with closing(Watch(settings, TASK)) as watch:
        with crowd(settings, keys["app"], SEED, settings.data_dir / "logs" / "people.log") as people:
            scene = Scene(settings, screen, watch, people)
            round_ = _round_of_itself(scene)
            release = _new_adapter(scene, round_) if round_.state == "passed" else None
        _what_people_met(screen, people)
        base, adapter = _compared(settings, screen, watch, keys["admin"], round_)
        report = _report(watch, people, round_, release, base, adapter)
    return Told(report, base, adapter)


def _round_of_itself(scene: Scene) -> Round:
    """People come until the scheduler finds that a round is due, and a few go on coming until its verdict."""
    scene.screen.say("People ask, choose, regenerate and edit.")
    scene.until(scene.watch.round, _ROUND_DUE_S, "round")
    scene.people.slow_down()
    scene.screen.say("The scheduler started a round. People go on, one after the other.")
    round_ = scene.until(lambda: _ended(scene.watch.round()), _VERDICT_S, "verdict")
    if round_.state == "failed":
        raise StoryStopped(f"The round failed: {round_.error} Its folder is {scene.settings.rounds_dir / round_.adapter}.")
    scene.screen.say(f"The gate {round_.state} {round_.adapter}.")
    return round_


def _ended(round_: Round | None) -> Round | None:
    return round_ if round_ and round_.state in ("passed", "refused", "failed") else None


def _new_adapter(scene: Scene, round_: Round) -> Release:
    """Traffic moves, and people get the new adapter's replies."""
    release = scene.until(lambda: scene.watch.release(round_.adapter), _SWAP_S, "swap")
    scene.screen.say("Traffic moved to it while requests went on.")
    answered = scene.people.tally.answered_by
    scene.until(lambda: answered[round_.adapter] >= _GREETINGS or None, _SWAP_S, "reply of the new adapter")
    scene.until(lambda: scene.watch.first_reply_by(round_.adapter, release.created_at), _SWAP_S, "recorded reply of it")
    return release


def _what_people_met(screen: Screen, people: Crowd) -> None:
    tally = people.tally
    waits = tally.first_token_s or [0.0]
    screen.say(f"People waited {median(waits):.2f} s for a streamed reply's first word (median), at most {max(waits):.2f} s.")
    for failure, count in tally.failures.items():
        screen.say(f"[bold red]Failed requests:[/] {count} ({failure})")
    if tally.lost_feedback:
        screen.say(f"[bold red]Feedback that was not accepted:[/] {tally.lost_feedback}")


def _compared(settings: Settings, screen: Screen, watch: Watch, key: str, round_: Round) -> tuple[list[Asked], list[Asked]]:
    """Replies of base and adapter to the report's prompts."""
    if round_.state == "refused":
        watch.want(round_.adapter)
    _until_served(settings, key, f"{TASK}@{round_.adapter}")
    assert settings.holdout.key
    secret, share = settings.holdout.key.get_secret_value().encode(), settings.holdout.share
    prompts = report_prompts(lambda prompt: split_of(prompt, secret, share) == "holdout")
    screen.say(f"Both answer {len(prompts)} held-out prompts about subjects that nobody asked about.")
    base, adapter = (_asked(settings, screen, key, model, prompts) for model in (BASE, round_.adapter))
    return base, adapter


def _asked(settings: Settings, screen: Screen, key: str, model: str, prompts: list[str]) -> list[Asked]:
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        screen.count(f"judged: {model}", done, len(prompts))

    return asyncio.run(ask_all(settings.gateway_url, key, f"{TASK}@{model}", prompts, count))


def _until_served(settings: Settings, key: str, model: str) -> None:
    deadline = time.monotonic() + _SWAP_S
    while model not in _served(settings, key):
        if time.monotonic() > deadline:
            raise StoryStopped(f"{model} is not served: see {settings.data_dir}/logs.")
        time.sleep(_LOOK_EVERY_S)


def _served(settings: Settings, key: str) -> set[str]:
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{settings.gateway_url}/v1/models", headers=headers, timeout=30).raise_for_status()
    return {model["id"] for model in answer.json()["data"]}


def _report(
    watch: Watch, people: Crowd, round_: Round, release: Release | None, base: list[Asked], adapter: list[Asked]
) -> Report:
    unanswered = sum(not asked.replies for asked in (*base, *adapter))
    first_reply = watch.first_reply_by(round_.adapter, release.created_at) if release else None
    waited = first_reply - watch.last_event_at(round_.adapter) if first_reply else None
    swap = release.live_at - release.created_at if release and release.live_at else None
    return Report(
        base=measured(base),
        adapter=measured(adapter),
        failed_requests=people.tally.failures.total() + unanswered,
        pairs=watch.pairs(),
        swap_ms=swap.total_seconds() * 1000 if swap else None,
        feedback_to_new_adapter_s=waited.total_seconds() if waited else None,
        train_s=round_.train_s,
        adapter_name=round_.adapter,
        verdict=round_.verdict or {},
    )
