"""What must be derived together: events, those that share generations with them, and all that they rest on."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session

from ingest.events import Event, Feedback, GenerationEvent, PreferenceEvent, event_adapter
from pairing.facts import Facts
from pairing.held import Version, generated, reaches
from pairing.outcomes import Outcome
from pairing.rows import select_by
from pairing.rules.votes import Generated
from pairing.tables import EventGeneration, StoredEvent


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
    versions: list[Version] = field(default_factory=list)


def scope_of(session: Session, start: Start, fresh: Facts) -> Scope:
    """Read what the start and the fresh events, which are not written yet, reach."""
    reach = _reach(session, start, fresh)
    generations = _generations([*reach.versions, *fresh.versions], reach.events, fresh)
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
        known = select_by(session, EventGeneration, Version._fields, ("task", "generation_id"), keys)
        new_events |= {row[1] for row in known}
        reach.versions += [Version(*row) for row in known if row[2] is not None]
        found = _load(session, fresh.task, new_events - reach.events.keys(), reach)
        new_generations = {id_ for event in found for id_ in reaches(event)} - reach.generations
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


def _generations(versions: Iterable[Version], known: Mapping[str, Event], fresh: Facts) -> Mapping[str, Generated]:
    """Of each generation the version that counts: a recorded one before carried ones, then the smallest hash."""
    best: dict[str, Version] = {}
    for version in versions:
        other = best.setdefault(version.generation_id, version)
        if (version.rank, version.event_id) < (other.rank, other.event_id):
            best[version.generation_id] = version
    return {id_: _held(version, known, fresh) for id_, version in best.items()}


def _held(version: Version, known: Mapping[str, Event], fresh: Facts) -> Generated:
    new = fresh.events.get(version.event_id)
    found = new.generated if new else generated(known[version.event_id], version.prompt_hash)
    if found is None:
        raise TypeError(f"event {version.event_id} holds no generation")
    return found


def _decided(reach: _Reach) -> dict[str, Outcome]:
    """Outcomes of the gateway's records."""
    recorded = (event for event in reach.events.values() if isinstance(event, GenerationEvent))
    return {one.event_id: Outcome.EVALUATION if one.purpose == "evaluation" else Outcome.RECORDED for one in recorded}
