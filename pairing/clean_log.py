"""What the event log loses: the records of erased users, and what a task keeps no longer, where it can lose single ones; and all
that no task keeps.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from ingest.events import UNDATED
from ingest.log import EventLog, Forgets
from pairing.identity import Key
from pairing.tables import LateRecord, Removal
from pairing.tombstones import claimed, parsed

_EVALUATION = b'"purpose":"evaluation"'


def clean(
    log: EventLog,
    removals: Sequence[Removal],
    late: Sequence[LateRecord],
    stored: Mapping[int, int],
    before: datetime | None,
) -> None:
    """Remove from the log what the removals, the late records and the time say. Again, it does nothing.

    The record of the erasure itself stays, so that a replay of the log erases again: it holds no content. Records that are
    not stored yet (from `stored` on, by partition) stay until they are, as late ones: their skeletons must come to be.

    Raises:
        LogUnavailable: not done yet: again later.
    """
    if isinstance(log, Forgets):
        if late:
            log.empty([(record.partition, record.offset) for record in late])
        _forget(log, removals, stored)
    if before is not None:
        log.expire(int(before.timestamp() * 1000), stored)


def _forget(log: Forgets, removals: Sequence[Removal], stored: Mapping[int, int]) -> None:
    users = {(one.task, one.user) for one in removals if one.user is not None}
    copies = {(one.task, event_id) for one in removals for event_id in json.loads(one.copies)}
    past = {one.task: one.before for one in sorted(removals, key=lambda one: one.before or UNDATED) if one.before is not None}
    holding = [_as_written(user) for _, user in sorted(users)] + ([_EVALUATION] if copies else [])
    holding += [b'"task":' + _as_written(task) for task in past]
    if holding:
        log.forget(stored, holding, lambda value: _is_gone(value, users, copies, past))


def _as_written(text: str) -> bytes:
    """As it stands in canonical JSON, which is what ingest and the gateway append."""
    return json.dumps(text, ensure_ascii=False).encode()


def _is_gone(value: bytes, users: Collection[Key], copies: Collection[Key], past: Mapping[str, datetime]) -> bool:
    said = parsed(value)
    if said.get("type") == "erasure":
        return False
    return claimed(value) in users or (said.get("task"), said.get("event_id")) in copies or _is_past(said, past)


def _is_past(said: Mapping[str, Any], past: Mapping[str, datetime]) -> bool:
    """Whether it is an event older than its task keeps them."""
    before = past.get(str(said.get("task")))
    try:
        return before is not None and UNDATED < datetime.fromisoformat(str(said.get("occurred_at"))) < before
    except (ValueError, TypeError):  # no time, or one without a zone: no event
        return False
