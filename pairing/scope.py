"""What must be derived together: marked events, those that share generations with them, and all that they rest on."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select
from sqlmodel import Session

from ingest.events import Event, Feedback, Generation, PreferenceEvent, event_adapter
from pairing.identity import prompt_hash, prompt_json, reply_json, tools_json
from pairing.outcomes import Outcome
from pairing.rows import select_in, table_of
from pairing.rules.votes import Generated
from pairing.tables import AskedPrompt, EventGeneration, GenerationVersion, Mark, StoredEvent, StoredVote

_events, _names = table_of(StoredEvent), table_of(EventGeneration)
_versions, _prompts, _votes = table_of(GenerationVersion), table_of(AskedPrompt), table_of(StoredVote)


@dataclass(frozen=True, slots=True)
class Scope:
    """Events to derive together, with what is known of their generations; `decided` are outcomes that no rule changes."""

    ids: frozenset[str]
    feedback: Sequence[Event]
    generations: Mapping[str, Generated]
    decided: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class _Reach:
    events: frozenset[str]
    generations: frozenset[str]


def lock_scope(session: Session, task: str, marks: Sequence[Mark], alone: bool) -> Scope:
    """Read what the marks reach, having locked its events and its prompts until the transaction ends.

    Two workers that derive for one event, or for one prompt, do so one after the other, and the later one sees what the
    earlier one wrote. `alone`: the transaction is the only one that writes, and needs no such locks.
    """
    locked: set[str] = set()
    while True:
        reach = _reach(session, task, marks)
        events = _lock_events(session, task, reach.events)
        versions = _of_generations(session, task, reach.generations)
        needed = _prompts_of(session, task, events, versions)
        if alone or needed <= locked:
            return _scope(session, task, reach, events, versions)
        asked = select(_prompts.c.hash).where(_prompts.c.task == task).with_for_update()
        locked |= {row.hash for row in select_in(session, asked, _prompts.c.hash, needed)}


def _reach(session: Session, task: str, marks: Sequence[Mark]) -> _Reach:
    """From the marked events and generations over everything that names the same generations."""
    marked: defaultdict[str, set[str]] = defaultdict(set)
    for mark in marks:
        marked[mark.kind].add(mark.key)
    new_events, new = marked["event"], marked["generation"]
    links = select(_names.c.event_id, _names.c.generation_id).where(_names.c.task == task)
    events: set[str] = set()
    generations: set[str] = set()
    while new_events or new:
        new_events |= {row.event_id for row in select_in(session, links, _names.c.generation_id, new)}
        new_events -= events
        events |= new_events
        generations |= new
        new = {row.generation_id for row in select_in(session, links, _names.c.event_id, new_events)} - generations
        new_events = set()
    return _Reach(frozenset(events), frozenset(generations))


def _lock_events(session: Session, task: str, ids: Collection[str]) -> list[Event]:
    bodies = select(_events.c.body).where(_events.c.task == task, _events.c.body != "").with_for_update()  # no skeletons
    return [event_adapter.validate_json(row.body) for row in select_in(session, bodies, _events.c.event_id, ids)]


def _of_generations(session: Session, task: str, ids: Collection[str]) -> list[Row[Any]]:
    return select_in(session, select(_versions).where(_versions.c.task == task), _versions.c.generation_id, ids)


def _prompts_of(session: Session, task: str, events: Sequence[Event], versions: Sequence[Row[Any]]) -> set[str]:
    """Every prompt that the events speak of, or spoke of when votes were last derived from them."""
    voted = select(_votes.c.prompt_hash).where(_votes.c.task == task)
    before = select_in(session, voted, _votes.c.event_id, {event.event_id for event in events})
    ready = {
        prompt_hash(prompt_json(event.prompt), tools_json(event.tools)) for event in events if isinstance(event, PreferenceEvent)
    }
    return ready | {row.prompt_hash for row in before} | {version.prompt_hash for version in versions}


def _scope(session: Session, task: str, reach: _Reach, events: Sequence[Event], versions: Sequence[Row[Any]]) -> Scope:
    feedback = [event for event in events if isinstance(event, Feedback | PreferenceEvent)]
    return Scope(reach.events, feedback, _generations(session, task, versions), _of_records(versions))


def _generations(session: Session, task: str, versions: Sequence[Row[Any]]) -> dict[str, Generated]:
    """Of each generation the version that counts: a recorded one before carried ones, then the smallest hash."""
    best: dict[str, Row[Any]] = {}
    for version in sorted(versions, key=lambda one: (one.rank, one.event_id)):
        best.setdefault(version.generation_id, version)
    bodies = select(_events.c.event_id, _events.c.body).where(_events.c.task == task)
    rows = select_in(session, bodies, _events.c.event_id, {version.event_id for version in best.values()})
    holders = {row.event_id: event_adapter.validate_json(row.body) for row in rows}
    return {id_: _generated(holders[version.event_id], version) for id_, version in best.items()}


def _generated(holder: Event, version: Row[Any]) -> Generated:
    held = holder.generation if isinstance(holder, Feedback) else holder
    if not isinstance(held, Generation):
        raise TypeError(f"event {version.event_id} holds no generation")
    as_messages = not isinstance(held.prompt, str)
    replies = tuple(reply_json(candidate.reply, as_messages) for candidate in held.candidates)
    return Generated(version.event_id, version.prompt_hash, version.evaluation, held.adapter, as_messages, replies)


def _of_records(versions: Sequence[Row[Any]]) -> dict[str, Outcome]:
    """Outcomes of the gateway's records, which no feedback changes."""
    recorded = (version for version in versions if version.rank.startswith("0"))
    return {version.event_id: Outcome.EVALUATION if version.evaluation else Outcome.RECORDED for version in recorded}
