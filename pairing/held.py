"""What an event holds by itself: a generation whole, a prompt, and the names of generations."""

from collections.abc import Iterator
from typing import NamedTuple

from ingest.events import (
    ChoiceEvent,
    ErasureEvent,
    Event,
    Feedback,
    Generation,
    GenerationEvent,
    PreferenceEvent,
    Prompt,
    RegenerationEvent,
)
from pairing.identity import prompt_hash, prompt_json, reply_json, tools_json
from pairing.rules.votes import Generated, written_by

RECORDED, CARRIED = "0", "1"
"""How a version's rank begins."""


class Version(NamedTuple):
    """A generation as one event holds it. Of several the least rank counts, then the least event id."""

    generation_id: str
    event_id: str
    rank: str
    prompt_hash: str
    evaluation: bool
    user: str | None


class Asked(NamedTuple):
    """A prompt with its tools."""

    value: Prompt
    hash: str
    prompt: str  # canonical JSON
    tools: str | None  # canonical JSON


def named(event: Event) -> Iterator[str]:
    """The generations that a feedback is about, each once."""
    match event:
        case GenerationEvent() | PreferenceEvent() | ErasureEvent():
            return
        case ChoiceEvent():
            yield from {ref.generation_id for ref in event.shown}
        case RegenerationEvent():
            yield from {event.reply.generation_id, event.replacement}
        case _:
            yield event.reply.generation_id


def held(event: Event) -> Generation | None:
    """The generation that an event holds whole."""
    if isinstance(event, GenerationEvent):
        return event
    return event.generation if isinstance(event, Feedback) else None


def reaches(event: Event) -> Iterator[str]:
    """The generations that an event names or holds."""
    yield from named(event)
    if found := held(event):
        yield found.generation_id


def asked(event: Event) -> Asked | None:
    """The prompt that an event holds."""
    holder = event if isinstance(event, PreferenceEvent) else held(event)
    if holder is None:
        return None
    prompt, tools = prompt_json(holder.prompt), tools_json(holder.tools)
    return Asked(holder.prompt, prompt_hash(prompt, tools), prompt, tools)


def generated(event: Event, prompt_hash: str) -> Generated | None:
    """The generation that an event holds, as the rules read it."""
    found = held(event)
    if found is None:
        return None
    as_messages = not isinstance(found.prompt, str)
    replies = tuple([reply_json(candidate.reply, as_messages) for candidate in found.candidates])
    return Generated(event.event_id, prompt_hash, is_evaluation(event), written_by(found), as_messages, replies)


def is_evaluation(event: Event) -> bool:
    """Whether an event is the record of a reply that was written to judge an adapter."""
    return isinstance(event, GenerationEvent) and event.purpose == "evaluation"


def version_of(event: Event, holds: Generated, body_hash: str) -> Version | None:
    """The generation that an event holds, as one version of several."""
    found = held(event)
    if found is None:
        return None
    rank = (RECORDED if isinstance(event, GenerationEvent) else CARRIED) + body_hash
    return Version(found.generation_id, event.event_id, rank, holds.prompt_hash, holds.evaluation, event.user)
