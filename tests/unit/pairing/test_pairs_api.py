"""GET /v1/pairs: what the service gives out, to whom, and how."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select
from starlette.testclient import TestClient

from ingest.app import create_app
from ingest.keys import KeyRing, create_key
from ingest.settings import Settings
from pairing import api
from pairing.tables import AskedPrompt, RatedReply
from tests.services.feedback import TASK, choice, generation, preference, ref
from tests.services.ledger import Ledger
from tests.services.ledger import ledger as empty_ledger
from tests.standins.log import MemoryLog

Get = Callable[..., Any]
TOOL = {"type": "function", "function": {"name": "weather"}}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with empty_ledger(f"sqlite:///{tmp_path}/test.db") as filled:
        more = [preference(f"p{number}", f"good {number}", "bad", prompt=f"prompt {number}") for number in range(5)]
        filled.add(generation("g", "alpha", "beta"), choice("c", ref("g"), ref("g"), ref("g", 1)), *more)
        yield filled.add(
            preference("t", "a", {"role": "assistant", "content": "b\u2028"}, [{"role": "user", "content": "x"}], tools=[TOOL])
        )


@pytest.fixture
def get(ledger: Ledger) -> Iterator[Get]:
    keys = KeyRing(ledger.database)
    app = create_app(Settings(), MemoryLog(), keys, routers=[api.routes(ledger.database, keys)])

    def ask(scope: Any = "admin", tasks: tuple[str, ...] = (TASK,), **asked: str) -> Any:
        with ledger.database.begin() as session:
            key = create_key(session, "test", tasks, [scope])
        return client.get("/v1/pairs", params=asked, headers={"Authorization": f"Bearer {key}"})

    with TestClient(app, base_url="http://localhost:8401", raise_server_exceptions=False) as client:
        yield ask


def lines(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.content.split(b"\n") if line]


def test_every_pair_of_the_task_comes_once_in_an_order_that_stays(
    get: Get, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = sorted(row.id for row in ledger.rows())
    assert len(wanted) == 7
    for page in (500, 7, 2, 1):
        monkeypatch.setattr(api, "PAGE_ROWS", page)
        assert [row["id"] for row in lines(get(task=TASK))] == wanted


def test_a_pair_is_told_whole(get: Get) -> None:
    [row] = [row for row in lines(get(task=TASK)) if row["tools"]]
    assert row["prompt"] == [{"role": "user", "content": "x"}]
    assert row["tools"] == [TOOL]
    assert (row["chosen"], row["rejected"]) == (
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b\u2028"},
    )
    assert (row["task"], row["source"], row["votes_for"], row["votes_against"]) == (TASK, "preference", 1, 0)
    assert (row["weight"], row["wrong_share"]) == (1, 0.05)
    assert (row["chosen_adapters"], row["rejected_adapters"]) == ([], [])
    assert row["split"] in ("train", "holdout")
    assert row["created_at"].endswith("+00:00")


def test_pairs_are_picked_by_split_and_by_source(get: Get) -> None:
    assert [row["source"] for row in lines(get(task=TASK, source="choice"))] == ["choice"]
    sides = [len(lines(get(task=TASK, split=split))) for split in ("train", "holdout")]
    assert sum(sides) == 7
    assert lines(get(tasks=("*",), task="another")) == []


def test_replies_that_people_rated_and_no_pair_holds_are_unpaired_examples(
    get: Get, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger.database.begin() as session:
        asked = session.exec(select(AskedPrompt).where(AskedPrompt.prompt == '"prompt 1"')).one()
        for number, (net, paired) in enumerate([(2, False), (-1, False), (0, False), (1, True)]):
            rating = {"task": TASK, "prompt_hash": asked.hash, "reply_hash": f"{number}", "reply": f'"reply {number}"'}
            session.add(RatedReply(**rating, ups=max(net, 0), downs=max(-net, 0), net=net, paired=paired))
    monkeypatch.setattr(api, "PAGE_ROWS", 1)
    found = lines(get(task=TASK, kind="examples", split=asked.split))
    shape = {"task": TASK, "prompt": "prompt 1", "tools": None, "split": asked.split}
    assert found == [
        shape | {"completion": "reply 0", "label": True},
        shape | {"completion": "reply 1", "label": False},
    ]
    assert [type(row["label"]) for row in found] == [bool, bool]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"scope": "feedback", "task": TASK}, 403),
        ({"tasks": ("another",), "task": TASK}, 403),
        ({}, 422),
        ({"task": TASK, "split": "test"}, 422),
        ({"task": TASK, "kind": "poems"}, 422),
        ({"task": TASK, "source": "poems"}, 422),
        ({"task": TASK, "source": "choice", "kind": "examples"}, 422),
    ],
)
def test_who_may_not_or_asks_for_what_is_not_there_gets_a_problem(get: Get, asked: dict[str, Any], status: int) -> None:
    answer = get(**asked)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_without_a_key_nothing_is_told(ledger: Ledger) -> None:
    keys = KeyRing(ledger.database)
    app = create_app(Settings(), MemoryLog(), keys, routers=[api.routes(ledger.database, keys)])
    with TestClient(app, base_url="http://localhost:8401") as client:
        assert client.get("/v1/pairs", params={"task": TASK}).status_code == 401
        described = client.get("/openapi.json").json()["paths"]["/v1/pairs"]["get"]
    assert {parameter["name"] for parameter in described["parameters"]} == {"task", "split", "source", "kind"}
    assert set(described["responses"]) == {"200", "401", "403", "422", "503"}


def test_a_database_that_is_away_is_a_503_and_not_half_an_answer(get: Get, ledger: Ledger) -> None:
    with ledger.database.begin() as session:
        session.connection().exec_driver_sql("drop table pairs")
    assert get(task=TASK).status_code == 503
