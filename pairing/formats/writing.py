"""From a pair to what formats have in common, and the checks of what some cannot hold."""

from typing import Any

from ingest.events import Message, Reply
from pairing.formats.reading import Messages
from pairing.formats.values import Entry, Preference, Reason, Refused


def plain(message: Message) -> dict[str, Any]:
    """A message as OpenAI's chat API has it."""
    return message.model_dump(mode="json", exclude_none=True)


def pair_of(entry: Entry) -> Preference:
    """Raises Refused: it is no pair."""
    if not isinstance(entry, Preference):
        raise Refused(Reason.UNPAIRED)
    return entry


def conversation(entry: Entry) -> Messages:
    """The prompt's messages; the replies are messages, too.

    Raises:
        Refused: the prompt is plain text.
    """
    if isinstance(entry.prompt, str):
        raise Refused(Reason.TEXT_PROMPT)
    return entry.prompt


def as_message(reply: Reply) -> Message:
    """The reply to a conversation, which `preference` made a message."""
    return Message(role="assistant", content=reply) if isinstance(reply, str) else reply


def plain_text(reply: Reply) -> str:
    """What a reply of plain text says.

    Raises:
        Refused: it is more than plain text.
    """
    return reply if isinstance(reply, str) else _text_of(reply)


def without_tools(entry: Entry) -> None:
    """Raises Refused: there are tool definitions."""
    if entry.tools:
        raise Refused(Reason.TOOLS)


def blocks(message: Message) -> list[dict[str, str]]:
    """Its content in blocks of nothing but text.

    Raises:
        Refused: it is more than text, or would be read as something else.
    """
    _only_text(message)
    if isinstance(message.content, str):
        return [{"text": message.content}]
    if message.content is None or len(message.content) < 2:
        raise Refused(Reason.PARTS)
    return [{"text": part.text} for part in message.content]


def _text_of(message: Message) -> str:
    _only_text(message)
    if not isinstance(message.content, str):
        raise Refused(Reason.PARTS)
    return message.content


def _only_text(message: Message) -> None:
    if message.tool_calls is not None or message.tool_call_id is not None or message.role == "tool":
        raise Refused(Reason.TOOL_CALLS)
    if message.name is not None:
        raise Refused(Reason.NAME)
