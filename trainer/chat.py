"""Pairs in the forms that chat templates and the gateway read. Plain text is a message: of the user, or of the assistant."""

import json
from typing import Any

from ingest.events import Message, Prompt, Reply, canonical

ChatMessage = dict[str, Any]


def prompt_messages(prompt: Prompt) -> list[ChatMessage]:
    """The prompt's messages, as chat templates take them."""
    return [_for_template(message) for message in _messages(prompt)]


def reply_message(reply: Reply) -> ChatMessage:
    """The reply as one assistant message, as chat templates take it."""
    return {"role": "assistant", "content": reply} if isinstance(reply, str) else _for_template(reply)


def request_messages(prompt: Prompt) -> list[ChatMessage]:
    """The prompt's messages, as an OpenAI-compatible API takes them."""
    return [message.model_dump(mode="json", exclude_none=True) for message in _messages(prompt)]


def asked(prompt: Prompt) -> str:
    """What the person asked, as criteria read it: the text of the user's messages, a line each."""
    return "\n".join(_text(message) for message in _messages(prompt) if message.role == "user")


def said(message: ChatMessage) -> str:
    """What an API's reply says: its text, or the calls of tools that came instead."""
    calls = message.get("tool_calls")
    return message.get("content") or (canonical(calls).decode() if calls else "")


def _messages(prompt: Prompt) -> tuple[Message, ...]:
    return (Message(role="user", content=prompt),) if isinstance(prompt, str) else prompt


def _for_template(message: Message) -> ChatMessage:
    plain = message.model_dump(mode="json", exclude_none=True) | {"content": _text(message)}
    if message.tool_calls:
        plain["tool_calls"] = [_with_parsed_arguments(call) for call in plain["tool_calls"]]
    return plain


def _text(message: Message) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    return "\n".join(part.text for part in message.content)  # as vLLM joins them


def _with_parsed_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """Chat templates print the arguments as JSON themselves; given as text they would be quoted twice."""
    try:
        arguments = json.loads(call["function"]["arguments"])
    except ValueError:
        return call
    return call | {"function": call["function"] | {"arguments": arguments}}
