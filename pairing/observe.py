"""What a pairing worker tells about itself. Labels come from closed lists: never what a user wrote, nor who the user is."""

from collections import Counter as Count
from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import func
from sqlmodel import Session, select

from pairing.decoding import Batch
from pairing.outcomes import Outcome
from pairing.tables import Mark

EVENTS = Counter("whetstone_pairing_events", "Events read from the log and stored, sent twice or not.", ["type", "task"])
DEAD_LETTERS = Counter("whetstone_pairing_dead_letters", "Records that can never count, by reason.", ["reason"])
OUTCOMES = Counter(
    "whetstone_pairing_outcomes",
    "Outcomes that events got when they were derived, or got instead of another.",
    ["task", "outcome"],
)
LAG = Gauge(
    "whetstone_pairing_lag_events", "Events in this worker's partitions of the log that are not stored yet.", ["partition"]
)
DELAY_SECONDS = Histogram(
    "whetstone_pairing_delay_seconds",
    "From the arrival of a batch's oldest event in the log to the batch being stored and derived.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600),
)
OLDEST_SECONDS = Gauge(
    "whetstone_pairing_oldest_underived_seconds", "Age of the oldest event that this worker knows to be not derived yet."
)


def note_batch(batch: Batch, tasks: Iterable[str], now_s: float) -> None:
    """A batch was stored, and derived where nobody else was deriving."""
    known = frozenset(tasks)
    # A key for all tasks can name any: only known ones become labels.
    kinds = Count((one.event.type, one.event.task if one.event.task in known else "other") for one in batch.events.values())
    for (kind, task), count in kinds.items():
        EVENTS.labels(kind, task).inc(count)
    for reason, count in Count(letter.reason for letter in batch.dead.values()).items():
        DEAD_LETTERS.labels(reason).inc(count)
    oldest_ms = min((one.record.timestamp_ms for one in batch.events.values()), default=None)
    if oldest_ms is not None:
        DELAY_SECONDS.observe(max(0.0, now_s - oldest_ms / 1000))


def note_outcomes(task: str, outcomes: Mapping[str, Outcome]) -> None:
    """Events of a task have these outcomes now, and had others before, or none."""
    for outcome, count in Count(outcomes.values()).items():
        OUTCOMES.labels(task, outcome.value).inc(count)


def note_lag(ends: Mapping[int, int], stored: Mapping[int, int | None]) -> int:
    """Where the log ends and where it is stored to, of this worker's partitions. Returns how many events that is."""
    LAG.clear()
    lags = {partition: ends[partition] - (following or 0) for partition, following in stored.items() if partition in ends}
    for partition, lag in lags.items():
        LAG.labels(str(partition)).set(lag)
    return sum(lags.values())


def note_oldest(session: Session, read_up_to_s: float | None, now_s: float) -> None:
    """The age of the oldest event left to be derived, or else of what was read last while more waits; 0 when nothing waits."""
    left_at = session.exec(select(func.min(Mark.left_at))).one()
    waiting = [at for at in (left_at.timestamp() if left_at else None, read_up_to_s) if at is not None]
    OLDEST_SECONDS.set(max(0.0, now_s - min(waiting)) if waiting else 0)


def note_unstored(batch: Batch, now_s: float) -> None:
    """The age of the oldest event that the database did not take."""
    oldest_ms = min((one.record.timestamp_ms for one in batch.events.values()), default=None)
    if oldest_ms is not None:
        OLDEST_SECONDS.set(max(0.0, now_s - oldest_ms / 1000))
