"""What must be derived together: events, those that share generations with them, and all that they rest on.

Of a generation with many events only those are read that what is new can change: `held.place_of` tells which. So one more vote
on a popular reply costs no more than the first.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from sqlmodel import Session

from ingest.events import Event, Feedback, GenerationEvent, PreferenceEvent, event_adapter
from pairing.facts import Facts
from pairing.held import ALONE, LINK, Naming, Place, generated, keep_least, place_of, reaches
from pairing.outcomes import Outcome
from pairing.rows import first_of, select_by
from pairing.rules.votes import Generated
from pairing.tables import EventGeneration, StoredEvent

FEW = 32
"""A generation of so many events is read whole, whatever is new."""
_COUNTS = "AND prompt_hash IS NOT NULL ORDER BY place LIMIT 1"
_OF_GENERATION = ("task", "generation_id")
_PLACE = ("generation_id", "place")


@dataclass(frozen=True, slots=True)
class Start:
    """Where to start from: generations of which everything is derived again, and events."""

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
    crowded: frozenset[str]  # generations that many events are about, or were
    names: Sequence[Naming]  # the names of those that were read, some of which may be set aside, or are and may come back


def scope_of(session: Session, start: Start, fresh: Facts) -> Scope:
    """Read what the start and the fresh events, which are not written yet, reach."""
    reach = _Reach(session, start, fresh)
    reach.follow(fresh.places, start.events)
    feedback = [event for event in reach.events.values() if isinstance(event, Feedback | PreferenceEvent)]
    return Scope(
        feedback,
        reach.generations(),
        reach.stored,
        _decided(reach.events),
        frozenset(reach.skeletons),
        frozenset(reach.crowded),
        sorted(reach.names, key=attrgetter("generation_id", "event_id")),
    )


class _Reach:
    """What is reached, step by step: events, and of each generation the version that counts."""

    def __init__(self, session: Session, start: Start, fresh: Facts) -> None:
        self.events = {id_: accepted.event for id_, accepted in fresh.events.items()}
        self.stored: dict[str, str] = {}
        self.skeletons: set[str] = set()
        count = Counter(map(attrgetter("generation_id"), fresh.namings))
        self.crowded = {id_ for id_, names in count.items() if names > FEW}
        self.names: set[Naming] = set()
        self._session = session
        self._fresh = fresh
        self._versions = dict(fresh.versions)
        links = {generation_id for generation_id, place in fresh.places if place == LINK}
        self._to_be_whole = start.generations | links
        self._popular: set[str] = set()
        self._read: set[Place] = set()

    def follow(self, places: Iterable[Place], event_ids: Collection[str]) -> None:
        """Read the events of these places, and those of the places that they are in themselves, over any number of steps."""
        opened: set[str] = set()
        new, wanted = {*places, *((id_, LINK) for id_ in self._to_be_whole)}, set(event_ids)
        while new or wanted:
            unknown = {id_ for id_, _ in new} - opened
            opened |= unknown
            wanted |= self._open(unknown)
            wanted |= self._in_places({(id_, place) for id_, place in new if id_ in self._popular and place != ALONE})
            found = self._load(wanted - self.events.keys() - self.skeletons)
            reached = {(id_, place_of(event)) for event in found for id_ in reaches(event)}
            new = {one for one in reached if one[0] not in opened or one[0] in self._popular} - self._read
            wanted = set()

    def generations(self) -> Mapping[str, Generated]:
        """What is known of the generations that were reached.

        A worker that does not derive now may have put another body under an id, or none, since the names were read: the
        generation is unknown then, until what that one has marked is derived.
        """
        missing = {one.event_id for one in self._versions.values()} - self.events.keys()
        holders = self.events | {id_: event_adapter.validate_json(body) for id_, body, _ in self._rows(missing) if body}
        found = {id_: self._held(version, holders) for id_, version in self._versions.items()}
        return {id_: held for id_, held in found.items() if held}

    def _open(self, generations: set[str]) -> set[str]:
        """The events to be read of these generations, wherever they stand."""
        keys = self._keys(generations)
        names: defaultdict[str, list[Naming]] = defaultdict(list)
        links_first = f"ORDER BY place LIMIT {FEW + 1}"
        for row in first_of(self._session, EventGeneration, Naming._fields, _OF_GENERATION, keys, links_first):
            names[row[0]].append(Naming(*row))
        many = {id_ for id_, of_one in names.items() if len(of_one) > FEW}
        self._popular |= many - self._all_of(many, names)
        whole = self._keys(many - self._popular)
        rest = [Naming(*row) for row in select_by(self._session, EventGeneration, Naming._fields, _OF_GENERATION, whole)]
        read = [*(one for id_ in names.keys() - many for one in names[id_]), *rest]
        keep_least(self._versions, read)
        self.crowded |= many | {one.generation_id for one in read if one.is_aside}
        self.names.update(one for one in read if one.generation_id in self.crowded)
        return {one.event_id for one in read}

    def _all_of(self, many: set[str], first: Mapping[str, Sequence[Naming]]) -> set[str]:
        """Of these generations those of which any event may change; of the others the version that counts stays."""
        found = first_of(self._session, EventGeneration, _PLACE, _OF_GENERATION, self._keys(many), _COUNTS)
        keys = [(self._fresh.task, *row) for row in found]
        rows = select_by(self._session, EventGeneration, Naming._fields, ("task", *_PLACE), keys)
        held, stored = [Naming(*row) for row in rows], dict[str, Naming]()
        self.names.update(held)
        keep_least(stored, held)
        counting = dict(stored)
        keep_least(counting, (one for id_, one in self._versions.items() if id_ in many))
        self._versions |= counting
        changed = {id_ for id_, one in counting.items() if stored.get(id_) != one}
        linked = {id_ for id_ in many if any(one.place == LINK for one in first[id_])}
        return changed | linked | (many & self._to_be_whole)

    def _in_places(self, places: set[Place]) -> set[str]:
        self._read |= places
        keys = [(self._fresh.task, *place) for place in places]
        found = [Naming(*row) for row in select_by(self._session, EventGeneration, Naming._fields, ("task", *_PLACE), keys)]
        self.names.update(found)
        return {one.event_id for one in found}

    def _load(self, ids: Collection[str]) -> list[Event]:
        found = []
        for event_id, body, outcome in self._rows(ids):
            if not body:
                self.skeletons.add(event_id)
                continue
            self.events[event_id] = event = event_adapter.validate_json(body)
            self.stored[event_id] = outcome
            found.append(event)
        return found

    def _rows(self, ids: Collection[str]) -> list[tuple[str, str, str]]:
        keys = [(self._fresh.task, id_) for id_ in ids]
        return select_by(self._session, StoredEvent, ("event_id", "body", "outcome"), ("task", "event_id"), keys)

    def _keys(self, generations: Iterable[str]) -> list[tuple[str, str]]:
        return [(self._fresh.task, id_) for id_ in generations]

    def _held(self, version: Naming, holders: Mapping[str, Event]) -> Generated | None:
        if new := self._fresh.events.get(version.event_id):
            return new.generated
        holder = holders.get(version.event_id)
        return generated(holder, str(version.prompt_hash)) if holder else None


def _decided(events: Mapping[str, Event]) -> dict[str, Outcome]:
    """Outcomes of the gateway's records."""
    recorded = (event for event in events.values() if isinstance(event, GenerationEvent))
    return {one.event_id: Outcome.EVALUATION if one.purpose == "evaluation" else Outcome.RECORDED for one in recorded}
