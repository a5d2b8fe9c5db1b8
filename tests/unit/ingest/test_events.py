import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.events import BASE, canonical, event_adapter, fingerprint, record_key
from ingest.examples import EXAMPLES
from ingest.parsing import parse_batch, parse_event
from ingest.problems import Problem
from tests.services.any_event import BODIES, events
from trainer import tables


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    if not isinstance(value, dict):
        return value
    items = [(key, shuffled(item, order)) for key, item in value.items()]
    order.shuffle(items)
    return dict(items)


def parsed(body: Any) -> Any:
    return event_adapter.validate_json(json.dumps(body))


def test_every_type_of_event_has_an_example_and_is_generated_here() -> None:
    types = set(event_adapter.json_schema()["discriminator"]["mapping"])
    assert set(EXAMPLES) == set(BODIES) == types


@settings(max_examples=100, deadline=None)
@given(events)
def test_an_event_that_validates_comes_back_unchanged_from_the_log(body: dict[str, Any]) -> None:
    event = parsed(body)
    stored = canonical(event)
    assert event_adapter.validate_json(stored) == event
    assert canonical(event_adapter.validate_json(stored)) == stored
    assert record_key(event_adapter.validate_json(stored)) == record_key(event)


@settings(max_examples=50, deadline=None)
@given(events, st.randoms(use_true_random=False))
def test_the_order_of_json_keys_does_not_change_a_fingerprint(body: dict[str, Any], order: random.Random) -> None:
    assert fingerprint(canonical(parsed(shuffled(body, order)))) == fingerprint(canonical(parsed(body)))


ONLY_TEXT = "Only text is supported here: images, audio and files are refused."
PARTS_OF_OTHER_KINDS = [
    {"type": "image_url", "image_url": {"url": "https://example.org/private.png"}},
    {"type": "input_audio", "input_audio": {"data": "private", "format": "wav"}},
    {"type": "file", "file": {"file_id": "private"}},
    {"type": "image", "source": {"data": "private"}},
]


def test_prompts_and_replies_may_hold_tool_calls_tool_results_text_parts_and_system_prompts() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"what": "sea"}'}}
    prompt = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Describe"}, {"type": "text", "text": "the sea."}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Salt water."},
    ]
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
    replies = {"chosen": "Wide.", "rejected": {"role": "assistant", "tool_calls": [call]}}
    event = parse_event(json.dumps({**EXAMPLES["preference"], "prompt": prompt, "tools": tools, **replies}).encode())
    kept = json.loads(canonical(event))
    assert kept["prompt"][1]["content"] == prompt[1]["content"]
    assert kept["prompt"][3] == prompt[3]
    assert (kept["tools"], kept["rejected"]["tool_calls"][0]["function"]) == (tools, call["function"])


@pytest.mark.parametrize("part", PARTS_OF_OTHER_KINDS, ids=lambda part: part["type"])
@pytest.mark.parametrize(
    ("kind", "holds", "field"),
    [
        ("preference", lambda message: {"prompt": [{"role": "system", "content": "a"}, message]}, "prompt.1.content.1"),
        ("preference", lambda message: {"rejected": message}, "rejected.content.1"),
        ("edit", lambda message: {"saved": message}, "saved.content.1"),
        ("generation", lambda message: {"candidates": [{"reply": message}]}, "candidates.0.reply.content.1"),
    ],
)
def test_images_audio_and_files_are_refused_by_the_name_of_their_field(kind: str, holds: Any, field: str, part: Any) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Look:"}, part]}
    with pytest.raises(Problem) as refused:
        parse_event(json.dumps({**EXAMPLES[kind], **holds(message)}).encode())
    assert refused.value.status == 422
    assert refused.value.errors == [{"field": field, "message": ONLY_TEXT}]


def test_in_a_batch_the_image_is_named_by_its_event_too() -> None:
    saved = {"role": "assistant", "content": [PARTS_OF_OTHER_KINDS[0]]}
    batch = {"events": [EXAMPLES["choice"], {**EXAMPLES["edit"], "saved": saved}]}
    with pytest.raises(Problem) as refused:
        parse_batch(json.dumps(batch).encode(), 10)
    assert refused.value.errors == [{"field": "events.1.saved.content.0", "message": ONLY_TEXT}]


def test_a_spoken_reply_is_refused_by_the_name_of_its_field() -> None:
    saved = {"role": "assistant", "content": "Wide.", "audio": {"id": "private"}}
    with pytest.raises(Problem) as refused:
        parse_event(json.dumps({**EXAMPLES["edit"], "saved": saved}).encode())
    assert refused.value.errors == [{"field": "saved.audio", "message": ONLY_TEXT}]


@pytest.mark.parametrize("role", ["user", "system", "tool", "developer"])
@pytest.mark.parametrize(
    ("kind", "holds", "field"),
    [
        ("preference", lambda message: {"chosen": message}, "chosen.role"),
        ("edit", lambda message: {"saved": message}, "saved.role"),
        ("generation", lambda message: {"candidates": [{"reply": message}]}, "candidates.0.reply.role"),
    ],
)
def test_a_reply_is_the_assistants_or_refused(kind: str, holds: Any, field: str, role: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_event(json.dumps({**EXAMPLES[kind], **holds({"role": role, "content": "Wide."})}).encode())
    assert [error["field"] for error in refused.value.errors] == [field]


def test_what_else_is_wrong_beside_an_image_is_still_named() -> None:
    saved = {"role": "assistant", "content": [PARTS_OF_OTHER_KINDS[0], {"type": "text"}]}
    with pytest.raises(Problem) as refused:
        parse_event(json.dumps({**EXAMPLES["edit"], "saved": saved, "task": "Not A Task"}).encode())
    assert [error["field"] for error in refused.value.errors] == ["task", "saved.content.0", "saved.content.1.text"]


def test_one_word_stands_for_the_model_without_an_adapter() -> None:
    assert BASE == tables.BASE
