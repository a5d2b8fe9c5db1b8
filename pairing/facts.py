"""What follows from single events, whatever else is known: the generations they name and hold, and the prompts asked."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session

from ingest.events import (
    ChoiceEvent,
    ErasureEvent,
    Event,
    Feedback,
    Generation,
    GenerationEvent,
    PreferenceEvent,
    RegenerationEvent,
)
from pairing.decoding import Accepted
from pairing.holdout import Split, Splitter
from pairing.identity import prompt_hash, prompt_json, tools_json
from pairing.rows import insert_all, insert_new
from pairing.tables import AskedPrompt, EventGeneration, GenerationVersion

Asked = tuple[str, str | None, Split]
"""A prompt, its tools, both as canonical JSON, and its side."""


@dataclass(frozen=True, slots=True)
class Version:
    """A generation as one event holds it. Of several the least rank counts, then the least event id."""

    generation_id: str
    event_id: str
    rank: str
    prompt_hash: str
    evaluation: bool
    user: str | None


@dataclass(slots=True)
class Facts:
    """What the new events of a task say by themselves; not yet written."""

    task: str
    split: Splitter
    events: dict[str, Accepted] = field(default_factory=dict)
    generations: set[str] = field(default_factory=set)  # that the events name or hold
    versions: list[Version] = field(default_factory=list)
    prompts: dict[str, Asked] = field(default_factory=dict)
    _names: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, accepted: Accepted) -> None:
        """Take an event in that was not stored before."""
        self.events[accepted.event.event_id] = accepted
        self.state(accepted)

    def state(self, accepted: Accepted) -> None:
        """Take in what an event says, but not the event: its row is there."""
        event = accepted.event
        for generation_id in named(event):
            self._names.append((self.task, generation_id, event.event_id))
            self.generations.add(generation_id)
        if found := held(event):
            self.generations.add(found.generation_id)
            self.versions.append(self._version(accepted, found))
        if isinstance(event, PreferenceEvent):
            self.ask(event)

    def ask(self, asked: Generation | PreferenceEvent) -> str:
        """The hash of a prompt, which is kept."""
        prompt, tools = prompt_json(asked.prompt), tools_json(asked.tools)
        hashed = prompt_hash(prompt, tools)
        if hashed not in self.prompts:
            self.prompts[hashed] = prompt, tools, self.split(asked.prompt)
        return hashed

    def write(self, session: Session) -> None:
        """Insert all but the events themselves."""
        insert_new(session, AskedPrompt, _PROMPT, [(self.task, hashed, *asked) for hashed, asked in self.prompts.items()])
        insert_all(session, EventGeneration, ("task", "generation_id", "event_id"), self._names)
        insert_all(session, GenerationVersion, _VERSION, (self._row(version) for version in self.versions))

    def _row(self, version: Version) -> tuple[Any, ...]:
        return (
            self.task,
            version.generation_id,
            version.event_id,
            version.rank,
            version.prompt_hash,
            version.evaluation,
            version.user,
        )

    def _version(self, accepted: Accepted, held: Generation) -> Version:
        event = accepted.event
        rank = f"{0 if isinstance(event, GenerationEvent) else 1}{accepted.body_hash}"
        evaluation = isinstance(event, GenerationEvent) and event.purpose == "evaluation"
        return Version(held.generation_id, event.event_id, rank, self.ask(held), evaluation, event.user)


_PROMPT = ("task", "hash", "prompt", "tools", "split")
_VERSION = ("task", "generation_id", "event_id", "rank", "prompt_hash", "evaluation", "user")


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
