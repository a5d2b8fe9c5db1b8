"""From the scores of a generation's candidates to events and to a summary. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from ingest.events import Prompt, ReplyRef, ScoreEvent, Tool, canonical
from pairing.rules.in_force import Criterion, Rules
from pairing.rules.score import by_weight, in_turn
from trainer.criteria import FreshReply

Scores = Mapping[str, Sequence[float]]
"""By criterion, the score of each candidate."""


@dataclass(frozen=True, slots=True)
class RecentPrompt:
    """A prompt that people asked. Replies to it are sampled as whoever asked last: an erasure of that person reaches them."""

    prompt: Prompt
    tools: tuple[Tool, ...] | None
    user: str | None


@dataclass(frozen=True, slots=True)
class Sampled:
    """The candidates of a generation that was sampled to be scored."""

    generation_id: str
    replied_at: datetime
    replies: tuple[FreshReply, ...]


@dataclass(slots=True)
class CriterionTally:
    """What one criterion said so far."""

    scores: int = 0
    mean: float = 0.0
    """Of all its scores."""
    with_margin: int = 0
    """Generations whose best and worst candidate are as far apart as the criterion's min_margin asks."""
    failed: int = 0
    """Generations about which it had no answer."""

    def add(self, scores: Sequence[float], has_margin: bool) -> None:
        self.mean += (sum(scores) - self.mean * len(scores)) / (self.scores + len(scores))
        self.scores += len(scores)
        self.with_margin += has_margin


@dataclass(slots=True)
class Tally:
    """What a run has done so far."""

    prompts: int = 0
    """Whose replies were scored, and the scores accepted."""
    refused: int = 0
    """Prompts that the model cannot be asked: too long, mostly."""
    candidates: int = 0
    with_margin: int = 0
    """Generations in which the task's rules find a best and a worst reply: these become pairs, unless both are the same text."""
    criteria: dict[str, CriterionTally] = field(default_factory=dict)
    unreadable_answers: dict[str, int] = field(default_factory=dict)
    """Of each judge; each counts as a tie."""
    failures: dict[str, str] = field(default_factory=dict)
    """By criterion, why it had no answer, the first time."""

    def add(self, rules: Rules, candidates: int, scores: Scores) -> None:
        """Count a generation whose scores were accepted."""
        self.prompts += 1
        self.candidates += candidates
        used = [criterion for criterion in rules.criteria if criterion.name in scores]
        for criterion in used:
            self.of(criterion.name).add(scores[criterion.name], by_weight(_values(scores, [criterion]), [criterion]) is not None)
        decide = by_weight if rules.pairing.criteria == "weighted" else in_turn
        self.with_margin += decide(_values(scores, used), used) is not None

    def add_failure(self, name: str, why: str) -> None:
        self.of(name).failed += 1
        self.failures.setdefault(name, why)

    def of(self, name: str) -> CriterionTally:
        """The tally of one criterion."""
        return self.criteria.setdefault(name, CriterionTally())

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def score_events(task: str, sampled: Sampled, scores: Scores) -> list[ScoreEvent]:
    """The events that say these scores. The same generation and scores make the same events, whenever they are made."""
    return [
        ScoreEvent(
            type="score",
            event_id=_event_id(sampled.generation_id, candidate, name),
            task=task,
            by="criterion",
            occurred_at=sampled.replied_at,
            reply=ReplyRef(generation_id=sampled.generation_id, candidate=candidate),
            criterion=name,
            value=value,
        )
        for name, values in scores.items()
        for candidate, value in enumerate(values)
    ]


def _values(scores: Scores, criteria: Sequence[Criterion]) -> dict[int, list[Decimal]]:
    """By candidate, as pairing's rules compare them."""
    by_candidate = zip(*(scores[criterion.name] for criterion in criteria), strict=True)
    return {candidate: [Decimal(repr(value)) for value in values] for candidate, values in enumerate(by_candidate)}


def _event_id(generation_id: str, candidate: int, criterion: str) -> str:
    return "score-" + hashlib.sha256(canonical([generation_id, candidate, criterion])).hexdigest()
