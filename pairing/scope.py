"""What must be derived together: events, those that share generations with them, and all that they rest on."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session

from ingest.events import Event, Feedback, GenerationEvent, PreferenceEvent, event_adapter
from pairing.facts import Facts, Version
from pairing.held import generated, held, named
from pairing.outcomes import Outcome
from pairing.rows import select_by
from pairing.rules.votes import Generated
from pairing.tables import EventGeneration, GenerationVersion, StoredEvent

_VERSION = ("generation_id", "event_id", "rank", "prompt_hash", "evaluation", "user")


@dataclass(frozen=True, slots=True)
class Start:
    """Where to start from: generations, and events that name none."""

    generations: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Scope:
    """Events to derive together, with what is known of their generations."""

    feedback: Sequence[Event]
    generations: Mapping[str, Generated]
    stored: Mapping[str, str]  # of the events that were there before, the outcome so far
    decided: Mapping[str, Outcome]  # that no rule changes
    skeletons: frozenset[str]  # events whose content was removed: votes that they decided go


@dataclass(slots=True)
class _Reach:
    events: dict[str, Event] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)
    skeletons: set[str] = field(default_factory=set)
    generations: set[str] = field(default_factory=set)


def scope_of(session: Session, start: Start, fresh: Facts) -> Scope:
    """Read what the start and the fresh events, which are not written yet, reach."""
    reach = _reach(session, start, fresh)
    versions = [*_stored_versions(session, fresh.task, reach.generations), *fresh.versions]
    generations = _generations(session, reach.events, versions, fresh)
    feedback = [event for event in reach.events.values() if isinstance(event, Feedback | PreferenceEvent)]
    return Scope(feedback, generations, reach.stored, _decided(reach), frozenset(reach.skeletons))


def _reach(session: Session, start: Start, fresh: Facts) -> _Reach:
    """Over everything that names the same generations."""
    reach = _Reach({id_: accepted.event for id_, accepted in fresh.events.items()})
    new_generations = set(start.generations | fresh.generations)
    new_events = set(start.events)
    while new_generations or new_events:
        reach.generations |= new_generations
        keys = [(fresh.task, id_) for id_ in new_generations]
        new_events |= {row[0] for row in select_by(session, EventGeneration, ("event_id",), ("task", "generation_id"), keys)}
        found = _load(session, fresh.task, new_events - reach.events.keys(), reach)
        new_generations = {id_ for event in found for id_ in _generations_of(event)} - reach.generations
        new_events = set()
    return reach


def _load(session: Session, task: str, ids: Collection[str], reach: _Reach) -> list[Event]:
    rows = select_by(session, StoredEvent, ("event_id", "body", "outcome"), ("task", "event_id"), [(task, id_) for id_ in ids])
    found = []
    for event_id, body, outcome in rows:
        if not body:
            reach.skeletons.add(event_id)
            continue
        reach.events[event_id] = event = event_adapter.validate_json(body)
        reach.stored[event_id] = outcome
        found.append(event)
    return found


def _generations_of(event: Event) -> Iterator[str]:
    yield from named(event)
    if found := held(event):
        yield found.generation_id


def _stored_versions(session: Session, task: str, ids: Collection[str]) -> Iterable[Version]:
    keys = [(task, id_) for id_ in ids]
    return (Version(*row) for row in select_by(session, GenerationVersion, _VERSION, ("task", "generation_id"), keys))


def _generations(
    session: Session, known: Mapping[str, Event], versions: Sequence[Version], fresh: Facts
) -> Mapping[str, Generated]:
    """Of each generation the version that counts: a recorded one before carried ones, then the smallest hash."""
    best: dict[str, Version] = {}
    for version in versions:
        other = best.get(version.generation_id)
        if other is None or (version.rank, version.event_id) < (other.rank, other.event_id):
            best[version.generation_id] = version
    new = {id_: accepted.generated for id_, accepted in fresh.events.items()}
    missing = {(fresh.task, version.event_id) for version in best.values() if version.event_id not in known}
    rows = select_by(session, StoredEvent, ("event_id", "body"), ("task", "event_id"), missing)
    holders = {event_id: event_adapter.validate_json(body) for event_id, body in rows}
    return {
        id_: _holding(new.get(version.event_id) or _generated(holders, known, version), version) for id_, version in best.items()
    }


def _generated(holders: Mapping[str, Event], known: Mapping[str, Event], version: Version) -> Generated | None:
    return generated(known.get(version.event_id) or holders[version.event_id], version.prompt_hash)


def _holding(found: Generated | None, version: Version) -> Generated:
    if found is None:
        raise TypeError(f"event {version.event_id} holds no generation")
    return found


def _decided(reach: _Reach) -> dict[str, Outcome]:
    """Outcomes of the gateway's records."""
    recorded = (event for event in reach.events.values() if isinstance(event, GenerationEvent))
    return {one.event_id: Outcome.EVALUATION if one.purpose == "evaluation" else Outcome.RECORDED for one in recorded}
