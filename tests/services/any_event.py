"""Events of every type for Hypothesis, with any text and any number that they may hold: as a client sends them."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

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
