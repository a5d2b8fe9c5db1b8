"""What follows from single events, whatever else is known: the generations they name and hold, and the prompts asked."""

from dataclasses import dataclass, field

from sqlmodel import Session

from pairing.decoding import Accepted
from pairing.held import Asked, Naming
from pairing.holdout import Split, Splitter
from pairing.rows import insert_all, select_by
from pairing.tables import AskedPrompt, EventGeneration


@dataclass(slots=True)
class Facts:
    """What the new events of a task say by themselves; not yet written."""

    task: str
    events: dict[str, Accepted] = field(default_factory=dict)
    namings: list[Naming] = field(default_factory=list)
    prompts: dict[str, Asked] = field(default_factory=dict)
    new_prompts: dict[str, tuple[str, str | None, Split]] = field(default_factory=dict)  # prompt, tools and side, by hash

    def add(self, accepted: Accepted) -> None:
        """Take an event in that was not stored before."""
        self.events[accepted.event.event_id] = accepted
        self.state(accepted)

    def state(self, accepted: Accepted) -> None:
        """Take in what an event says, but not the event: its row is there."""
        self.namings += accepted.namings
        if accepted.asked:
            self.prompts[accepted.asked.hash] = accepted.asked

    @property
    def generations(self) -> set[str]:
        """Those that the events name or hold."""
        return {naming.generation_id for naming in self.namings}

    def look_up_prompts(self, session: Session, split: Splitter) -> None:
        """Find which of the prompts are new, and their sides."""
        kept = select_by(session, AskedPrompt, ("hash",), ("task", "hash"), [(self.task, one) for one in self.prompts])
        for hashed in self.prompts.keys() - {row[0] for row in kept}:
            one = self.prompts[hashed]
            self.new_prompts[hashed] = one.prompt, one.tools, split(one.value)

    def write(self, session: Session) -> None:
        """Insert all but the events themselves.

        Raises:
            sqlalchemy.exc.IntegrityError: another worker has just stored one of the prompts.
        """
        insert_all(session, AskedPrompt, _PROMPT, [(self.task, hashed, *new) for hashed, new in self.new_prompts.items()])
        insert_all(session, EventGeneration, ("task", *Naming._fields), [(self.task, *one) for one in self.namings])


_PROMPT = ("task", "hash", "prompt", "tools", "split")
