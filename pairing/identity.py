"""What makes two prompts, replies or pairs the same: canonical forms and their hashes."""

import hashlib
import json
from typing import NamedTuple

from pydantic import TypeAdapter

from ingest.events import Message, Prompt, Reply, Tool, canonical, fingerprint

_prompts: TypeAdapter[Prompt] = TypeAdapter(Prompt)
_encode = json.JSONEncoder(ensure_ascii=False).encode
Key = tuple[str, str]
"""A task, and a user, an event id or a prompt's hash."""


class Text(NamedTuple):
    """What a reply says."""

    json: str  # canonical
    hash: str  # by which it is told from others


def prompt_json(prompt: Prompt) -> str:
    """The prompt as canonical JSON."""
    if isinstance(prompt, str):
        return _encode(prompt)
    if all(map(_is_plain, prompt)):
        return f"[{','.join(map(_plain_json, prompt))}]"
    return canonical(_prompts.dump_python(prompt, mode="json", exclude_defaults=True)).decode()


def tools_json(tools: tuple[Tool, ...] | None) -> str | None:
    """The tools as canonical JSON; no tools and an empty list are the same."""
    return canonical(tools).decode() if tools else None


def reply_json(reply: Reply, as_message: bool) -> str:
    """The reply as canonical JSON: a message where the prompt is messages, else text.

    So `"Hello"` and an assistant's message that says "Hello" are the same reply. A reply with tool calls stays a message.
    """
    if isinstance(reply, str):
        return f'{{"content":{_encode(reply)},"role":"assistant"}}' if as_message else _encode(reply)
    if not as_message and reply.role == "assistant" and _is_plain(reply):
        return _encode(reply.content)
    return _plain_json(reply) if _is_plain(reply) else canonical(reply).decode()


def text_of(reply: Reply, as_message: bool) -> Text:
    """reply_json, and its hash."""
    said = reply_json(reply, as_message)
    return Text(said, reply_hash(said))


def _is_plain(message: Message) -> bool:
    """Whether a message is nothing but text."""
    more = message.tool_calls is not None or message.name is not None or message.tool_call_id is not None
    return isinstance(message.content, str) and not more


def _plain_json(message: Message) -> str:
    """A plain message as `canonical` writes it, in a fraction of the time: most messages are plain."""
    return f'{{"content":{_encode(message.content)},"role":"{message.role}"}}'


def prompt_hash(prompt: str, tools: str | None) -> str:
    """SHA-256 of a prompt and its tools, both as canonical JSON."""
    return _hash(prompt, tools or "")


def reply_hash(reply: str) -> str:
    """SHA-256 of a reply as canonical JSON."""
    return fingerprint(reply.encode())


def replies_hash(prompt: str, one: str, other: str) -> str:
    """SHA-256 of a prompt's hash and of two replies' hashes, in any order."""
    return _hash(prompt, *sorted((one, other)))


def pair_id(task: str, prompt: str, chosen: str, rejected: str) -> str:
    """SHA-256 of the task and of the hashes of prompt (with tools), chosen and rejected reply."""
    return _hash(task, prompt, chosen, rejected)


def _hash(*parts: str) -> str:
    """Of parts without NUL: hashes, names, and canonical JSON, which writes it as an escape."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
