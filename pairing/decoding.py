"""From the bytes of the event log to events, or to dead letters: the border of this stage."""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from pydantic import ValidationError

from ingest.events import ErasureEvent, event_adapter, fingerprint
from ingest.log import Record, is_emptied
from pairing.facts import Facts, add_by_task
from pairing.held import Accepted, asked, generated, is_evaluation, namings
from pairing.holdout import Splitter
from pairing.identity import Key
from pairing.opening import Closed, is_sealed, read_sealed
from pairing.outcomes import DeadReason
from pairing.tables import DeadLetter

_LATEST_MS = 253_402_300_799_000
_MOST_ERRORS = 20


@dataclass(slots=True)
class Batch:
    """Records sorted out: each event once, the bodies that lost an id to another one, what can never be valid, what is sealed."""

    events: dict[Key, Accepted] = field(default_factory=dict)
    lost: list[Accepted] = field(default_factory=list)
    again: list[Accepted] = field(default_factory=list)  # the same body once more, in another record
    dead: dict[str, DeadLetter] = field(default_factory=dict)
    closed: list[Closed] = field(default_factory=list)
    users: set[Key] = field(default_factory=set)  # who is behind any of them
    judged: set[Key] = field(default_factory=set)  # the prompts that any of them repeats to judge an adapter
    erasures: list[ErasureEvent] = field(default_factory=list)
    facts: dict[str, Facts] | None = field(default_factory=dict)  # what they say, by task; none once one of them is out

    def add(self, found: Accepted) -> None:
        """Of two bodies under one id the smaller hash stays."""
        if found.user:
            self.users.add(found.user)
        if found.judged:
            self.judged.add(found.judged)
        if isinstance(found.event, ErasureEvent):
            self.erasures.append(found.event)
        first = self.events.setdefault(found.key, found)
        if first is found:
            self._say(found)
        elif first.body_hash == found.body_hash:
            self.again.append(found)
        else:
            self.events[found.key], larger = sorted((first, found), key=lambda one: one.body_hash)
            self.lost.append(larger)
            self.facts = None

    def _say(self, found: Accepted) -> None:
        if self.facts is not None:
            add_by_task(self.facts, found)

    def without(self, keys: Container[Key]) -> Mapping[str, Facts]:
        """What its events say but for these."""
        facts: dict[str, Facts] = {}
        for key, one in self.events.items():
            if key not in keys:
                add_by_task(facts, one)
        return facts


def decode(records: Iterable[Record], split: Splitter, into: Batch | None = None) -> Batch:
    """Sort records out, after those of the batch `into`. All that follows from a record alone is found here.

    What the log has emptied of its content is no event.
    """
    batch = into or Batch()
    for record in records:
        if is_emptied(record):
            continue
        found = _read_closed(record) if is_sealed(record) else _read(record, split)
        if isinstance(found, DeadLetter):
            batch.dead[found.id] = found
        elif isinstance(found, Closed):
            batch.closed.append(found)
        else:
            batch.add(found)
    return batch


def received_at(record: Record) -> datetime:
    """When the log took the record."""
    return _time(record.timestamp_ms)


def in_conflict(body: bytes, record: Record) -> DeadLetter:
    """The dead letter of a body whose id belongs to another one. `record` is the one that showed it."""
    detail = "Another event with this event_id counts. Two different events need two ids."
    return _dead(DeadReason.CONFLICTING_BODY, detail, body, record)


def unreadable(record: Record) -> DeadLetter:
    """The dead letter of a sealed record that cannot be opened, though nobody was erased."""
    detail = "Put the table user_keys back as it was when this was written, and replay the letter."
    return _dead(DeadReason.UNREADABLE, detail, record.value, record)


@lru_cache(1_000)  # records that came together have the same
def _time(timestamp_ms: int) -> datetime:
    return datetime.fromtimestamp(min(max(timestamp_ms, 0), _LATEST_MS) / 1000, UTC)


def _read_closed(record: Record) -> Closed | DeadLetter:
    sealed = read_sealed(record.value)
    return unreadable(record) if sealed is None else Closed(sealed, record)


def _read(record: Record, split: Splitter) -> Accepted | DeadLetter:
    body = record.value
    try:
        event = event_adapter.validate_json(body)
        event.occurred_at.astimezone(UTC)
    except ValidationError as error:
        return _dead(DeadReason.INVALID, _sentences(error), body, record)
    except OverflowError:
        return _dead(DeadReason.INVALID, "occurred_at: not a time that UTC can say", body, record)
    body_hash, prompt = fingerprint(body), asked(event)
    holds = generated(event, prompt.hash) if prompt else None
    side = split(prompt.value) if prompt else None
    times = event.occurred_at, received_at(record)
    row = event.task, event.event_id, event.type, event.user, *times, body.decode(), body_hash
    user = (event.task, event.user) if event.user is not None else None
    judged = (event.task, prompt.hash) if prompt and is_evaluation(event) else None
    return Accepted(event, body_hash, record, row, prompt, side, holds, namings(event, holds), user, judged)


def _dead(reason: DeadReason, detail: str, value: bytes, record: Record) -> DeadLetter:
    return DeadLetter(
        id=hashlib.sha256(value).hexdigest(),
        reason=reason.value,
        detail=detail,
        value=value,
        partition=record.partition,
        offset=record.offset,
        received_at=received_at(record),
    )


def _sentences(error: ValidationError) -> str:
    found: Sequence[tuple[str, str]] = [
        (".".join(map(str, one["loc"])) or "body", one["msg"])
        for one in error.errors(include_url=False, include_input=False)[:_MOST_ERRORS]
    ]
    # What is not text for a database, such as a NUL in the name of an unknown field, is written as an escape.
    return "; ".join(f"{where}: {what}" for where, what in found).encode("unicode_escape").decode()
