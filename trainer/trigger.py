"""Decides, purely, whether a round is due."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ingest.settings import TriggerSettings

_FIRST_PAUSE = timedelta(minutes=10)
_LONGEST_PAUSE = timedelta(days=1)
_MOST_DOUBLINGS = 10


@dataclass(frozen=True, slots=True)
class TaskState:
    """What the decision rests on."""

    new_pairs: int
    """Training pairs that no round with a verdict has had."""
    oldest_new_at: datetime | None
    unfinished: bool
    """A round of the task is still under way."""
    failures: int = 0
    """Rounds that failed one after the other, up to now."""
    failed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """Start a round."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotDue:
    """Start none yet."""

    reason: str


def due(state: TaskState, now: datetime, rule: TriggerSettings) -> Due | NotDue:
    """A round is due with enough new pairs, or with fewer once the oldest has waited long enough.

    A failed round leaves its pairs new, so after it the next one waits: ten minutes, then twice as long with each failure.
    """
    if state.unfinished:
        return NotDue("a round of the task is under way")
    if state.failed_at and now < state.failed_at + pause_after(state.failures):
        return NotDue(f"the last {state.failures} rounds failed; the next waits {pause_after(state.failures)}")
    if state.new_pairs >= rule.min_new_pairs:
        return Due(f"{state.new_pairs} new pairs, {rule.min_new_pairs} wanted")
    if state.oldest_new_at is None or state.new_pairs < rule.min_pairs_after_wait:
        return NotDue(f"{state.new_pairs} of {rule.min_new_pairs} new pairs")
    waited_s = (now - state.oldest_new_at).total_seconds()
    if waited_s < rule.max_wait_s:
        return NotDue(f"{state.new_pairs} of {rule.min_new_pairs} new pairs, the oldest waits {waited_s:.0f} s")
    return Due(f"{state.new_pairs} new pairs, the oldest waits {waited_s:.0f} s")


def pause_after(failures: int) -> timedelta:
    """How long the next round waits after so many failed ones."""
    if failures == 0:
        return timedelta(0)
    doublings = min(failures - 1, _MOST_DOUBLINGS)
    return min(_FIRST_PAUSE * (1 << doublings), _LONGEST_PAUSE)
