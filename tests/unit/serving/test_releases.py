"""What the releases of a task mean, and who answers a model's name."""

from datetime import UTC, datetime

import pytest

from serving.gateway.errors import UnknownModel
from serving.gateway.routes import Route, Routes
from serving.releases import kept, read
from trainer.tables import Adapter, Release

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def release(number: int, adapter: str, reason: str = "gate", live: bool = True) -> Release:
    live_at = NOW if live else None
    return Release(id=number, task="t", adapter=adapter, reason=reason, asked_by="gate", created_at=NOW, live_at=live_at)


def adapter(name: str, wanted: bool = False) -> Adapter:
    return Adapter(
        name=name, task="t", round_id=1, parent="base", path=f"/{name}", manifest_sha256="", sealed_at=NOW, wanted=wanted
    )


def test_without_a_release_the_base_model_answers() -> None:
    assert (read([]).live, read([]).previous, read([]).pending) == ("base", None, None)


def test_a_wanted_release_does_not_answer_before_it_is_live() -> None:
    state = read([release(1, "a"), release(2, "b", live=False)])
    assert state.live == "a"
    assert state.pending is not None
    assert state.pending.adapter == "b"


def test_a_rollback_returns_to_what_answered_before_and_two_go_back_two_steps() -> None:
    first, second = release(1, "a"), release(2, "b")
    assert read([first, second]).previous == "a"
    back = release(3, "a", "rollback")
    assert (read([first, second, back]).live, read([first, second, back]).previous) == ("a", "base")
    further = release(4, "base", "rollback")
    assert (read([first, second, back, further]).live, read([first, second, back, further]).previous) == ("base", None)


def test_after_a_rollback_the_next_release_returns_to_what_was_rolled_back_to() -> None:
    state = read([release(1, "a"), release(2, "b"), release(3, "a", "rollback"), release(4, "c")])
    assert (state.live, state.previous) == ("c", "a")


def test_a_release_overtaken_before_it_was_live_counts_for_nothing() -> None:
    state = read([release(1, "a"), release(2, "b", live=False), release(3, "c")])
    assert (state.live, state.previous, state.pending) == ("c", "a", None)


def test_live_pending_previous_and_candidates_stay_loaded_and_base_is_no_adapter() -> None:
    state = read([release(1, "a"), release(2, "b", live=False)])
    assert kept([state], [adapter("a"), adapter("b"), adapter("old"), adapter("new", wanted=True)]) == {"a", "b", "new"}


ROUTES = Routes(live={"t": "t-r000002", "u": "base"}, adapters={"t-r000001": "t", "t-r000002": "t"}, kept=frozenset())


@pytest.mark.parametrize(
    ("model", "route"),
    [
        ("t", Route("t", "t-r000002", by_name=False)),
        ("u", Route("u", "base", by_name=False)),
        ("t@base", Route("t", "base", by_name=True)),
        ("t@t-r000001", Route("t", "t-r000001", by_name=True)),
    ],
)
def test_a_model_name_resolves_to_the_adapter_that_answers(model: str, route: Route) -> None:
    assert ROUTES.resolve(model) == route


@pytest.mark.parametrize("model", ["x", "gpt-4", "t-r000001", "u@t-r000001", "t@t-r000009", "t@", "@base", "base"])
def test_a_model_that_there_is_not_is_refused(model: str) -> None:
    with pytest.raises(UnknownModel):
        ROUTES.resolve(model)


def test_an_unknown_task_is_answered_with_the_tasks_that_there_are() -> None:
    with pytest.raises(UnknownModel, match="Tasks: t, u"):
        ROUTES.resolve("summarize")


def test_the_models_are_the_tasks_their_base_and_what_is_loaded_of_them() -> None:
    loaded = frozenset({"base", "t-r000002", "other-r000001"})
    assert ROUTES.models(loaded, ["t", "u"]) == ["t", "t@base", "t@t-r000002", "u", "u@base"]
    assert ROUTES.models(loaded, ["u"]) == ["u", "u@base"]
