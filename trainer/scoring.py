"""From the scores of a generation's candidates to events and to a summary. Pure."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from ingest.events import Prompt, ReplyRef, ScoreEvent, Tool, canonical
from ingest.settings import CriterionSettings
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

    def add(self, scores: Sequence[float], min_margin: float) -> None:
        self.mean += (sum(scores) - self.mean * len(scores)) / (self.scores + len(scores))
        self.scores += len(scores)
        self.with_margin += has_margin(scores, min_margin)


@dataclass(slots=True)
class Tally:
    """What a run has done so far."""

    prompts: int = 0
    """Whose replies were scored, and the scores accepted."""
    refused: int = 0
    """Prompts that the model cannot be asked: too long, mostly."""
    candidates: int = 0
    with_margin: int = 0
    """Generations with a margin by at least one criterion: these can become pairs."""
    criteria: dict[str, CriterionTally] = field(default_factory=dict)
    unreadable_answers: dict[str, int] = field(default_factory=dict)
    """Of each judge; each counts as a tie."""
    failures: dict[str, str] = field(default_factory=dict)
    """By criterion, why it had no answer, the first time."""

    def add(self, criteria: Iterable[CriterionSettings], candidates: int, scores: Scores) -> None:
        """Count a generation whose scores were accepted."""
        self.prompts += 1
        self.candidates += candidates
        found = {one.name: one.min_margin for one in criteria if one.name in scores}
        for name, min_margin in found.items():
            self.of(name).add(scores[name], min_margin)
        self.with_margin += any(has_margin(scores[name], min_margin) for name, min_margin in found.items())

    def add_failure(self, name: str, why: str) -> None:
        self.of(name).failed += 1
        self.failures.setdefault(name, why)

    def of(self, name: str) -> CriterionTally:
        """The tally of one criterion."""
        return self.criteria.setdefault(name, CriterionTally())

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def has_margin(scores: Sequence[float], min_margin: float) -> bool:
    """Whether the best is over the worst, and by enough, as decimals: 0.3 is over 0.2 by 0.1 and not by a little less."""
    margin = Decimal(repr(max(scores))) - Decimal(repr(min(scores)))
    return margin > 0 and margin >= Decimal(repr(min_margin))


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


def _event_id(generation_id: str, candidate: int, criterion: str) -> str:
    return "score-" + hashlib.sha256(canonical([generation_id, candidate, criterion])).hexdigest()
