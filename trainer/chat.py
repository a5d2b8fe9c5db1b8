"""Pairs in the form that chat templates read. A text prompt is one user message, a text reply one assistant message."""

import json
from collections.abc import Sequence
from typing import Any

from ingest.events import Message, Prompt, Reply

ChatMessage = dict[str, Any]


def prompt_messages(prompt: Prompt) -> list[ChatMessage]:
    """The prompt's messages, as chat templates take them."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [_message(message) for message in prompt]


def reply_message(reply: Reply) -> ChatMessage:
    """The reply as one assistant message."""
    return {"role": "assistant", "content": reply} if isinstance(reply, str) else _message(reply)


def asked(prompt: Prompt) -> str:
    """What the person asked, as criteria read it: the text of the user's messages, a line each."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(_text(message) for message in prompt if message.role == "user")


def _message(message: Message) -> ChatMessage:
    plain = message.model_dump(mode="json", exclude_none=True) | {"content": _text(message)}
    if message.tool_calls:
        plain["tool_calls"] = [_with_parsed_arguments(call) for call in plain["tool_calls"]]
    return plain


def _text(message: Message) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    return "".join(part.text for part in message.content)


def _with_parsed_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """Chat templates print the arguments as JSON themselves; given as text they would be quoted twice."""
    try:
        arguments = json.loads(call["function"]["arguments"])
    except ValueError:
        return call
    return call | {"function": call["function"] | {"arguments": arguments}}


def as_rows(pairs: Sequence[Any]) -> list[dict[str, Any]]:
    """TRL's conversational rows: prompt, chosen, rejected, and tools where any pair has them."""
    rows = [
        {"prompt": prompt_messages(p.prompt), "chosen": [reply_message(p.chosen)], "rejected": [reply_message(p.rejected)]}
        for p in pairs
    ]
    if any(pair.tools for pair in pairs):
        for row, pair in zip(rows, pairs, strict=True):
            row["tools"] = json.dumps(pair.tools or [])  # type: ignore[assignment]
    return rows
