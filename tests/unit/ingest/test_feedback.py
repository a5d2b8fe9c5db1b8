import json
from collections.abc import Callable
from typing import Any

import pytest

from ingest.events import canonical, event_adapter
from ingest.examples import EXAMPLES

SECRET = "the-secret-of-a-user"
CHOICE = EXAMPLES["choice"]
ACCEPTANCE = EXAMPLES["acceptance"]
MANY = "/v1/feedback/batch"


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_documented_example_of_each_type_is_accepted(api: Any, kind: str) -> None:
    answer = api.send(EXAMPLES[kind])
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})


def test_an_accepted_event_is_in_the_log_in_its_canonical_form(api: Any) -> None:
    api.send(CHOICE)
    (record,) = api.log.records
    assert record.value == canonical(event_adapter.validate_python(CHOICE))
    assert record.key == b"chatcmpl-7f3a"


def test_a_record_says_when_it_was_received_and_with_which_key(api: Any) -> None:
    api.send(CHOICE)
    headers = dict(api.log.records[0].headers)
    assert headers["received-at"] == b"2026-03-02T00:00:00+00:00"
    assert headers["key-id"].startswith(b"key-")


def test_the_same_event_may_be_sent_again(api: Any) -> None:
    assert [api.send(CHOICE).status_code for _ in range(2)] == [202, 202]


def test_a_batch_is_accepted_whole(api: Any) -> None:
    answer = api.send({"events": [CHOICE, ACCEPTANCE]}, path=MANY)
    assert answer.json() == {"accepted": 2}
    assert len(api.log.records) == 2


def test_one_wrong_event_refuses_its_whole_batch(api: Any) -> None:
    answer = api.send({"events": [CHOICE, {**ACCEPTANCE, "task": "Not A Task"}]}, path=MANY)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "events.1.task"
    assert not api.log.records


def test_a_batch_longer_than_the_setting_is_refused(start: Callable[..., Any]) -> None:
    answer = start(max_batch_events=1).send({"events": [CHOICE, ACCEPTANCE]}, path=MANY)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "events"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": SECRET}, "type"),
        ({"task": SECRET.upper()}, "task"),
        ({"by": SECRET}, "by"),
        ({"occurred_at": SECRET}, "occurred_at"),
        ({"occurred_at": "2026-03-01T09:30:00"}, "occurred_at"),
        ({"occurred_at": "2026-03-02T00:11:00Z"}, "occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at"),
        ({"user": f"{SECRET}\n"}, "user"),
        ({"tags": {SECRET: 3}}, "tags"),
        ({"shown": [{"generation_id": "g"}]}, "shown"),
        ({"shown": [{"generation_id": "g", "candidate": SECRET}, {"generation_id": "g"}]}, "shown.0.candidate"),
        ({"shown": [{"generation_id": SECRET}, {"generation_id": SECRET}]}, "shown"),
        ({"picked": {"generation_id": SECRET}}, "picked"),
        ({"picked": SECRET}, "picked"),
        ({"pikced": SECRET}, "pikced"),
        ({f"{SECRET}: {SECRET}": 1}, "body"),
        (
            {"generation": {"generation_id": "g", "prompt": [{"role": SECRET}], "candidates": [{"reply": "a"}]}},
            "generation.prompt.0.role",
        ),
        (
            {"generation": {"generation_id": "g", "prompt": "p", "adapter": f"{SECRET}\0", "candidates": [{"reply": "a"}]}},
            "generation.adapter",
        ),
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not_repeated(api: Any, change: dict[str, Any], field: str) -> None:
    answer = api.send({**CHOICE, **change})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field
    assert SECRET not in answer.text.lower()


def test_a_missing_field_is_named(api: Any) -> None:
    answer = api.send({name: value for name, value in CHOICE.items() if name != "event_id"})
    assert [error["field"] for error in answer.json()["errors"]] == ["event_id"]


@pytest.mark.parametrize("number", ["NaN", "1e999"])
def test_a_number_that_json_cannot_hold_is_refused_rather_than_lost(api: Any, number: str) -> None:
    body = json.dumps({**EXAMPLES["preference"], "tools": [{"x": "NUMBER"}]}).replace('"NUMBER"', number)
    headers = {"Authorization": f"Bearer {api.key('preference')}", "Content-Type": "application/json"}
    answer = api.client.post("/v1/feedback", content=body, headers=headers)
    assert answer.json()["errors"][0]["field"] == "tools.0"


@pytest.mark.parametrize("body", ["", "{", '{"type": "choice",}', '"\\ud800"', "[" * 1000, b"\xff"])
def test_a_body_that_is_not_json_gets_400(api: Any, body: str) -> None:
    headers = {"Authorization": f"Bearer {api.key('feedback')}", "Content-Type": "application/json"}
    assert api.client.post("/v1/feedback", content=body, headers=headers).status_code == 400


@pytest.mark.parametrize(
    ("event", "scopes"),
    [
        (CHOICE, {"feedback"}),
        ({**CHOICE, "by": "expert"}, {"expert"}),
        (EXAMPLES["score"], {"criterion"}),
        ({**EXAMPLES["score"], "by": "user"}, {"criterion"}),
        ({**EXAMPLES["score"], "by": "expert"}, {"criterion", "expert"}),
        (EXAMPLES["preference"], {"preference"}),
        ({**EXAMPLES["preference"], "by": "expert"}, {"expert", "preference"}),
        (EXAMPLES["erasure"], {"erasure"}),
        (EXAMPLES["generation"], {"carried-generation"}),
        ({**EXAMPLES["generation"], "purpose": "evaluation"}, {"carried-generation", "admin"}),
        (
            {**CHOICE, "generation": {"generation_id": "g", "prompt": "p", "candidates": [{"reply": "r"}]}},
            {"feedback", "carried-generation"},
        ),
    ],
)
def test_an_event_needs_exactly_the_scopes_that_are_reserved_for_it(api: Any, event: Any, scopes: set[Any]) -> None:
    assert api.send(event, *scopes).status_code == 202
    everything = {"inference", "feedback", "expert", "criterion", "preference", "erasure", "carried-generation", "admin"}
    for missing in scopes:
        assert api.send(event, *(everything - {missing})).status_code == 403


def test_a_key_speaks_only_for_its_tasks(api: Any) -> None:
    assert api.send(CHOICE, "feedback", tasks=("summarise-short",)).status_code == 202
    assert api.send(CHOICE, "feedback", tasks=("translate",)).status_code == 403
    batch = {"events": [CHOICE, {**CHOICE, "task": "translate"}]}
    assert api.send(batch, "feedback", tasks=("summarise-short",), path=MANY).status_code == 403


@pytest.mark.parametrize("authorization", [None, "Bearer wsk_wrong", "Bearer", "Basic abc", "wsk_wrong"])
def test_without_a_valid_key_nothing_is_accepted(api: Any, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = api.client.post("/v1/feedback", json=CHOICE, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "whetstone keys create" in answer.json()["detail"]


def test_while_the_log_is_away_nothing_is_accepted_and_the_client_is_told_to_come_again(api: Any) -> None:
    api.log.away = True
    answer = api.send(CHOICE)
    assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
    assert api.client.get("/readyz").status_code == 503
    assert api.client.get("/healthz").status_code == 200
    api.log.away = False
    assert api.send(CHOICE).status_code == 202
    assert api.client.get("/readyz").status_code == 200


def test_while_the_database_is_away_the_answer_is_503_with_retry_after(api: Any) -> None:
    key = api.key("feedback")
    with api.database.begin() as session:
        session.connection().exec_driver_sql("ALTER TABLE api_keys RENAME TO away")
    answer = api.client.post("/v1/feedback", json=CHOICE, headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert api.client.get("/readyz").status_code == 503


def test_an_event_too_large_is_refused_by_its_place_in_the_batch(start: Callable[..., Any]) -> None:
    api = start(max_event_bytes=1_000)
    large = {**EXAMPLES["edit"], "saved": "x" * 1_000}
    assert api.send(large).status_code == 413
    answer = api.send({"events": [CHOICE, large]}, path=MANY)
    assert answer.json()["errors"][0]["field"] == "events.1"
    assert not api.log.records


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/v1/feedback", 405)])
def test_the_frameworks_own_errors_are_problems_too(api: Any, method: str, path: str, status: int) -> None:
    answer = api.client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["detail"]


def test_a_fault_of_ours_is_a_problem_without_anything_of_the_request(api: Any) -> None:
    api.log.append = None  # whatever goes wrong there
    answer = api.send({**CHOICE, "user": SECRET})
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal error")
    assert SECRET not in answer.text


def test_metrics_want_a_key_with_admin_for_all_tasks(api: Any) -> None:
    def get(key: str) -> Any:
        return api.client.get("/metrics", headers={"Authorization": f"Bearer {key}"})

    assert api.client.get("/metrics").status_code == 401
    assert get(api.key("feedback")).status_code == 403
    assert get(api.key("admin", tasks=("summarise-short",))).status_code == 403
    assert get(api.key("admin")).status_code == 200


def test_metrics_count_by_known_tasks_and_never_hold_what_a_client_wrote(api: Any) -> None:
    api.send({**CHOICE, "user": SECRET, "tags": {"note": SECRET}})
    api.send({**CHOICE, "task": SECRET})
    text = api.client.get("/metrics", headers={"Authorization": f"Bearer {api.key('admin')}"}).text
    assert 'whetstone_ingest_events_total{task="summarise-short",type="choice"}' in text
    assert 'whetstone_ingest_events_total{task="other",type="choice"}' in text
    assert 'whetstone_ingest_requests_total{outcome="accepted"}' in text
    assert "whetstone_ingest_in_flight_events 0.0" in text
    assert SECRET not in text


def test_openapi_describes_every_type_with_an_example(api: Any) -> None:
    schemas = api.client.get("/openapi.json").json()["components"]["schemas"]
    for kind, ref in schemas["Event"]["discriminator"]["mapping"].items():
        model = schemas[ref.rpartition("/")[2]]
        assert model["description"]
        assert model["examples"][0]["type"] == kind


def test_every_reference_of_the_openapi_document_leads_somewhere(api: Any) -> None:
    text = api.client.get("/openapi.json").text
    document = json.loads(text)
    for ref in {part.split('"')[0] for part in text.split('"$ref":"#/')[1:]}:
        found: Any = document
        for name in ref.split("/"):
            found = found[name]
