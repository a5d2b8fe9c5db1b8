"""OpenAI's preference rows, and those of the services that took them over: Azure, Fireworks, Together.

They are read alike, as what the most liberal of them takes; each is written as its own checker wants it.
"""

from itertools import pairwise
from typing import Any

from pairing.formats import reading, writing
from pairing.formats.format import Format, has, never
from pairing.formats.values import Entry, Preference, Reason, Refused, Row, preference

_CHOSEN, _REJECTED = ("preferred_output", "preferred_completion"), ("non_preferred_output", "non_preferred_completion")
_TOGETHER_ROLES = ("system", "user", "assistant", "tool")


def _claims(row: Row) -> bool:
    return (
        has(row, dict, "input")
        and "messages" in row["input"]
        and any(has(row, list, one, other) for one, other in zip(_CHOSEN, _REJECTED, strict=True))
    )


def _read(row: Row) -> list[Preference]:
    asked = row.get("input")
    if not isinstance(asked, dict):
        reading.wrong("input", "an object with `messages`")
    prompt = reading.messages(asked.get("messages"), "input.messages")
    chosen, rejected = (_output(row, *names) for names in (_CHOSEN, _REJECTED))
    prompt, one, other = reading.apart(prompt, chosen, rejected, Reason.SEVERAL_MESSAGES)
    tags = reading.tags(asked, ("messages", "tools")) | reading.tags(row, ("input", *_CHOSEN, *_REJECTED))
    return [preference(prompt, one, other, reading.tools(asked.get("tools"), "input.tools"), tags)]


def _output(row: Row, name: str, early_name: str) -> reading.Messages:
    """Its messages. The API's schema of early 2025 had another name for it."""
    here = early_name if row.get(name) is None and early_name in row else name
    return reading.messages(row.get(here), here)


def _write(entry: Entry) -> dict[str, Any]:
    pair = writing.pair_of(entry)
    asked: dict[str, Any] = {"messages": [writing.plain(message) for message in writing.conversation(pair)]}
    if pair.tools:
        asked["tools"] = list(pair.tools)
    return {
        "input": asked,
        "preferred_output": [writing.plain(writing.as_message(pair.chosen))],
        "non_preferred_output": [writing.plain(writing.as_message(pair.rejected))],
    }


def _write_together(entry: Entry) -> dict[str, Any]:
    """Its checker refuses parts, messages without text, developers, one role twice in a row, a last word of the model."""
    pair = writing.pair_of(entry)
    prompt = writing.conversation(pair)
    replies = [writing.as_message(reply) for reply in (pair.chosen, pair.rejected)]
    if any(isinstance(message.content, tuple) for message in (*prompt, *replies)):
        raise Refused(Reason.PARTS)
    if any(message.content is None for message in (*prompt, *replies)):
        raise Refused(Reason.TOOL_CALLS, "Together wants text in every message, and one has tool calls only.")
    if any(message.role not in _TOGETHER_ROLES for message in prompt):
        raise Refused(Reason.ROLE)
    if any(one.role == next_one.role for one, next_one in pairwise(prompt)):
        raise Refused(Reason.ROLE, "Together wants no two messages of one role in a row.")
    if prompt[-1].role == "assistant":
        raise Refused(Reason.ROLE, "Together wants no prompt that ends with the assistant.")
    return _write(pair)


FORMATS = (
    Format("openai", _claims, _read, _write),
    Format("azure", never, _read, _write),
    Format("fireworks", never, _read, _write),
    Format("together", never, _read, _write_together),
)
