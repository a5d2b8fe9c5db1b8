"""What follows from single events, whatever else is known: the generations they name and hold, and the prompts asked."""

from collections.abc import Container
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from sqlmodel import Session

from pairing.held import Accepted, Naming, Place, keep_least
from pairing.holdout import Split
from pairing.rows import Tend, inserting, select_by
from pairing.tables import AskedPrompt, EventGeneration

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
        return inserting(session, EventGeneration, ("task", *Naming._fields), rows)

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
