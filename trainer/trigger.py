"""Decides, purely, whether a round is due."""

from dataclasses import dataclass
from datetime import datetime

from ingest.settings import TriggerSettings


@dataclass(frozen=True, slots=True)
class TaskState:
    """What the decision rests on."""

    new_pairs: int
    """Training pairs that no round with a verdict has had."""
    oldest_new_at: datetime | None
    unfinished: bool
    """A round of the task is still under way."""


@dataclass(frozen=True, slots=True)
class Due:
    reason: str


@dataclass(frozen=True, slots=True)
class NotDue:
    reason: str


def due(state: TaskState, now: datetime, rule: TriggerSettings) -> Due | NotDue:
    """A round is due with enough new pairs, or with fewer once the oldest has waited long enough."""
    if state.unfinished:
        return NotDue("a round of the task is under way")
    if state.new_pairs >= rule.min_new_pairs:
        return Due(f"{state.new_pairs} new pairs, {rule.min_new_pairs} wanted")
    if state.oldest_new_at is None or state.new_pairs < rule.min_pairs_after_wait:
        return NotDue(f"{state.new_pairs} of {rule.min_new_pairs} new pairs")
    waited_s = (now - state.oldest_new_at).total_seconds()
    if waited_s < rule.max_wait_s:
        return NotDue(f"{state.new_pairs} of {rule.min_new_pairs} new pairs, the oldest waits {waited_s:.0f} s")
    return Due(f"{state.new_pairs} new pairs, the oldest waits {waited_s:.0f} s")
