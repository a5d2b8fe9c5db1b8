"""Decides, purely, whether a candidate is better than what is live, and that nothing that mattered got worse."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, fmean
from typing import Any

from ingest.settings import CriterionSettings, GateSettings
from trainer.criteria import Check, FreshReply, words_in

_LEAST_PROMPTS = 5
_LEAST_PAIRS = 20
_RESAMPLES = 2_000

Replies = Sequence[Sequence[FreshReply]]
"""By prompt, the replies to it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What candidate and live adapter did on held-out data."""

    candidate: Replies
    live: Replies
    """The same prompts in the same order."""
    margin_gains: Sequence[float]
    """By held-out pair, how much further the candidate prefers the chosen reply than live does, in nats."""


@dataclass(frozen=True, slots=True)
class CriterionFigures:
    """Shares of replies that pass a criterion."""

    candidate: float
    live: float
    gain: float
    gain_at_least: float
    """Lower end of the gain's confidence interval."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the verdict rests on."""

    prompts: int
    replies: int
    criteria: dict[str, CriterionFigures]
    mean_words: dict[str, float]
    empty: dict[str, float]
    holdout_pairs: int
    preferred: float | None
    """Share of held-out pairs that the candidate gets more right than live."""
    preferred_at_least: float | None
    mean_margin_gain: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Passed without a reason against it, refused with each one."""

    passed: bool
    reasons: list[str]
    figures: Figures

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(evidence: Evidence, checks: Mapping[str, Check], criteria: Sequence[CriterionSettings], rule: GateSettings) -> Verdict:
    """Weigh the evidence. Not enough of it is a reason to refuse."""
    if not all(map(math.isfinite, evidence.margin_gains)):
        return Verdict(False, ["The candidate's probabilities are not numbers."], _figures(evidence, checks, rule, []))
    figures = _figures(evidence, checks, rule, evidence.margin_gains)
    reasons = [*_too_little(figures, checks), *_worse(figures, criteria, rule)]
    if not reasons and not _better(figures, rule):
        reasons = [_nothing_better(figures, rule)]
    return Verdict(not reasons, reasons, figures)


def _too_little(figures: Figures, checks: Mapping[str, Check]) -> list[str]:
    by_replies, by_pairs = bool(checks) and figures.prompts >= _LEAST_PROMPTS, figures.holdout_pairs >= _LEAST_PAIRS
    if by_replies or by_pairs:
        return []
    return [
        f"Too little to judge by: {figures.prompts} held-out prompts (at least {_LEAST_PROMPTS}, with criteria) "
        f"and {figures.holdout_pairs} held-out pairs (at least {_LEAST_PAIRS})."
    ]


def _worse(figures: Figures, criteria: Sequence[CriterionSettings], rule: GateSettings) -> list[str]:
    """What got worse by more than it may."""
    reasons = []
    for criterion in criteria:
        found = figures.criteria.get(criterion.name)
        if found and found.gain < -criterion.max_drop:
            reasons.append(
                f"{criterion.name} fell from {found.live:.1%} to {found.candidate:.1%} (max_drop {criterion.max_drop:.1%})."
            )
    rise = figures.empty["candidate"] - figures.empty["live"]
    if rise > rule.max_empty_rise:
        reasons.append(f"Empty replies rose by {rise:.1%} (max_empty_rise {rule.max_empty_rise:.1%}).")
    if figures.mean_words["candidate"] < rule.min_length_ratio * figures.mean_words["live"]:
        reasons.append(
            f"Replies fell from {figures.mean_words['live']:.1f} to {figures.mean_words['candidate']:.1f} words "
            f"(min_length_ratio {rule.min_length_ratio})."
        )
    if figures.mean_margin_gain is not None and abs(figures.mean_margin_gain) > rule.max_margin:
        reasons.append(f"The mean margin ran to {figures.mean_margin_gain:.1f} nats (max_margin {rule.max_margin}).")
    return reasons


def _better(figures: Figures, rule: GateSettings) -> bool:
    """Some criterion rose by enough and beyond chance; without criteria, more held-out pairs are right than by chance."""
    if figures.criteria:
        return any(found.gain >= rule.min_gain and found.gain_at_least > 0 for found in figures.criteria.values())
    return figures.preferred_at_least is not None and figures.preferred_at_least > 0.5


def _nothing_better(figures: Figures, rule: GateSettings) -> str:
    if not figures.criteria:
        return f"Held-out pairs: {figures.preferred or 0:.1%} are better, which may be chance at confidence {rule.confidence}."
    gains = ", ".join(
        f"{name} {found.gain:+.1%} (at least {found.gain_at_least:+.1%})" for name, found in figures.criteria.items()
    )
    return f"Nothing is better by {rule.min_gain:.1%} beyond chance: {gains}."


def _figures(evidence: Evidence, checks: Mapping[str, Check], rule: GateSettings, gains: Sequence[float]) -> Figures:
    sides = {"candidate": evidence.candidate, "live": evidence.live}
    preferred = fmean(gain > 0 for gain in gains) if gains else None
    return Figures(
        prompts=len(evidence.candidate),
        replies=sum(map(len, evidence.candidate)),
        criteria={name: _criterion(evidence, check, rule.confidence) for name, check in checks.items() if evidence.candidate},
        mean_words={
            side: _mean(words_in(reply.text) for replies in prompts for reply in replies) for side, prompts in sides.items()
        },
        empty={
            side: _mean(not reply.text.strip() for replies in prompts for reply in replies) for side, prompts in sides.items()
        },
        holdout_pairs=len(evidence.margin_gains),
        preferred=preferred,
        preferred_at_least=None if preferred is None else wilson_lower(preferred, len(gains), rule.confidence),
        mean_margin_gain=fmean(gains) if gains else None,
    )


def _criterion(evidence: Evidence, check: Check, confidence: float) -> CriterionFigures:
    candidate, live = ([_mean(map(check, replies)) for replies in side] for side in (evidence.candidate, evidence.live))
    gains = [after - before for after, before in zip(candidate, live, strict=True)]
    return CriterionFigures(fmean(candidate), fmean(live), fmean(gains), bootstrap_lower(gains, confidence))


def bootstrap_lower(values: Sequence[float], confidence: float) -> float:
    """Lower end of the mean's one-sided confidence interval, by the percentile bootstrap over prompts.

    Replies to one prompt are alike, so prompts are drawn, not replies. Seeded: the same values give the same bound.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    chance = random.Random(0)
    means = sorted(fmean(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return means[int((1 - confidence) * _RESAMPLES)]


def wilson_lower(share: float, count: int, confidence: float) -> float:
    """Lower end of a share's one-sided confidence interval. Source: Wilson, JASA 22 (1927)."""
    z = NormalDist().inv_cdf(confidence)
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre - spread) / (1 + z * z / count)


def _mean(values: Any) -> float:
    listed = [float(value) for value in values]
    return fmean(listed) if listed else 0.0
