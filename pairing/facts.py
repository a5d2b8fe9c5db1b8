"""What follows from single events, whatever else is known: the generations they name and hold, and the prompts asked."""

from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session

from ingest.events import GenerationEvent
from pairing.decoding import Accepted
from pairing.held import Asked, held, named
from pairing.holdout import Split, Splitter
from pairing.rows import insert_all, select_by
from pairing.tables import AskedPrompt, EventGeneration, GenerationVersion


@dataclass(frozen=True, slots=True)
class Version:
    """A generation as one event holds it. Of several the least rank counts, then the least event id."""

    generation_id: str
    event_id: str
    rank: str
    prompt_hash: str
    evaluation: bool
    user: str | None


@dataclass(slots=True)
class Facts:
    """What the new events of a task say by themselves; not yet written."""

    task: str
    events: dict[str, Accepted] = field(default_factory=dict)
    generations: set[str] = field(default_factory=set)  # that the events name or hold
    versions: list[Version] = field(default_factory=list)
    prompts: dict[str, Asked] = field(default_factory=dict)
    new_prompts: dict[str, tuple[str, str | None, Split]] = field(default_factory=dict)  # prompt, tools and side, by hash
    _names: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, accepted: Accepted) -> None:
        """Take an event in that was not stored before."""
        self.events[accepted.event.event_id] = accepted
        self.state(accepted)

    def state(self, accepted: Accepted) -> None:
        """Take in what an event says, but not the event: its row is there."""
        event = accepted.event
        for generation_id in named(event):
            self._names.append((self.task, generation_id, event.event_id))
            self.generations.add(generation_id)
        if accepted.asked:
            self.prompts[accepted.asked.hash] = accepted.asked
            if found := held(event):
                self.generations.add(found.generation_id)
                self.versions.append(_version(accepted, found.generation_id, accepted.asked.hash))

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
        insert_all(session, EventGeneration, ("task", "generation_id", "event_id"), self._names)
        insert_all(session, GenerationVersion, _VERSION, (self._row(version) for version in self.versions))

    def _row(self, version: Version) -> tuple[Any, ...]:
        return (
            self.task,
            version.generation_id,
            version.event_id,
            version.rank,
            version.prompt_hash,
            version.evaluation,
            version.user,
        )


def _version(accepted: Accepted, generation_id: str, prompt_hash: str) -> Version:
    event = accepted.event
    recorded, holds = isinstance(event, GenerationEvent), accepted.generated
    evaluation = holds is not None and holds.evaluation
    return Version(
        generation_id, event.event_id, f"{0 if recorded else 1}{accepted.body_hash}", prompt_hash, evaluation, event.user
    )


_PROMPT = ("task", "hash", "prompt", "tools", "split")
_VERSION = ("task", "generation_id", "event_id", "rank", "prompt_hash", "evaluation", "user")
