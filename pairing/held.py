"""What an event holds by itself: a generation whole, a prompt, and the names of generations."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ingest.events import (
    ChoiceEvent,
    EditEvent,
    ErasureEvent,
    Event,
    Feedback,
    Generation,
    GenerationEvent,
    PreferenceEvent,
    Prompt,
    RegenerationEvent,
    ScoreEvent,
)
from ingest.log import Record
from pairing.holdout import Split
from pairing.identity import Key, prompt_hash, prompt_json, text_of, tools_json
from pairing.rules.votes import Generated, written_by

_ASIDE = "~"
"""With this, and the event's id at the end, a place of its own begins that sorts after all others."""
LINK, RECORD, ALONE, SCORE = "", " ", "alone", "score"
"""Places of events that do not stand by who says them: what connects generations, or edits, before all others; the gateway's
record; what is derived without any other event; and scores, of which all are compared."""


Place = tuple[str, str]
"""A generation, and a place among its events."""


class Naming(NamedTuple):
    """An event names a generation, or holds it: then the last three say something of that. A row of EventGeneration."""

    generation_id: str
    place: str  # as `place_of` says
    event_id: str
    prompt_hash: str | None
    evaluation: bool | None
    user: str | None

    @property
    def stands(self) -> str:
        """Its place, or the one from which it was set aside."""
        return self.place[len(_ASIDE) : -len(self.event_id)] if self.is_aside else self.place

    @property
    def is_aside(self) -> bool:
        """Whether it was set aside."""
        return self.place.startswith(_ASIDE)

    @property
    def version(self) -> tuple[bool, str, str]:
        """Of several events that hold a generation the least counts: the gateway's record before what feedback carries."""
        return self.place != RECORD, self.stands, self.event_id


class Asked(NamedTuple):
    """A prompt with its tools."""

    value: Prompt
    hash: str
    prompt: str  # canonical JSON
    tools: str | None  # canonical JSON


class Accepted(NamedTuple):
    """A valid event, and the record that it came in."""

    event: Event
    body_hash: str
    record: Record
    row: tuple[Any, ...]  # what is stored of it, but for its outcome
    asked: Asked | None  # the prompt that it holds
    split: Split | None  # the side of that
    generated: Generated | None  # the generation that it holds
    namings: tuple[Naming, ...]  # of the generations that it names or holds, each once
    user: Key | None  # who is behind it, of its task
    judged: Key | None  # the prompt that it repeats to judge an adapter, of its task

    @property
    def reached(self) -> set[str]:
        """The generations that it names or holds."""
        return {one.generation_id for one in self.namings}

    @property
    def body(self) -> bytes:
        """As the log holds it: ingest and gateway write canonical JSON."""
        return self.record.value

    @property
    def key(self) -> Key:
        """What makes it this event and no other."""
        return self.event.task, self.event.event_id


def named(event: Event) -> Iterator[str]:
    """The generations that a feedback is about."""
    match event:
        case GenerationEvent() | PreferenceEvent() | ErasureEvent():
            return
        case ChoiceEvent():
            yield from [ref.generation_id for ref in event.shown]
        case RegenerationEvent():
            yield from (event.reply.generation_id, event.replacement)
        case _:
            yield event.reply.generation_id


def held(event: Event) -> Generation | None:
    """The generation that an event holds whole."""
    if isinstance(event, GenerationEvent):
        return event
    return event.generation if isinstance(event, Feedback) else None


def reaches(event: Event) -> set[str]:
    """The generations that an event names or holds."""
    found, names = held(event), set(named(event))
    return names | {found.generation_id} if found else names


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
    replies = tuple([text_of(candidate.reply, as_messages) for candidate in found.candidates])
    return Generated(event.event_id, prompt_hash, is_evaluation(event), written_by(found), as_messages, replies)


def is_evaluation(event: Event) -> bool:
    """Whether an event is the record of a reply that was written to judge an adapter."""
    return isinstance(event, GenerationEvent) and event.purpose == "evaluation"


def place_of(event: Event) -> str:
    """Which of the events on one generation can change what follows from this one: those in the same place.

    Where there is a link or a new version of the generation, any of them can.
    """
    match event:
        case GenerationEvent():
            return RECORD
        case RegenerationEvent():
            return LINK
        case EditEvent() if event.edit_of is not None:
            return LINK
        case ChoiceEvent() | EditEvent():
            return event.by if event.user is None else f"{event.by} {event.user}"
        case ScoreEvent():
            return SCORE
        case _:
            return ALONE


def names_of(event: Event) -> list[tuple[str, str, str]]:
    """Generation, place and event of all names that may be stored of an event, set aside or not."""
    place, id_ = place_of(event), event.event_id
    return [(generation_id, one, id_) for generation_id in reaches(event) for one in (place, _aside(place, id_))]


def settled(names: Sequence[Naming], beaten: Collection[tuple[str, str]]) -> dict[Naming, str]:
    """Those of the names that are to stand elsewhere, and where: set aside is what the same person said before, and what stands
    alone and holds the generation too.

    Of those that hold it the least in its place stays all the same: it may be the version that counts. So who reads a place
    finds in it whatever can count, and no more, however often somebody changed their mind.
    """
    least: dict[Place, str] = {}
    for one in names:
        if one.prompt_hash is not None:
            key = one.generation_id, one.stands
            least[key] = min(least.get(key, one.event_id), one.event_id)
    moved: dict[Naming, str] = {}
    for one in names:
        surplus = (one.event_id, one.generation_id) in beaten or (one.stands == ALONE and one.prompt_hash is not None)
        goes = surplus and least.get((one.generation_id, one.stands)) != one.event_id
        place = _aside(one.stands, one.event_id) if goes else one.stands
        if place != one.place:
            moved[one] = place
    return moved


def _aside(place: str, event_id: str) -> str:
    return f"{_ASIDE}{place}{event_id}"


def namings(event: Event, holds: Generated | None) -> tuple[Naming, ...]:
    """The generations that an event names or holds, each once. `holds` is what `generated` says."""
    found, place = held(event), place_of(event)
    versions, names = [], set(named(event))
    if found is not None and holds is not None:
        names.discard(found.generation_id)
        about = (holds.prompt_hash, holds.evaluation, event.user)
        versions = [Naming(found.generation_id, place, event.event_id, *about)]
    return *versions, *[Naming(id_, place, event.event_id, None, None, None) for id_ in names]


def keep_least(versions: dict[str, Naming], more: Iterable[Naming]) -> None:
    """Of each generation that is held, let the version that counts stand among the `versions`."""
    for one in more:
        if one.prompt_hash is not None:
            other = versions.setdefault(one.generation_id, one)
            if one.version < other.version:
                versions[one.generation_id] = one
