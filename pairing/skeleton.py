"""Skeletons: stored events whose content was removed. Task, id, type, times and outcome stay, for idempotency and lineage.

A skeleton has no user, and an empty body and body hash: nobody can tell from it what it said or whose it was. What was derived
from the content is derived again by whoever strips an event, in the same transaction.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sqlmodel import Session

from ingest.events import Event, Message, event_adapter
from pairing.facts import delete_names
from pairing.held import asked, reaches
from pairing.identity import prompt_hash, prompt_json
from pairing.outcomes import Outcome
from pairing.rows import select_by, update_by
from pairing.tables import StoredEvent

_KEY = ("task", "event_id")
_EMPTIED = ("user", "body", "body_hash", "outcome")


@dataclass(slots=True)
class Stripped:
    """Events whose content was removed, and what they were about."""

    events: set[str] = field(default_factory=set)
    generations: set[str] = field(default_factory=set)
    prompts: set[str] = field(default_factory=set)

    def add(self, other: "Stripped") -> None:
        self.events |= other.events
        self.generations |= other.generations
        self.prompts |= other.prompts


def strip(session: Session, task: str, event_ids: Collection[str], outcome: Outcome) -> Stripped:
    """Make skeletons of stored events, with this outcome, or `applied` for an erasure. Those that are some already stay."""
    keys = [(task, id_) for id_ in sorted(event_ids)]
    rows = [row for row in select_by(session, StoredEvent, ("event_id", "type", "body"), _KEY, keys) if row[2]]
    events = [event_adapter.validate_json(body) for _, _, body in rows]
    emptied = [(task, id_, None, "", "", Outcome.APPLIED if type_ == "erasure" else outcome) for id_, type_, _ in rows]
    update_by(session, StoredEvent, _KEY, _EMPTIED, emptied)  # first: who sets names aside locks the event likewise
    delete_names(session, task, events)
    return Stripped({row[0] for row in rows}, {id_ for event in events for id_ in reaches(event)}, prompts_of(events))


def prompts_of(events: Iterable[Event]) -> set[str]:
    """Hashes of the prompts that these events hold, as AskedPrompt has them.

    Of plain text also that of the message as which adapters are asked it: evaluations repeat it so.
    """
    found = [one for event in events if (one := asked(event))]
    texts = [(one.value, one.tools) for one in found if isinstance(one.value, str)]
    return {one.hash for one in found} | {prompt_hash(prompt_json((_of_user(text),)), tools) for text, tools in texts}


def _of_user(text: str) -> Message:
    return Message(role="user", content=text)
