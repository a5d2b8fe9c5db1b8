"""What every format holds, one way or another: a preference or an unpaired example; and why a row was refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingest.events import Message, Prompt, Reply, Tool
from pairing.outcomes import Meaning

Row = Mapping[str, Any]
"""One row of a file, as JSON has it."""


class Reason(Meaning):
    """Why a row was refused."""

    NOT_JSON = "not-json", "The line is not one JSON object in UTF-8, with finite numbers and each key once."
    NOT_TEXT = "not-text", "Images, audio or other content that is not text: kept nowhere, so not taken in part."
    OTHER_FORMAT = "other-format", "The row looks like another format than the first rows of the file."
    TOO_LONG = "too-long", "Larger than one event may be."
    WRONG_FIELD = "wrong-field", "A field that the format needs is missing, or is of another kind."
    WRONG_MESSAGE = "wrong-message", "A message has an unknown role or field, or says nothing."
    NOT_A_PAIR = "not-a-pair", "Nothing is rejected: a row for supervised training."
    TIE = "tie", "None is better than the other."
    SAME_TEXT = "same-text", "Chosen and rejected reply are the same."
    DIFFERENT_PROMPTS = "different-prompts", "The two replies do not answer the same prompt."
    NO_PROMPT = "no-prompt", "There is no prompt, or the two replies have no beginning in common."
    SEVERAL_MESSAGES = "several-messages", "A reply is several messages; a pair has one on each side."
    NOT_ASSISTANT = "not-assistant", "A reply that is not the assistant's."
    REFUSED_BY_SERVICE = "refused-by-service", "The service does not take it; the detail is its answer."

    PAIRED = "paired", "The format holds unpaired examples, and this is a pair."
    UNPAIRED = "unpaired", "The format holds pairs, and this is an unpaired example."
    TEXT_PROMPT = "text-prompt", "The format holds conversations, and the prompt is plain text."
    CONVERSATION = "conversation", "The format holds plain text, and the prompt is a conversation."
    TOOLS = "tools", "The format has no place for tool definitions."
    TOOL_CALLS = "tool-calls", "The format has no place for tool calls or their results."
    PARTS = "parts", "The format cannot tell text in parts from plain text."
    NAME = "name", "The format has no place for the names of speakers."
    ROLE = "role", "The format has no place for a message of this role there."


class Refused(Exception):
    """This row cannot be kept whole in the other form. Go on with the next; the detail never quotes its texts."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason.meaning)
        self.reason = reason

    @property
    def detail(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class Preference:
    """A ready pair. Made by `preference`, so that equal pairs are equal values."""

    prompt: Prompt
    chosen: Reply
    rejected: Reply
    tools: tuple[Tool, ...] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """An unpaired reply that is good or bad. Made by `example`."""

    prompt: Prompt
    completion: Reply
    label: bool
    tools: tuple[Tool, ...] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


Entry = Preference | Example


def preference(
    prompt: Prompt, chosen: Reply, rejected: Reply, tools: Sequence[Tool] | None = None, tags: Mapping[str, str] | None = None
) -> Preference:
    """A pair whose replies are messages where the prompt is, and text where it is.

    Raises:
        Refused: a reply is not the assistant's, or both are the same.
    """
    one, other = _reply(prompt, chosen), _reply(prompt, rejected)
    if one == other:
        raise Refused(Reason.SAME_TEXT)
    return Preference(prompt, one, other, tuple(tools) if tools else None, tags or {})


def example(
    prompt: Prompt, completion: Reply, label: bool, tools: Sequence[Tool] | None = None, tags: Mapping[str, str] | None = None
) -> Example:
    """As `preference`, for one reply.

    Raises:
        Refused: the reply is not the assistant's.
    """
    return Example(prompt, _reply(prompt, completion), label, tuple(tools) if tools else None, tags or {})


def _reply(prompt: Prompt, reply: Reply) -> Reply:
    """As pairing.identity has it: equal replies are equal, whichever way they are written."""
    if isinstance(reply, str):
        return reply if isinstance(prompt, str) else Message(role="assistant", content=reply)
    if reply.role != "assistant":
        raise Refused(Reason.NOT_ASSISTANT)
    if not isinstance(prompt, str) or not isinstance(reply.content, str):
        return reply
    return reply.content if reply == Message(role="assistant", content=reply.content) else reply
