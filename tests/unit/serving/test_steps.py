"""What rollout does next."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from serving.releases import TaskReleases
from serving.rollout.patience import Patience
from serving.rollout.steps import Answering, Flip, Load, Observed, Unload, Warm, plan
from trainer.tables import Adapter, Release

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def adapter(name: str, wanted: bool = False) -> Adapter:
    return Adapter(
        name=name, task="t", round_id=1, parent="base", path=f"/{name}", manifest_sha256="", sealed_at=NOW, wanted=wanted
    )


def pending(name: str) -> Release:
    return Release(id=7, task="t", adapter=name, reason="gate", asked_by="gate", created_at=NOW, live_at=None)


IDLE = Observed(
    tasks={"t": TaskReleases(live="base", previous=None, pending=None)},
    adapters=[adapter(name) for name in "abcde"],
    loaded=frozenset(),
    warm=frozenset(),
    gateways=[],
    paused=frozenset(),
    overdue=frozenset(),
    max_loaded=4,
)


def test_nothing_is_done_while_all_is_as_wanted() -> None:
    assert plan(IDLE) == []


def test_a_wanted_release_is_loaded_then_warmed_then_gets_the_traffic() -> None:
    wanted = replace(IDLE, tasks={"t": TaskReleases("base", None, pending("a"))})
    assert plan(wanted) == [Load("a")]
    loaded = replace(wanted, loaded=frozenset("a"))
    assert plan(loaded) == [Warm("a")]
    assert plan(replace(loaded, warm=frozenset("a"))) == [Flip(7, "t", "a")]


def test_a_return_to_the_base_model_needs_no_loading() -> None:
    back = replace(IDLE, tasks={"t": TaskReleases("a", None, pending("base"))}, loaded=frozenset("a"), warm=frozenset("a"))
    assert plan(back) == [Flip(7, "t", "base")]


def test_after_vllm_restarts_what_answers_traffic_is_loaded_before_anything_else() -> None:
    empty = replace(
        IDLE,
        tasks={"t": TaskReleases("b", "a", pending("c"))},
        adapters=[*IDLE.adapters, adapter("z", wanted=True)],
    )
    assert plan(empty) == [Load("b"), Load("c"), Load("a"), Load("z")]


def test_the_adapter_to_roll_back_to_stays_loaded_when_no_gateway_uses_it() -> None:
    swapped = replace(IDLE, tasks={"t": TaskReleases("b", "a", None)}, loaded=frozenset("ab"), warm=frozenset("ab"))
    assert plan(swapped) == []


@pytest.mark.parametrize(
    "gateway", [Answering(frozenset("a"), frozenset()), Answering(frozenset("c"), frozenset("a"))], ids=["routes", "in flight"]
)
def test_an_adapter_is_not_unloaded_while_a_gateway_answers_with_it(gateway: Answering) -> None:
    swapped = replace(
        IDLE, tasks={"t": TaskReleases("c", "b", None)}, loaded=frozenset("abc"), warm=frozenset("abc"), gateways=[gateway]
    )
    assert plan(swapped) == []
    drained = replace(swapped, gateways=[Answering(frozenset("c"), frozenset("c"))])
    assert plan(drained) == [Unload("a", drained=True)]
    assert plan(replace(swapped, overdue=frozenset("a"))) == [Unload("a", drained=False)]


def test_candidates_wait_for_room_and_what_answers_does_not() -> None:
    crowded = replace(
        IDLE,
        tasks={"t": TaskReleases("b", "a", None)},
        adapters=[*IDLE.adapters, *(adapter(name, wanted=True) for name in "xyz")],
        loaded=frozenset("abz"),
        warm=frozenset("abz"),
    )
    assert plan(crowded) == [Load("x")]
    assert plan(replace(crowded, max_loaded=2, tasks={"t": TaskReleases("c", "a", None)})) == [
        Load("c"),
        Unload("b", drained=True),
    ]


def test_an_adapter_that_just_failed_is_left_alone_and_holds_up_no_other() -> None:
    wanted = replace(IDLE, tasks={"t": TaskReleases("a", None, pending("b"))}, paused=frozenset("a"))
    assert plan(wanted) == [Load("b")]


def test_a_release_of_an_adapter_that_there_is_not_stops_nothing() -> None:
    assert plan(replace(IDLE, tasks={"t": TaskReleases("base", None, pending("gone"))})) == []


def test_failures_pause_an_adapter_for_longer_and_longer() -> None:
    patience = Patience(drain_timeout_s=60)
    assert [patience.failed("a", now=0) for _ in range(7)] == [0.5, 1, 2, 5, 10, 30, 30]
    assert patience.paused(now=29) == {"a"}
    assert patience.paused(now=30) == frozenset()
    patience.succeeded("a")
    assert patience.failed("a", now=40) == 0.5


def test_a_drain_is_overdue_after_its_time_and_starts_anew_when_the_adapter_was_wanted_again() -> None:
    patience = Patience(drain_timeout_s=60)
    assert patience.overdue({"a"}, now=0) == frozenset()
    assert patience.overdue({"a"}, now=60) == {"a"}
    assert patience.overdue(set(), now=61) == frozenset()
    assert patience.overdue({"a"}, now=62) == frozenset()
