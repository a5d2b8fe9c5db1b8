"""What the pure rules make of events, without any storage."""

import json
from typing import Any

from ingest.events import Event, Feedback, Generation, GenerationEvent
from ingest.settings import TaskPairingSettings, TaskSettings
from pairing.identity import prompt_hash, prompt_json, text_of, tools_json
from pairing.rules import derive
from pairing.rules.in_force import rules_of
from pairing.rules.votes import Derived, Generated, Vote, written_by


def derived(*events: Event, settings: TaskSettings | None = None) -> Derived:
    """All that follows from the events, which are one scope."""
    held = {one.generation_id: generated for event in events for one, generated in _held(event)}
    feedback = [event for event in events if not isinstance(event, GenerationEvent)]
    return derive(feedback, held, rules_of(settings or TaskSettings()))


def by(**pairing: Any) -> TaskSettings:
    """The settings of a task that pairs like this."""
    return TaskSettings(pairing=TaskPairingSettings(**pairing))


def said(votes: list[Vote]) -> list[tuple[str, str]]:
    """Chosen and rejected texts, sorted."""
    return sorted((json.loads(vote.chosen.json), json.loads(vote.rejected.json)) for vote in votes)


def facts(one: Derived) -> Any:
    """All of it, to be compared: lists of votes and opinions have no order."""
    return frozenset(one.votes), one.outcomes, frozenset(one.ratings)


def _held(event: Event) -> list[tuple[Generation, Generated]]:
    held = event if isinstance(event, GenerationEvent) else event.generation if isinstance(event, Feedback) else None
    if held is None:
        return []
    as_messages = not isinstance(held.prompt, str)
    return [
        (
            held,
            Generated(
                event_id=event.event_id,
                prompt_hash=prompt_hash(prompt_json(held.prompt), tools_json(held.tools)),
                evaluation=isinstance(held, GenerationEvent) and held.purpose == "evaluation",
                adapter=written_by(held),
                as_messages=as_messages,
                replies=tuple(text_of(candidate.reply, as_messages) for candidate in held.candidates),
            ),
        )
    ]
