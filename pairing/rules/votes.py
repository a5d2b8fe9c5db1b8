"""The values that the rules speak of: replies as they were written, votes, and what else became of events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from ingest.events import BASE, AcceptanceEvent, ChoiceEvent, EditEvent, Envelope, Generation, GenerationEvent, ReplyRef
from pairing.identity import Text
from pairing.outcomes import Outcome

Source = Literal["expert", "edit", "preference", "choice", "criterion", "regeneration", "rating"]
"""Who says so, and how: where several do, a pair is named after the first of these."""
Order = tuple[int, datetime, str]


class Generated(NamedTuple):
    """A generation, by the version of it that counts."""

    event_id: str
    prompt_hash: str
    evaluation: bool
    adapter: str | None  # as `written_by` says
    as_messages: bool  # the prompt is messages, and so are the replies
    replies: tuple[Text, ...]


class Found(NamedTuple):
    """One reply of a generation."""

    text: Text
    generated: Generated


@dataclass(frozen=True, slots=True)
class Replies:
    """The generations known so far, by id."""

    generations: Mapping[str, Generated]

    def find(self, ref: ReplyRef) -> Found | Outcome:
        """The reply, or why there is none to speak of."""
        generated = self.generations.get(ref.generation_id)
        if generated is None:
            return Outcome.WAITING_FOR_GENERATION
        if generated.evaluation:
            return Outcome.EVALUATION
        if ref.candidate >= len(generated.replies):
            return Outcome.UNKNOWN_CANDIDATE
        return Found(generated.replies[ref.candidate], generated)

    def find_all(self, refs: Sequence[ReplyRef]) -> list[Found] | Outcome:
        """Every reply, or why one of them is none to speak of."""
        every = [self.find(ref) for ref in refs]
        found = [reply for reply in every if isinstance(reply, Found)]
        if len(found) == len(every):
            return found
        # An order, because which one is reported must not depend on anything else.
        by_finality = (Outcome.EVALUATION, Outcome.UNKNOWN_CANDIDATE, Outcome.WAITING_FOR_GENERATION)
        return next(outcome for outcome in by_finality if outcome in every)


class Vote(NamedTuple):
    """One reply over another, to one prompt."""

    event_id: str
    voter: str
    order: Order
    source: Source
    prompt_hash: str
    chosen: Text
    rejected: Text
    chosen_adapter: str | None  # a name, BASE, or None: a person wrote it, or nobody said who did
    rejected_adapter: str | None
    events: frozenset[str]  # the feedback that says it
    held_by: frozenset[str]  # the events that hold the replies

    @property
    def key(self) -> tuple[str, str, str]:
        """No two votes of a task have the same."""
        return self.event_id, self.chosen.hash, self.rejected.hash


class Kept(NamedTuple):
    """A reply that somebody kept, as it was or edited: it closes a chain."""

    event: AcceptanceEvent | ChoiceEvent | EditEvent
    ref: ReplyRef
    text: Text  # as it was kept
    draft: Found


class Opinion(NamedTuple):
    """A person's thumb, up or down, on one reply to one prompt."""

    event_id: str
    voter: str
    order: Order
    prompt_hash: str
    reply: Text
    up: bool
    adapter: str | None  # that wrote the reply, as `written_by` says
    held_by: str  # the event that holds the reply


@dataclass(slots=True)
class Derived:
    """What follows from some events. `outcomes` holds for events that no vote counts among its own, and no opinion is.

    `beaten` names choices and edits, each with a generation on which the same person chose, or edited the same draft, later:
    without that later one's going, none of them can count there again.
    """

    votes: list[Vote] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    ratings: list[Opinion] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    beaten: set[tuple[str, str]] = field(default_factory=set)


def order(event: Envelope) -> Order:
    """The greatest is the last, whenever and wherever it came in."""
    return (-1 if event.revision is None else event.revision, event.occurred_at, event.event_id)


def written_by(held: Generation) -> str | None:
    """The adapter that wrote a generation, or BASE. None: an app that carries it says neither adapter nor model."""
    if held.adapter:
        return held.adapter
    return BASE if held.model or isinstance(held, GenerationEvent) else None


def source_of(event: Envelope, own: Source) -> Source:
    """What experts and criteria say is a source of its own, whatever they say it by."""
    return own if event.by == "user" else event.by


def person(event: Envelope) -> tuple[str, str | None]:
    """Who acted. Those without a `user` are told apart only by the generation that they act on."""
    return event.by, event.user


def voter(event: Envelope, on: str) -> str:
    """Who has one vote on two replies; without a `user`, whoever got `on`: a generation, or an event that has none."""
    return f"{event.by} user {event.user}" if event.user is not None else f"{event.by} of {on}"
