"""Sealed records: what a user says is encrypted under a key of that user's own before Kafka has it.

Kafka cannot lose single records before they expire. So the erasure of a user destroys the key, and with it every copy of what
the topic holds of them, on brokers, replicas and backups alike. In clear stands only what names the event, so that it
can be told apart, and found to be erased, without the key. Erasures, and events without a user, are not sealed.
"""

import os
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ingest.database import Database
from ingest.erasure import Tombstone, tombstone
from ingest.events import Identifier, canonical
from ingest.log import SEALED, NewRecord
from ingest.settings import Settings, TaskName
from ingest.user_keys import Owner, UserKeys

_NONCE_BYTES = 12
Seal = Callable[[Sequence[NewRecord]], Sequence[NewRecord]]
"""From records as they are to records as Kafka may have them. Raises KeysUnavailable."""


class Sealed(BaseModel):
    """The value of a sealed record."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    task: TaskName
    event_id: Identifier
    type: Annotated[str, Field(pattern="^[a-z]{1,40}$")]
    user_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="As an erasure keeps it.")]
    nonce: Annotated[bytes, Field(min_length=_NONCE_BYTES, max_length=_NONCE_BYTES)]
    content: Annotated[bytes, Field(description="The event's canonical body under AES-256-GCM.")]

    @property
    def key(self) -> tuple[str, str]:
        """The event's: its task and its id."""
        return self.task, self.event_id

    @property
    def owner(self) -> Owner:
        return self.task, self.user_hash

    def open(self, key: bytes) -> bytes | None:
        """The event's body; None where it was sealed under another key, or anything of this was changed since."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(key).decrypt(self.nonce, self.content, _names(self.task, self.event_id, self.type, self.user_hash))
        except InvalidTag:
            return None


class _Head(BaseModel):
    """What a body says of itself."""

    task: str
    event_id: str
    type: str
    user: str | None = None


def sealer(settings: Settings, database: Database) -> Seal | None:
    """What seals records; None where the settings have none sealed.

    Raises:
        WrongSetting: there is no erasure key.
    """
    if not settings.encrypts_users:
        return None
    return Sealer(UserKeys(database), tombstone(settings.erasure))


class Sealer:
    """Seals records, with one look-up of keys for all of them. May wait for the database: not for an event loop."""

    def __init__(self, keys: UserKeys, hashed: Tombstone) -> None:
        self._keys = keys
        self._hashed = hashed

    def __call__(self, records: Sequence[NewRecord]) -> list[NewRecord]:
        """The records as Kafka may have them.

        Raises:
            KeysUnavailable: none of them is sealed.
        """
        heads = [_Head.model_validate_json(record.value) for record in records]
        owners = [self._owner(head) for head in heads]
        keys = self._keys.of({owner for owner in owners if owner})
        together = zip(records, heads, owners, strict=True)
        return [_sealed(record, head, owner[1], keys[owner]) if owner else record for record, head, owner in together]

    def _owner(self, head: _Head) -> Owner | None:
        if head.user is None or head.type == "erasure":
            return None
        return head.task, self._hashed(head.task, head.user)


def _sealed(record: NewRecord, head: _Head, user_hash: str, key: bytes) -> NewRecord:
    """The record with its value sealed; key and headers stay. The same record sealed again has other bytes."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    names = {"task": head.task, "event_id": head.event_id, "type": head.type, "user_hash": user_hash}
    content = AESGCM(key).encrypt(nonce, record.value, _names(**names))
    value = Sealed(**names, nonce=nonce, content=content).model_dump_json().encode()
    return NewRecord(record.key, value, (*record.headers, SEALED))


def _names(task: str, event_id: str, type: str, user_hash: str) -> bytes:
    """What a content is bound to: put under another name, it does not open."""
    return canonical([task, event_id, type, user_hash])
