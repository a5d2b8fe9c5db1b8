"""What the plain model of the rules speaks of: the events of one task, the replies that they name, and votes."""

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from ingest.events import (
    AcceptanceEvent,
    ChoiceEvent,
    EditEvent,
    Event,
    Generation,
    GenerationEvent,
    PreferenceEvent,
    RatingEvent,
    RegenerationEvent,
    ReplyRef,
    ScoreEvent,
)
from ingest.settings import HoldoutSettings, TaskSettings

E = TypeVar("E")
T = TypeVar("T")

_FINALITY = ("evaluation", "unknown-candidate", "waiting-for-generation")
"""Of several replies that cannot be compared, which one is the reason."""


@dataclass(frozen=True)
class Asked:
    """A prompt with its tools, as JSON: what two replies must share to be compared."""

    prompt: str
    tools: str | None


@dataclass(frozen=True)
class Reply:
    """A reply that somebody preferred or threw away."""

    asked: Asked
    text: str
    held_by: str
    adapter: str | None


@dataclass(frozen=True)
class Vote:
    """What an event says: to this prompt, rather this reply than that one."""

    voter: Hashable
    order: tuple[Any, ...]
    source: str
    chosen: Reply
    rejected: Reply
    says: frozenset[str]
    """The feedback whose outcome it decides."""
    behind: frozenset[str]
    """All events that it rests on: feedback, and what holds the generations."""
    compared: frozenset[Reply]
    """Every reply of either text that was met."""

    def adapter(self, text: str) -> str | None:
        """That wrote this reply: of several the first by name."""
        return min((one.adapter for one in self.compared if one.adapter and one.text == text), default=None)

    @property
    def replies(self) -> tuple[Asked, frozenset[str]]:
        return self.chosen.asked, frozenset((self.chosen.text, self.rejected.text))


@dataclass(frozen=True)
class Closing:
    """An event that kept a reply: the one that it named, and what was kept."""

    event: ChoiceEvent | EditEvent | AcceptanceEvent
    ref: ReplyRef
    kept: Reply


class NoReply(Exception):
    """What is named cannot be compared; the message is the outcome that says why."""


@dataclass
class Story:
    """The events of one task that count, and what is found out about them."""

    events: Sequence[Event]
    task: TaskSettings
    holdout: HoldoutSettings
    outcomes: dict[str, str] = field(default_factory=dict)
    said: dict[tuple[str, str, str], Vote] = field(default_factory=dict)
    """Votes by event and by the texts of the two replies."""
    examples: dict[Any, bool] = field(default_factory=dict)

    @property
    def votes(self) -> list[Vote]:
        return list(self.said.values())

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def reason(self, events: Iterable[Event], outcome: str) -> None:
        """Why nothing came of these events. The first reason found stays."""
        for event in events:
            self.outcomes.setdefault(event.event_id, outcome)

    @cached_property
    def generations(self) -> dict[str, tuple[Generation, str]]:
        """The version that counts, and the event that holds it: the gateway's record before what feedback carries, and that by
        who says what, then by event id."""
        recorded = [(0, "", event.event_id, event) for event in self.of(GenerationEvent)]
        carrying = [(event, one) for event in self.events if (one := getattr(event, "generation", None))]
        carried = [(1, _standing_of(event), event.event_id, one) for event, one in carrying]
        best_last = sorted([*recorded, *carried], key=lambda one: one[:3], reverse=True)
        return {version.generation_id: (version, event_id) for *_, event_id, version in best_last}

    @cached_property
    def choices(self) -> dict[str, ChoiceEvent]:
        """By id. A later choice of the same person on one of its generations replaces a choice whole."""
        every = {one.event_id: one for one in self.of(ChoiceEvent)}
        on = [(person(one), ref.generation_id, one.event_id) for one in every.values() for ref in one.shown]
        lasting = last_of_each(on, lambda place: place[:2], by=lambda place: order(every[place[2]]))
        return {id_: one for id_, one in every.items() if all(place in lasting for place in on if place[2] == id_)}

    @cached_property
    def edits(self) -> dict[str, tuple[EditEvent, ReplyRef]]:
        """By id, a person's last edit of each draft, and that draft."""
        found: list[tuple[EditEvent, ReplyRef]] = []
        for edit in self.of(EditEvent):
            try:
                found.append((edit, self.draft(edit)))
            except NoReply as why:
                self.reason([edit], str(why))
        lasting = last_of_each(found, lambda one: (person(one[0]), one[1]), by=lambda one: order(one[0]))
        return {edit.event_id: (edit, ref) for edit, ref in lasting}

    @cached_property
    def closings(self) -> dict[str, list[Closing]]:
        """By generation, what kept a reply of it: a choice, an edit or an acceptance."""
        found: defaultdict[str, list[Closing]] = defaultdict(list)
        for event in (*self.choices.values(), *(edit for edit, _ in self.edits.values()), *self.of(AcceptanceEvent)):
            with contextlib.suppress(NoReply):
                if isinstance(event, EditEvent):
                    _, ref = self.edits[event.event_id]
                    found[ref.generation_id].append(Closing(event, ref, self.saved(event, ref)))
                elif isinstance(event, AcceptanceEvent):
                    found[event.reply.generation_id].append(Closing(event, event.reply, self.reply(event.reply)))
                elif isinstance(event.picked, ReplyRef):
                    kept = self.shown(event)[event.shown.index(event.picked)]
                    found[event.picked.generation_id].append(Closing(event, event.picked, kept))
        return found

    def draft(self, edit: EditEvent) -> ReplyRef:
        """The model's draft of an edit: that of the edit that it started from, if it started from one.

        Raises:
            NoReply: that is not there, or of another generation.
        """
        seen = {edit.event_id}
        while edit.edit_of is not None:
            earlier = next((one for one in self.of(EditEvent) if one.event_id == edit.edit_of), None)
            if earlier is None or earlier.reply.generation_id != edit.reply.generation_id:
                raise NoReply("waiting-for-edit")
            if earlier.event_id in seen:
                raise NoReply("cycle")
            seen.add(earlier.event_id)
            edit = earlier
        return edit.reply

    def reply(self, ref: ReplyRef) -> Reply:
        """Raises NoReply where there is none to learn from."""
        version, holder = self.generations.get(ref.generation_id, (None, ""))
        if version is None:
            raise NoReply("waiting-for-generation")
        if isinstance(version, GenerationEvent) and version.purpose == "evaluation":
            raise NoReply("evaluation")
        if ref.candidate >= len(version.candidates):
            raise NoReply("unknown-candidate")
        nobody_said = not (isinstance(version, GenerationEvent) or version.model)
        adapter = version.adapter or (None if nobody_said else "base")
        return Reply(asked_of(version), said(version.candidates[ref.candidate].reply, version.prompt), holder, adapter)

    def shown(self, choice: ChoiceEvent) -> list[Reply]:
        """The replies that were shown. Raises NoReply unless they can be compared."""
        whole, lacking = [], set()
        for ref in choice.shown:
            try:
                whole.append(self.reply(ref))
            except NoReply as why:
                lacking.add(str(why))
        if lacking:
            raise NoReply(min(lacking, key=_FINALITY.index))
        if len({reply.asked for reply in whole}) > 1:
            raise NoReply("different-prompts")
        return whole

    def saved(self, edit: EditEvent, ref: ReplyRef) -> Reply:
        """What a person saved over a draft. A draft that was saved as it is was written by the model all the same."""
        draft = self.reply(ref)
        text = said(edit.saved, json.loads(draft.asked.prompt))
        return Reply(draft.asked, text, draft.held_by, draft.adapter if text == draft.text else None)

    def vote(
        self,
        event: Event,
        on: str,
        source: str,
        chosen: Reply,
        rejected: Reply,
        also: Iterable[Event] = (),
        voter: Hashable = None,
    ) -> None:
        """What an event says of two replies by itself and by closing a chain is one vote, of its own source.

        Args:
            on: the generation that tells people without a name apart.
            also: other feedback that it rests on.
            voter: if it is no person.
        """
        key = event.event_id, chosen.text, rejected.text
        same = self.said.get(key)
        says = ids([event, *also]) | (same.says if same else set())
        compared = frozenset((chosen, rejected)) | (same.compared if same else set())
        self.said[key] = Vote(
            voter=voter or voter_of(event, on),
            order=order(event),
            source=same.source if same else source,
            chosen=chosen,
            rejected=rejected,
            says=says,
            behind=(says | {reply.held_by for reply in compared}) - {""},
            compared=compared,
        )


def _standing_of(event: Event) -> str:
    """Of what carries a generation: links come first; the others by who they are of, but for thumbs, acceptances and scores."""
    if isinstance(event, RegenerationEvent) or (isinstance(event, EditEvent) and event.edit_of is not None):
        return ""
    if isinstance(event, AcceptanceEvent | RatingEvent):
        return "alone"
    if isinstance(event, ScoreEvent):
        return "score"
    return event.by + (f" {event.user}" if event.user is not None else "")


def person(event: Event) -> Hashable:
    """An expert is another person than a user of the same name."""
    return event.by, event.user


def voter_of(event: Event, on: str) -> Hashable:
    """Who has one vote: a person, or whoever it was that got this generation."""
    return person(event) if event.user is not None else (event.by, None, on)


def order(event: Event) -> tuple[Any, ...]:
    """The greatest is the last."""
    return (-1 if event.revision is None else event.revision, event.occurred_at, event.event_id)


def last_of_each(things: Iterable[T], what: Callable[[T], Hashable], by: Callable[[T], Any] = order) -> list[T]:  # type: ignore[assignment]  # of events
    """Of those about the same the last."""
    groups: defaultdict[Hashable, list[T]] = defaultdict(list)
    for thing in things:
        groups[what(thing)].append(thing)
    return [max(group, key=by) for group in groups.values()]


def ids(events: Iterable[Event]) -> frozenset[str]:
    return frozenset(event.event_id for event in events)


def asked_of(one: Generation | PreferenceEvent) -> Asked:
    plain = one.model_dump(mode="json", exclude_defaults=True)
    return Asked(_json(plain["prompt"]), _json(plain["tools"]) if one.tools else None)


def said(reply: Any, prompt: Any) -> str:
    """The same words are the same reply: as a message where the prompt is messages, else as text."""
    plain = reply if isinstance(reply, str) else reply.model_dump(mode="json", exclude_defaults=True)
    if isinstance(plain, str):
        return _json(plain if isinstance(prompt, str) else {"role": "assistant", "content": plain})
    only_words = plain == {"role": "assistant", "content": plain.get("content")} and isinstance(plain["content"], str)
    return _json(plain["content"] if only_words and isinstance(prompt, str) else plain)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
