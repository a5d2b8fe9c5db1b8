"""What a key must allow for an event to be accepted. Pure."""

from collections.abc import Iterable
from datetime import datetime

from ingest.events import ErasureEvent, Event, Feedback, GenerationEvent, PreferenceEvent, ScoreEvent, canonical, record_key
from ingest.keys import Principal, Scope
from ingest.log import NewRecord


def needed_scopes(event: Event) -> frozenset[Scope]:
    """The scopes that a key needs to send this event: what is reserved, or else `feedback`."""
    return frozenset(_reserved(event)) or frozenset({"feedback"})


def admit(caller: Principal, events: Iterable[Event]) -> None:
    """Pass if the caller may send each of these events.

    Raises:
        Problem: 403, naming the scope that is missing.
    """
    for event in events:
        for scope in sorted(needed_scopes(event)):
            caller.require(scope, event.task)


def to_record(event: Event, received_at: datetime, key_id: str) -> NewRecord:
    """The event as it is appended: equal events have equal bytes, what we know beside it stands in the headers."""
    headers = (("received-at", received_at.isoformat().encode()), ("key-id", key_id.encode()))
    return NewRecord(record_key(event).encode(), canonical(event), headers)


def _reserved(event: Event) -> Iterable[Scope]:
    if event.by == "expert":
        yield "expert"
    if event.by == "criterion" or isinstance(event, ScoreEvent):  # all scores together are the criteria's one vote
        yield "criterion"
    match event:
        case GenerationEvent():
            yield "carried-generation"
            if event.purpose == "evaluation":
                yield "admin"
        case PreferenceEvent():
            yield "preference"
        case ErasureEvent():
            yield "erasure"
        case Feedback(generation=carried) if carried:
            # Carrying a generation is no licence to give feedback.
            yield "carried-generation"
            if event.by == "user":
                yield "feedback"
