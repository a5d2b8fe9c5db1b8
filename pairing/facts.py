"""What follows from single events, whatever else is known: the generations they name and hold, and the prompts asked."""

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from sqlmodel import Session

from ingest.events import Event
from pairing.held import Accepted, Naming, Place, keep_least, names_of, settled
from pairing.holdout import Split
from pairing.rows import Tend, delete_by, insert_all, inserting, lock_by, select_by, update_among
from pairing.tables import AskedPrompt, EventGeneration, StoredEvent

_NAME = ("task", *Naming._fields)
_NAME_KEY = ("task", "generation_id", "place", "event_id")
SplitPrompt = tuple[str, str | None, Split]
"""A prompt and its tools as canonical JSON, and its side."""


@dataclass(slots=True)
class Facts:
    """What the new events of a task say by themselves; not yet written."""

    task: str
    events: dict[str, Accepted] = field(default_factory=dict)
    namings: list[Naming] = field(default_factory=list)
    places: set[Place] = field(default_factory=set)  # in which they stand
    versions: dict[str, Naming] = field(default_factory=dict)  # by generation that they hold, the one that counts among them
    prompts: dict[str, SplitPrompt] = field(default_factory=dict)  # by hash
    new_prompts: dict[str, SplitPrompt] = field(default_factory=dict)  # those that were never asked before

    def add(self, accepted: Accepted) -> None:
        """Take an event in that was not stored before."""
        self.events[accepted.event.event_id] = accepted
        self.state(accepted)

    def state(self, accepted: Accepted) -> None:
        """Take in what an event says, but not the event: its row is there."""
        self.namings += accepted.namings
        self.places.update([(one.generation_id, one.place) for one in accepted.namings])
        keep_least(self.versions, accepted.namings)
        if accepted.asked and accepted.split:
            self.prompts[accepted.asked.hash] = accepted.asked.prompt, accepted.asked.tools, accepted.split

    def look_up_prompts(self, session: Session) -> None:
        """Find which of the prompts are new."""
        rows = select_by(session, AskedPrompt, ("hash",), ("task", "hash"), [(self.task, one) for one in self.prompts])
        kept = {row[0] for row in rows}
        self.new_prompts = {hashed: prompt for hashed, prompt in self.prompts.items() if hashed not in kept}

    def writing_names(self, session: Session, but: Container[str] = ()) -> AbstractContextManager[Tend]:
        """Insert the names of generations, `but` those of some; it goes on during the block, as with rows.inserting."""
        rows = [(self.task, *one) for one in self.namings if one.generation_id not in but]
        return inserting(session, EventGeneration, _NAME, rows)

    def settle_names(
        self, session: Session, crowded: Container[str], stored: Sequence[Naming], beaten: Collection[tuple[str, str]]
    ) -> None:
        """Insert the names of `crowded` generations, and move stored ones, to where held.settled says.

        Under the locks of the events that are stored: another worker may be taking one of them back.
        """
        fresh = [one for one in self.namings if one.generation_id in crowded]
        places = settled([*stored, *fresh], beaten)
        rows = [(self.task, *one._replace(place=places.get(one, one.place))) for one in fresh]
        insert_all(session, EventGeneration, _NAME, rows)
        moved = [one for one in stored if one in places]
        lock_by(session, StoredEvent, ("task", "event_id"), sorted({(self.task, one.event_id) for one in moved}))
        by_place: defaultdict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
        for one in moved:
            by_place[self.task, one.generation_id, one.place][one.event_id] = places[one]
        update_among(session, EventGeneration, _NAME_KEY[:-1], _NAME_KEY[-1], "place", by_place)

    def writing_prompts(self, session: Session) -> AbstractContextManager[Tend]:
        """Insert the prompts that are new; it goes on during the block, as with rows.inserting.

        Raises:
            sqlalchemy.exc.IntegrityError: another worker has just stored one of them.
        """
        rows = [(self.task, hashed, *new) for hashed, new in self.new_prompts.items()]
        return inserting(session, AskedPrompt, ("task", "hash", "prompt", "tools", "split"), rows)


def add_by_task(facts: dict[str, Facts], accepted: Accepted) -> None:
    """Take a new event in among the facts of its task."""
    task = accepted.event.task
    if task not in facts:
        facts[task] = Facts(task)
    facts[task].add(accepted)


def delete_names(session: Session, task: str, events: Iterable[Event]) -> None:
    """Take back the names of generations that stored events gave, set aside or not."""
    delete_by(session, EventGeneration, _NAME_KEY, [(task, *name) for event in events for name in names_of(event)])
