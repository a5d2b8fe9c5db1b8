"""Who was erased and what has expired: the tombstones, and the times before which tasks keep nothing."""

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, text, update
from sqlmodel import Session, col, select

from ingest.erasure import Tombstone, erasure_key
from ingest.events import ErasureEvent
from ingest.settings import ErasureSettings, Settings
from pairing.identity import Key
from pairing.opening import destroy_keys
from pairing.rows import insert_new, select_by
from pairing.tables import AskedPrompt, ErasedPrompt, Erasure, ErasureKeyInForce, Removal, Retention

_LOCK = zlib.crc32(b"whetstone removals")


class ErasureKeyChanged(Exception):
    """The erasure key is not the one under which users were erased so far. Stop: a person decides."""


@dataclass(frozen=True, slots=True)
class Known:
    """What tells who was erased, and how the event log loses what it holds of them."""

    tombstone: Tombstone
    log_id: str
    log: str
    """As Erasure.log."""


def keep_erasure_key(session: Session, settings: ErasureSettings) -> None:
    """Remember under which key users are erased, or see that it is the one that was remembered.

    Raises:
        ErasureKeyChanged: it is not.
        WrongSetting: there is no key.
    """
    fingerprint = hashlib.sha256(b"erasure:" + erasure_key(settings)).hexdigest()
    insert_new(session, ErasureKeyInForce, [{"id": 1, "key_fingerprint": fingerprint}])
    if session.get_one(ErasureKeyInForce, 1).key_fingerprint != fingerprint:
        raise ErasureKeyChanged(
            "erasure.key is not the key that this database was started with: users who were erased would not be known any more, "
            "and what comes of them would be kept. Put the old key back."
        )


def loss(settings: Settings, forgets: bool) -> str:
    """How the event log loses what it holds of an erased user, as Erasure.log says it.

    What was written before users' events were encrypted is `retention` all the same: only the topic's age takes it away.
    """
    if forgets:
        return "removed"
    return "encrypted" if settings.kafka.encrypt_users else "retention"


def keep_removals_out(session: Session) -> None:
    """Held, shared, while events are stored: a removal waits for them, so that none slips past it with its content.

    The first thing in its transaction, or nearly. SQLite has one writer at a time anyway.
    """
    _lock(session, "pg_advisory_xact_lock_shared")


def keep_stores_out(session: Session) -> None:
    """Held, alone, while content is removed: the first thing in a transaction that has stored nothing."""
    _lock(session, "pg_advisory_xact_lock")


def ask(session: Session, erasures: Iterable[ErasureEvent], known: Known) -> None:
    """Write the tombstones, destroy the keys, and have what is stored already removed. Of several erasures of a user the first
    is named.
    """
    first: dict[Key, ErasureEvent] = {}
    for event in sorted(erasures, key=lambda one: (one.occurred_at, one.event_id)):
        first.setdefault((event.task, known.tombstone(event.task, event.user)), event)
    destroy_keys(session, first)
    kept = erased_among(session, first)
    new = {key: event for key, event in first.items() if key not in kept}
    insert_new(session, Erasure, [_proof(*key, event, known.log) for key, event in new.items()])
    start(session, [Removal(task=task, user_hash=hash_, user=event.user) for (task, hash_), event in new.items()])
    for key in sorted(kept):
        _name_first(session, *key, first[key])


def start(session: Session, removals: Iterable[Removal]) -> None:
    """Have these removed, after the transaction."""
    session.add_all(removals)
    session.flush()


def erased_of(session: Session, users: Iterable[Key], tombstone: Tombstone) -> dict[Key, str]:
    """Those of the users who were erased, with what is kept of them."""
    if session.exec(select(Erasure.task).limit(1)).first() is None:
        return {}  # as long as nobody was ever erased, nothing is hashed
    hashes = {(user[0], tombstone(*user)): user for user in users}
    return {hashes[key]: key[1] for key in erased_among(session, hashes)}


def keep_prompts_out(session: Session, task: str, prompts: Iterable[str], tombstone: Tombstone) -> None:
    """Remember that these went with an erased user."""
    insert_new(session, ErasedPrompt, [{"task": task, "prompt": tombstone(task, prompt)} for prompt in prompts])


def gone_among(session: Session, asked: Collection[Key], tombstone: Tombstone) -> set[Key]:
    """Those of tasks and prompts' hashes that went with an erased user, and that nobody asked since."""
    if not asked or session.exec(select(ErasedPrompt.task).limit(1)).first() is None:
        return set()
    digests = {(task, tombstone(task, prompt)): (task, prompt) for task, prompt in asked}
    erased = select_by(session, ErasedPrompt, ("task", "prompt"), ("task", "prompt"), list(digests))
    gone = {digests[row[0], row[1]] for row in erased}
    return gone - {(row[0], row[1]) for row in select_by(session, AskedPrompt, ("task", "hash"), ("task", "hash"), list(gone))}


def under_way(session: Session, erased: Collection[Key]) -> set[Key]:
    """Of tasks and users' hashes those whose removal has not come to the event log yet, and will look through it."""
    before = select(Removal).where(Removal.state != "log", col(Removal.user).is_not(None))
    return {key for one in session.exec(before) if one.user_hash and (key := (one.task, one.user_hash)) in erased}


def count(session: Session, removed: Iterable[Key]) -> None:
    """Add to the proofs, by task and user's hash, how many events lost their content."""
    for (task, hash_), events in sorted(Counter(removed).items()):
        here = (col(Erasure.task) == task, col(Erasure.user_hash) == hash_)
        session.connection().execute(update(Erasure).where(*here).values(events=Erasure.events + events))


def cutoffs(session: Session) -> dict[str, datetime]:
    """By task, before what time events lose their content."""
    return dict(session.exec(select(Retention.task, func.max(Retention.before)).group_by(col(Retention.task))).all())


def claimed(value: bytes) -> Key | None:
    """The task and the user that a JSON object names, be it a valid event or not."""
    said = parsed(value)
    task, user = said.get("task"), said.get("user")
    return (task, user) if isinstance(task, str) and isinstance(user, str) else None


def parsed(value: bytes) -> dict[str, Any]:
    """The JSON object that a value is; an empty one where it is none."""
    try:
        said = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _lock(session: Session, function: str) -> None:
    if session.connection().dialect.name == "postgresql":
        session.connection().execute(text(f"SELECT {function}(:number)"), {"number": _LOCK})


def _proof(task: str, user_hash: str, event: ErasureEvent, log: str) -> dict[str, Any]:
    who = {"task": task, "user_hash": user_hash}
    return who | {"event_id": event.event_id, "asked_at": event.occurred_at, "events": 0, "log": log}


def _name_first(session: Session, task: str, user_hash: str, event: ErasureEvent) -> None:
    at, id_ = col(Erasure.asked_at), col(Erasure.event_id)
    later = or_(at > event.occurred_at, and_(at == event.occurred_at, id_ > event.event_id))
    here = (col(Erasure.task) == task, col(Erasure.user_hash) == user_hash, later)
    session.connection().execute(update(Erasure).where(*here).values(asked_at=event.occurred_at, event_id=event.event_id))


def erased_among(session: Session, keys: Collection[Key]) -> set[Key]:
    """Those of tasks and users' hashes that have a tombstone."""
    return {tuple(row) for row in select_by(session, Erasure, ("task", "user_hash"), ("task", "user_hash"), list(keys))}
