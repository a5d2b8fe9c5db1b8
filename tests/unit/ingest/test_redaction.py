"""What a task does not want to keep is gone before anything is written."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.events import canonical, event_adapter
from ingest.redaction import CannotRedact, Redactor
from ingest.settings import RedactionSettings, TaskSettings, WrongSetting
from tests.services.feedback import TASK, edit, event, generation, held, preference

ALL = ("email", "phone", "card")


def redactor(*kinds: Any, region: str | None = "DE", function: str | None = None) -> Redactor:
    return Redactor({TASK: TaskSettings(redaction=RedactionSettings(kinds=kinds, region=region, function=function))})


def redacted(text: str, *kinds: Any, **more: Any) -> str:
    """As the saved text of an edit is kept."""
    kept = redactor(*(kinds or ALL), **more)(edit("e", "g", text))
    return json.loads(canonical(kept))["saved"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("write to jane.doe+x@mail.example.org, please", "write to [email], please"),
        ("jürgen@münchen.example", "[email]"),
        ("call +49 30 901820 today", "call [phone] today"),
        ("call 030 901820 today", "call [phone] today"),
        ("card 4111 1111 1111 1111 12/27", "card [card] 12/27"),
        ("card 4111-1111-1111-1111 1227", "card [card] 1227"),
        ("5500005555555559", "[card]"),
        ("カード ４１１１ １１１１ １１１１ １１１１", "カード [card]"),  # noqa: RUF001
        ("電話 +４９ ３０ ９０１８２０", "電話 [phone]"),  # noqa: RUF001
        ("on 2026-01-01 there were 1234567 people at 10:30", "on 2026-01-01 there were 1234567 people at 10:30"),
        ("a @ b, version 1.2.3, 50 % of 12 words", "a @ b, version 1.2.3, 50 % of 12 words"),
    ],
)
def test_addresses_and_numbers_are_replaced_and_nothing_else(said: str, kept: str) -> None:
    assert redacted(said, region="DE") == kept


def test_each_kind_is_found_only_where_the_task_asks_for_it() -> None:
    said = "a@b.example, +49 30 901820, 4111111111111111"
    assert redacted(said, "email") == "[email], +49 30 901820, 4111111111111111"
    assert redacted(said, "card") == "a@b.example, +49 30 901820, [card]"
    assert redacted(said, "phone", region=None) == "a@b.example, [phone], 4111111111111111"


def test_without_a_region_national_numbers_stay() -> None:
    assert redacted("030 901820", region=None) == "030 901820"


MAIL, GONE = "a@b.example", "[email]"
CALLED = [{"id": "call-1", "function": {"name": "send", "arguments": json.dumps({"to": [MAIL], MAIL: 1})}}]


@pytest.mark.parametrize(
    "one",
    [
        generation("g", MAIL, prompt=MAIL),
        generation("g", "text", prompt=[{"role": "system", "content": MAIL}, {"role": "tool", "content": MAIL}]),
        generation("g", "text", prompt=[{"role": "user", "content": [{"type": "text", "text": MAIL}]}]),
        event("generation", "e", **held("g") | {"candidates": [{"reply": {"role": "assistant", "tool_calls": CALLED}}]}),
        edit("e", "g", {"role": "assistant", "content": MAIL}),
        edit("e", "g", "text", generation=held("g", MAIL, prompt=MAIL)),
        preference("p", MAIL, {"role": "assistant", "content": MAIL}, prompt=MAIL),
    ],
)
def test_every_text_of_an_event_is_redacted(one: Any) -> None:
    kept = canonical(redactor("email")(one))
    assert MAIL.encode() not in kept
    assert GONE.encode() in kept
    assert canonical(event_adapter.validate_json(kept)) == kept


def test_ids_tags_and_tools_stay_as_they_are() -> None:
    tools = [{"type": "function", "function": {"name": MAIL}}]
    one = event("generation", MAIL, user=MAIL, tags={MAIL: MAIL}, tools=tools, **held(MAIL, "text"))
    assert redactor("email")(one) == one


def test_arguments_of_tool_calls_stay_json() -> None:
    arguments = '{"card": 4111111111111111, "note":"a@b.example", "n": 1}'
    call = {"function": {"name": "pay", "arguments": arguments}}
    kept = redactor(*ALL)(edit("e", "g", {"role": "assistant", "tool_calls": [call]}))
    said = json.loads(canonical(kept))["saved"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(said) == {"card": "[card]", "note": "[email]", "n": 1}


TEXTS = st.lists(st.sampled_from(["4111111111111111", "+49 30 901820", "a@b.example", " ", "-", "12", "(", "030", "x", "."])).map(
    "".join
)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_redacting_again_changes_nothing(text: str) -> None:
    once = redacted(text)
    assert redacted(once) == once


def test_a_long_text_without_anything_to_find_takes_no_time() -> None:
    started = time.monotonic()
    redacted("x" * 1_000_000 + " 1 2 3" * 50_000)
    assert time.monotonic() - started < 30


def shout(text: str) -> str:
    return text.replace("secret", "[secret]" if "[secret]" not in text else "secret")


def fail(text: str) -> str:
    raise ValueError(text)


def test_a_task_may_bring_a_function_of_its_own() -> None:
    assert (
        redacted("a secret of a@b.example", "email", function="tests.unit.ingest.test_redaction:shout") == "a [secret] of [email]"
    )


def test_a_function_that_fails_keeps_nothing_and_quotes_nobody() -> None:
    with pytest.raises(CannotRedact, match="ValueError") as failed:
        redacted("what a user wrote", function="tests.unit.ingest.test_redaction:fail")
    assert "what a user wrote" not in str(failed.value)


def test_a_function_that_is_not_there_is_named_at_the_start() -> None:
    with pytest.raises(WrongSetting, match=r"tasks\.summarise\.redaction\.function"):
        redactor(function="nowhere:nothing")


def test_without_redaction_an_event_is_the_same_object() -> None:
    one = edit("e", "g", MAIL)
    assert Redactor({TASK: TaskSettings()})(one) is one


def test_the_log_gets_what_is_left_and_a_failing_function_is_a_problem(start: Callable[..., Any]) -> None:
    tasks = {TASK: TaskSettings(redaction=RedactionSettings(kinds=("email",)))}
    broken = RedactionSettings(function="tests.unit.ingest.test_redaction:fail")
    api = start(tasks=tasks | {"broken": TaskSettings(redaction=broken)})
    said = json.loads(canonical(edit("e", "g", MAIL)))
    assert api.send(said).status_code == 202
    answer = api.send(said | {"task": "broken"})
    assert answer.status_code == 503
    assert "tests.unit.ingest.test_redaction:fail" in answer.json()["detail"]
    [record] = api.log.records
    assert GONE.encode() in record.value
    assert MAIL.encode() not in record.value
