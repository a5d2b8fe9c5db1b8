"""From the fields of a row to messages, replies, tools and tags. Text is kept code point by code point."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from ingest.events import Message, Prompt, Reply, TextPart, Tool
from pairing.formats.strict import NotJson, decode, is_json
from pairing.formats.values import Reason, Refused, Row

Messages = tuple[Message, ...]
_messages: TypeAdapter[Messages] = TypeAdapter(Messages)
_tools: TypeAdapter[tuple[Tool, ...]] = TypeAdapter(tuple[Tool, ...])
_MESSAGE_FIELDS = frozenset(Message.model_fields)
TOOL_LEVELS = 100
"""Of lists and objects in each other that definitions of tools may have: they fit into the rows of any format, and any event."""
_MEDIA = frozenset({"image", "images", "audio", "audios", "video", "videos"})
_TOOLS = frozenset({"tools", "functions", "toolConfig"})


def wrong(name: str, wanted: str) -> NoReturn:
    """Refuse the row for one of its fields."""
    raise Refused(Reason.WRONG_FIELD, f"`{name}` must be {wanted}.")


def text(row: Row, name: str) -> str:
    """A field that is text.

    Raises:
        Refused: it is missing or something else.
    """
    value = row.get(name)
    return value if isinstance(value, str) else wrong(name, "text")


def objects(row: Row, name: str) -> list[Row]:
    """A field that is a list of objects.

    Raises:
        Refused: it is missing or something else.
    """
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        wrong(name, "a list of objects")
    return value


def messages(value: Any, name: str) -> Messages:
    """One message or more, as OpenAI's chat API has them. Fields that are null are as if they were not there.

    Raises:
        Refused: they are not that, hold more than text, or hold a field that would be lost.
    """
    if not isinstance(value, list) or not value:
        wrong(name, "a list of messages")
    try:
        return _messages.validate_python([_message(one, name) for one in value])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in _MESSAGE_FIELDS)
        raise Refused(Reason.WRONG_MESSAGE, f"`{name}.{place}`: {first['msg']}.") from None


def message(value: Any, name: str) -> Message:
    """One message; Refused as `messages`."""
    return messages([value], name)[0]


def reply(value: Any, name: str) -> Reply:
    """A reply: text, a message, or a list of one message.

    Raises:
        Refused: it is something else, or several messages.
    """
    if isinstance(value, str):
        return value
    found = messages(value if isinstance(value, list) else [value], name)
    if len(found) > 1:
        raise Refused(Reason.SEVERAL_MESSAGES, f"`{name}` is {len(found)} messages.")
    return found[0]


def apart(prompt: Messages, chosen: Messages, rejected: Messages, otherwise: Reason) -> tuple[Messages, Message, Message]:
    """Prompt and the two replies, where both sides may begin alike.

    A pair has one message on each side. What both sides say first, message for message the same, belongs to the prompt: an
    implicit prompt, or calls of tools with their results. What differs after that must be one message.

    Raises:
        Refused: it is several; with the reason `otherwise`.
    """
    alike = 0
    while alike < min(len(chosen), len(rejected)) - 1 and chosen[alike] == rejected[alike]:
        alike += 1
    if len(chosen) - alike > 1 or len(rejected) - alike > 1:
        raise Refused(otherwise)
    if not prompt + chosen[:alike]:
        raise Refused(Reason.NO_PROMPT)
    return prompt + chosen[:alike], chosen[alike], rejected[alike]


def prompt(value: Any, name: str) -> Prompt:
    """A prompt: text or messages; Refused as `messages`."""
    return value if isinstance(value, str) else messages(value, name)


def asked(system: Any, said: str) -> Messages:
    """A conversation of one turn. A system prompt that is empty is none."""
    before = (Message(role="system", content=system),) if isinstance(system, str) and system else ()
    return (*before, Message(role="user", content=said))


def tools(value: Any, name: str = "tools") -> tuple[Tool, ...] | None:
    """Definitions of tools: a list, or a list in JSON text; none at all is as good as an empty list.

    Raises:
        Refused: they are something else.
    """
    if isinstance(value, str) and value:
        try:
            value = decode(value.encode())
        except NotJson:
            wrong(name, "a list of tools, or that list as JSON text")
    if not is_json(value, TOOL_LEVELS):
        wrong(name, "a list of tools that JSON can say, and not nested too deeply")
    try:
        return _tools.validate_python(value) if value else None
    except ValidationError:
        wrong(name, "a list of tools, with finite numbers")


def blocks(value: Any, name: str) -> str | tuple[TextPart, ...]:
    """Content in blocks that hold nothing but `text`; one block is plain text.

    Raises:
        Refused: it is something else, or holds images and the like.
    """
    if not isinstance(value, list) or not all(isinstance(block, dict) for block in value):
        wrong(name, "a list of text blocks")
    if others := sorted({key for block in value for key, held in block.items() if held is not None} - {"text"}):
        raise Refused(Reason.NOT_TEXT, f"`{name}` holds {', '.join(others)}.")
    texts = [text(block, "text") for block in value]
    return texts[0] if len(texts) == 1 else tuple(TextPart(type="text", text=one) for one in texts)


def tags(row: Row, used: Collection[str]) -> dict[str, str]:
    """Everything else that the row says, as text.

    Raises:
        Refused: it says more of the prompt: images and the like beside it, or tools where the format has none.
    """
    others = {name: value for name, value in row.items() if name not in used and value is not None}
    if media := _filled(others, _MEDIA):
        raise Refused(Reason.NOT_TEXT, f"The row has {media} beside its text.")
    if found := _filled(others, _TOOLS):
        raise Refused(Reason.TOOLS, f"`{found}` stands where the format has no tools, and would be lost.")
    return {name: as_tag(value) for name, value in others.items() if name not in _MEDIA | _TOOLS}


def as_tag(value: Any) -> str:
    """As text; what JSON has no form for (a date of Parquet's) as Python writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _filled(row: Row, names: Collection[str]) -> str:
    """Those of these fields that hold anything."""
    return ", ".join(sorted(name for name in names if row.get(name)))


def _message(value: Any, name: str) -> dict[str, Any]:
    """Without what says nothing: nulls, and the empty lists (of calls, of annotations) that APIs answer with."""
    if not isinstance(value, Mapping):
        wrong(name, "a list of messages")
    plain = {key: held for key, held in value.items() if held is not None and (held != [] or key == "content")}
    if media := _filled(plain, _MEDIA):
        raise Refused(Reason.NOT_TEXT, f"A message of `{name}` holds {media}.")
    if others := plain.keys() - _MESSAGE_FIELDS:
        raise Refused(Reason.WRONG_MESSAGE, f"A message of `{name}` has {', '.join(sorted(others))}, which would be lost.")
    if isinstance(plain.get("content"), list):
        plain["content"] = [_part(part, name) for part in plain["content"]]
    if "tool_calls" in plain:
        plain["tool_calls"] = _calls(plain["tool_calls"])
    return plain


def _part(value: Any, name: str) -> Any:
    kind = value.get("type") if isinstance(value, dict) else type(value).__name__
    if kind != "text":
        raise Refused(Reason.NOT_TEXT, f"A message of `{name}` holds a part of the kind {str(kind)[:40]}.")
    return {key: held for key, held in value.items() if held is not None}


def _calls(calls: Any) -> Any:
    """With arguments as text: Hugging Face's data sets also have them as objects."""
    if not isinstance(calls, Sequence):
        return calls
    return [_call(call) if isinstance(call, dict) else call for call in calls]


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: held for key, held in call.items() if held is not None}
    function = plain.get("function")
    if isinstance(function, dict) and isinstance(function.get("arguments"), dict) and is_json(function["arguments"], TOOL_LEVELS):
        plain["function"] = {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}
    return plain
