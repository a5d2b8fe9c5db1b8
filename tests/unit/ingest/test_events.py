import json
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.events import BASE, canonical, event_adapter, fingerprint, record_key
from ingest.examples import EXAMPLES
from ingest.parsing import parse_batch, parse_event
from ingest.problems import Problem
from trainer import tables

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f"]), min_size=1, max_size=20
)
tags = st.dictionaries(ids, ids, max_size=3)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=zones | st.just(UTC)).map(datetime.isoformat)
finite = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)


def record(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


refs = record({"generation_id": ids}, candidate=st.integers(0, 1000))
calls = record({"function": record({"name": text, "arguments": text})}, id=text, type=st.just("function"))
parts = st.lists(record({"type": st.just("text"), "text": text}), max_size=2)


def messages(*roles: str) -> st.SearchStrategy[dict[str, Any]]:
    content = {"role": st.sampled_from(roles), "content": text | parts}
    return record(content, name=text, tool_calls=st.lists(calls, max_size=2), tool_call_id=text)


replies = text | messages("assistant")
prompts = text | st.lists(messages("system", "user", "assistant", "tool"), min_size=1, max_size=2)
tools = st.none() | st.lists(st.dictionaries(text, plain, max_size=2), max_size=2)
generation: dict[str, Any] = {
    "generation_id": ids,
    "prompt": prompts,
    "candidates": st.lists(record({"reply": replies}, finish_reason=text), min_size=1, max_size=3),
}
beside: dict[str, Any] = {
    "tools": tools,
    "model": text,
    "adapter": st.none() | ids,
    "sampling": st.dictionaries(text, st.none() | st.booleans() | st.integers(-9, 9) | finite | text, max_size=3),
}
BODIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "generation": (generation, {**beside, "purpose": st.sampled_from(["traffic", "evaluation"])}),
    "choice": (
        {
            "picked": st.sampled_from(["tie", "none"]),
            "shown": st.lists(
                refs, min_size=2, max_size=4, unique_by=lambda ref: (ref["generation_id"], ref.get("candidate", 0))
            ),
        },
        {},
    ),
    "regeneration": ({"reply": refs, "replacement": ids}, {}),
    "acceptance": ({"reply": refs}, {}),
    "edit": ({"reply": refs, "saved": replies}, {"edit_of": ids}),
    "score": ({"reply": refs, "criterion": ids, "value": finite}, {}),
    "rating": ({"reply": refs, "thumb": st.sampled_from(["up", "down"])}, {}),
    "preference": ({"prompt": prompts, "chosen": replies, "rejected": replies}, {"tools": tools}),
    "erasure": ({"user": ids}, {}),
}


def bodies(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    required, optional = BODIES[kind]
    envelope = {"type": st.just(kind), "event_id": ids, "task": st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)}
    extra = {
        "user": ids,
        "by": st.sampled_from(["user", "expert", "criterion"]),
        "revision": st.integers(0, 2**53 - 1),
        "tags": tags,
    }
    if kind not in ("generation", "preference", "erasure"):
        extra["generation"] = record(generation, **beside)
    return record(
        {**envelope, "occurred_at": times, **required}, **{**optional, **{k: v for k, v in extra.items() if k not in required}}
    )


events = st.sampled_from(sorted(BODIES)).flatmap(bodies)


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
