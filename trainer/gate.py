"""Decides, purely, whether a candidate is better than what is live, and that nothing that mattered got worse."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, TypeVar

from ingest.settings import CriterionSettings, GateSettings
from trainer.chance import chance_of_no_gain, least_values
from trainer.criteria import Check, FreshReply, allowed_words

_T = TypeVar("_T")
Replies = Sequence[Sequence[FreshReply]]
"""By prompt, the replies to it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What candidate and live adapter did on held-out data."""

    candidate: Replies
    live: Replies
    """The same prompts in the same order."""
    margin_gains: Sequence[Sequence[float]]
    """By held-out prompt and pair, how much further the candidate prefers the chosen reply than live does, in nats."""
    training_margin: float
    """Mean over the last pass of training: how much further than the reference it prefers the chosen reply, in nats."""


@dataclass(frozen=True, slots=True)
class CriterionFigures:
    """Shares of replies that pass a criterion, each prompt counting the same."""

    candidate: float
    live: float
    gain: float
    chance: float
    """How likely such a gain is where nothing got better."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the verdict rests on."""

    prompts: int
    replies: int
    criteria: dict[str, CriterionFigures]
    mean_words: dict[str, float]
    """Words beyond a word limit are not counted."""
    empty: dict[str, float]
    holdout_prompts: int
    holdout_pairs: int
    preferred: float | None
    """Share of held-out pairs that the candidate gets more right than live."""
    preferred_chance: float | None
    """How likely such a share is where nothing got better."""
    mean_margin_gain: float | None
    training_margin: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Passed or refused, and why."""

    passed: bool
    reasons: list[str]
    figures: Figures

    def as_json(self) -> dict[str, Any]:
        """As the database keeps it."""
        return asdict(self)


def judge(evidence: Evidence, checks: Mapping[str, Check], criteria: Sequence[CriterionSettings], rule: GateSettings) -> Verdict:
    """Weigh the evidence. Not enough of it is a reason to refuse."""
    figures = _figures(evidence, checks, criteria)
    against = [*_not_numbers(evidence), *_too_little(figures, rule), *_worse(figures, criteria, rule)]
    better = _better(figures, rule)
    if against or not better:
        return Verdict(False, against or [_nothing_better(figures, rule)], figures)
    return Verdict(True, better, figures)


def _not_numbers(evidence: Evidence) -> list[str]:
    finite = all(map(math.isfinite, [evidence.training_margin, *_flat(evidence.margin_gains)]))
    return [] if finite else ["The candidate's probabilities are not numbers."]


def _too_little(figures: Figures, rule: GateSettings) -> list[str]:
    """Where even a gain on every single prompt could be chance, nothing can be judged."""
    least = least_values(_alpha(figures, rule))
    enough = max(figures.prompts if figures.criteria else 0, figures.holdout_prompts) >= least
    found = f"{figures.prompts} held-out prompts were answered, {figures.holdout_prompts} have pairs"
    return [] if enough else [f"Too little to judge by: {found}, and it takes {least} (confidence {rule.confidence})."]


def _worse(figures: Figures, criteria: Sequence[CriterionSettings], rule: GateSettings) -> list[str]:
    """What got worse by more than it may."""
    reasons = []
    for criterion in criteria:
        found = figures.criteria.get(criterion.name)
        if found and found.gain < -criterion.max_drop:
            reasons.append(f"{_moved(criterion.name, found)}, more than max_drop {criterion.max_drop:.1%}.")
    rise = figures.empty["candidate"] - figures.empty["live"]
    if rise > rule.max_empty_rise:
        reasons.append(f"Empty replies rose by {rise:.1%}, more than max_empty_rise {rule.max_empty_rise:.1%}.")
    if figures.mean_words["candidate"] < rule.min_length_ratio * figures.mean_words["live"]:
        words = f"from {figures.mean_words['live']:.1f} to {figures.mean_words['candidate']:.1f} words"
        reasons.append(f"Replies fell {words} (within limits), below min_length_ratio {rule.min_length_ratio}.")
    for where, margin in (("held-out", figures.mean_margin_gain), ("training", figures.training_margin)):
        if margin is not None and abs(margin) > rule.max_margin:
            reasons.append(f"The mean margin of {where} pairs ran to {margin:.1f} nats, past max_margin {rule.max_margin:g}.")
    return reasons


def _better(figures: Figures, rule: GateSettings) -> list[str]:
    """What got better by enough, and beyond chance."""
    alpha = _alpha(figures, rule)
    better = [
        f"{_moved(name, found)} (chance {found.chance:.2g})."
        for name, found in figures.criteria.items()
        if found.gain >= rule.min_gain and found.chance <= alpha
    ]
    if figures.preferred is not None and figures.preferred_chance is not None:
        if figures.preferred >= 0.5 + rule.min_gain and figures.preferred_chance <= alpha:
            better.append(f"{_preferred(figures)}.")
    return better


def _nothing_better(figures: Figures, rule: GateSettings) -> str:
    found = [f"{_moved(name, found)} (chance {found.chance:.2g})" for name, found in figures.criteria.items()]
    found += [_preferred(figures)] if figures.preferred is not None else []
    needed = f"min_gain {rule.min_gain:.1%}, chance at most {_alpha(figures, rule):.2g}"
    return f"Nothing is better by enough and beyond chance ({needed}): {'; '.join(found)}."


def _alpha(figures: Figures, rule: GateSettings) -> float:
    """The chance that each test may take, so that all of them together keep to the confidence (Bonferroni)."""
    tests = len(figures.criteria) + (figures.preferred is not None)
    return (1 - rule.confidence) / max(1, tests)


def _moved(name: str, found: CriterionFigures) -> str:
    return f"{name} {'rose' if found.gain > 0 else 'fell'} from {found.live:.1%} to {found.candidate:.1%}"


def _preferred(figures: Figures) -> str:
    return f"{figures.preferred:.1%} of held-out pairs are more right than before (chance {figures.preferred_chance:.2g})"


def _figures(evidence: Evidence, checks: Mapping[str, Check], criteria: Sequence[CriterionSettings]) -> Figures:
    sides = {"candidate": _flat(evidence.candidate), "live": _flat(evidence.live)}
    gains = [[gain for gain in prompt if math.isfinite(gain)] for prompt in evidence.margin_gains]
    by_prompt = [fmean(map(_sign, prompt)) for prompt in gains if prompt]
    return Figures(
        prompts=len(evidence.candidate),
        replies=len(sides["candidate"]),
        criteria={name: _criterion(evidence, check) for name, check in checks.items() if evidence.candidate},
        mean_words={side: _mean(allowed_words(criteria, reply) for reply in replies) for side, replies in sides.items()},
        empty={side: _mean(reply.is_empty for reply in replies) for side, replies in sides.items()},
        holdout_prompts=len(by_prompt),
        holdout_pairs=len(_flat(gains)),
        preferred=_mean(gain > 0 for gain in _flat(gains)) if by_prompt else None,
        preferred_chance=chance_of_no_gain(by_prompt) if by_prompt else None,
        mean_margin_gain=_mean(_flat(gains)) if by_prompt else None,
        training_margin=evidence.training_margin if math.isfinite(evidence.training_margin) else None,
    )


def _criterion(evidence: Evidence, check: Check) -> CriterionFigures:
    candidate, live = ([_mean(map(check, replies)) for replies in side] for side in (evidence.candidate, evidence.live))
    gains = [after - before for after, before in zip(candidate, live, strict=True)]
    return CriterionFigures(fmean(candidate), fmean(live), fmean(gains), chance_of_no_gain(gains))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _flat(nested: Iterable[Iterable[_T]]) -> list[_T]:
    return [one for inner in nested for one in inner]


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return fmean(listed) if listed else 0.0
