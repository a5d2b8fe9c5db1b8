from datetime import UTC, datetime, timedelta

import pytest

from ingest.settings import TriggerSettings
from trainer.trigger import Due, NotDue, TaskState, due, pause_after

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
RULE = TriggerSettings(min_new_pairs=100, max_wait_s=3600, min_pairs_after_wait=10)


def state(
    new_pairs: int, waited_s: float = 0, unfinished: bool = False, failures: int = 0, failed_s_ago: float | None = None
) -> TaskState:
    oldest = NOW - timedelta(seconds=waited_s) if new_pairs else None
    failed_at = None if failed_s_ago is None else NOW - timedelta(seconds=failed_s_ago)
    return TaskState(new_pairs, oldest, unfinished, failures, failed_at)


def test_enough_new_pairs_make_a_round_due() -> None:
    assert isinstance(due(state(100), NOW, RULE), Due)
    assert isinstance(due(state(99), NOW, RULE), NotDue)


def test_fewer_pairs_make_a_round_due_once_the_oldest_has_waited() -> None:
    assert isinstance(due(state(10, waited_s=3600), NOW, RULE), Due)
    assert isinstance(due(state(10, waited_s=3599), NOW, RULE), NotDue)


def test_very_few_pairs_never_make_a_round_due() -> None:
    assert isinstance(due(state(9, waited_s=10**6), NOW, RULE), NotDue)
    assert isinstance(due(state(0), NOW, RULE), NotDue)


def test_a_task_has_one_round_at_a_time() -> None:
    assert isinstance(due(state(1000, unfinished=True), NOW, RULE), NotDue)


def test_after_a_failed_round_the_next_one_waits_though_its_pairs_are_still_new() -> None:
    assert isinstance(due(state(1000, failures=1, failed_s_ago=599), NOW, RULE), NotDue)
    assert isinstance(due(state(1000, failures=1, failed_s_ago=600), NOW, RULE), Due)


@pytest.mark.parametrize(("failures", "pause"), [(0, 0), (1, 600), (2, 1200), (4, 4800), (500, 86_400)])
def test_each_further_failure_doubles_the_wait_up_to_a_day(failures: int, pause: float) -> None:
    assert pause_after(failures) == timedelta(seconds=pause)


def test_the_reason_tells_how_many_pairs_are_wanted() -> None:
    assert "7 of 100 new pairs" in due(state(7), NOW, RULE).reason
