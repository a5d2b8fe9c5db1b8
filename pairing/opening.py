"""Sealed records are opened before anything else looks at them: what counts, and is hashed, is what was sealed.

Nothing is cached here: one look-up brings the keys of a whole batch, and a destroyed key cannot come back. Which of those that
stay closed belong to erased users is decided where the batch is stored, by their tombstones alone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from sqlmodel import Session

from ingest.database import Database
from ingest.log import SEALED, Record
from ingest.sealing import Sealed
from ingest.user_keys import Owner, UserKey
from pairing.rows import delete_by, look_up_by_key, select_by

_OWNER = ("task", "user_hash")


@dataclass(frozen=True, slots=True)
class Closed:
    """A sealed record that could not be opened."""

    sealed: Sealed
    record: Record

    @property
    def key(self) -> tuple[str, str]:
        """The event's, as Accepted has it."""
        return self.sealed.key


def is_sealed(record: Record) -> bool:
    """Whether the record's value is encrypted."""
    return SEALED in record.headers


def read_sealed(value: bytes) -> Sealed | None:
    """What a sealed record says in clear; None where it is no sealed value."""
    try:
        return Sealed.model_validate_json(value)
    except ValidationError:
        return None


def opened(database: Database, records: Sequence[Record]) -> Sequence[Record]:
    """The records with what can be opened opened; the others stay as they are. Asks the database only if some are sealed."""
    if not any(map(is_sealed, records)):
        return records
    with database.read() as session:
        look_up_by_key(session)
        return opened_in(session, records)


def opened_in(session: Session, records: Sequence[Record]) -> Sequence[Record]:
    """As `opened`."""
    sealed = {place: said for place, one in enumerate(records) if is_sealed(one) and (said := read_sealed(one.value))}
    keys = _keys(session, {one.owner for one in sealed.values()})
    return [_open(record, sealed.get(place), keys) for place, record in enumerate(records)]


def destroy_keys(session: Session, owners: Collection[Owner]) -> None:
    """What is sealed under them can never be read again."""
    delete_by(session, UserKey, _OWNER, sorted(owners))


def _keys(session: Session, owners: Collection[Owner]) -> Mapping[Owner, bytes]:
    return {(task, hash_): key for task, hash_, key in select_by(session, UserKey, (*_OWNER, "key"), _OWNER, list(owners))}


def _open(record: Record, sealed: Sealed | None, keys: Mapping[Owner, bytes]) -> Record:
    body = sealed.open(keys[sealed.owner]) if sealed and sealed.owner in keys else None
    if body is None:
        return record
    return record._replace(value=body, headers=tuple(header for header in record.headers if header != SEALED))
