"""A key for each user, under which the event log in Kafka holds what they say: once it is destroyed, nobody can read that."""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock

from sqlalchemy import LargeBinary, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Column, Field, Session, SQLModel, col, select

from ingest.database import Database
from ingest.log import LogError

CACHE_S = 60.0
"""A destroyed key may be sealed with for this long, in seconds. What is sealed so can never be opened, and need not be."""
MOST_CACHED = 10_000

_KEY_BYTES = 32
Owner = tuple[str, str]
"""A task, and the hash of one of its users, as an erasure keeps it."""


class UserKey(SQLModel, table=True):
    """The key of a task's user. Deleted when the user is erased."""

    __tablename__ = "user_keys"

    task: str = Field(primary_key=True)
    user_hash: str = Field(primary_key=True, description="HMAC-SHA256 of task and user under erasure.key.")
    key: bytes = Field(sa_column=Column(LargeBinary, nullable=False), description="32 random bytes, for AES-256-GCM.")


class KeysUnavailable(LogError):
    """The keys of users cannot be read from the database now. Nothing was appended: try again."""


class UserKeys:
    """The keys of users, from the database or from some seconds ago. From any thread."""

    def __init__(
        self, database: Database, monotonic: Callable[[], float] = time.monotonic, most_cached: int = MOST_CACHED
    ) -> None:
        self._database = database
        self._monotonic = monotonic
        self._most = most_cached
        self._lock = Lock()
        self._cached: OrderedDict[Owner, tuple[bytes, float]] = OrderedDict()  # the one used last stands last

    def of(self, owners: Collection[Owner]) -> Mapping[Owner, bytes]:
        """Their keys; who has none gets one, the same in every process. May wait for the database: not for an event loop.

        Raises:
            KeysUnavailable: some are not cached, and the database does not answer.
        """
        cached = self._remembered(owners)
        missing = sorted(set(owners) - cached.keys())
        if not missing:
            return cached
        try:
            found = self._find(missing)
        except (DBAPIError, PoolTimeout) as error:
            raise KeysUnavailable("The database does not answer, and it has the keys of users.") from error
        self._remember(found)
        return cached | found

    def _remembered(self, owners: Collection[Owner]) -> dict[Owner, bytes]:
        fresh, now = {}, self._monotonic()
        with self._lock:
            for owner in owners:
                key, read_at = self._cached.get(owner, (b"", float("-inf")))
                if now - read_at < CACHE_S:
                    fresh[owner] = key
                    self._cached.move_to_end(owner)
        return fresh

    def _remember(self, found: Mapping[Owner, bytes]) -> None:
        now = self._monotonic()
        with self._lock:
            for owner, key in found.items():
                self._cached[owner] = (key, now)
                self._cached.move_to_end(owner)
            while len(self._cached) > self._most:
                self._cached.popitem(last=False)

    def _find(self, owners: Sequence[Owner]) -> dict[Owner, bytes]:
        with self._database.read() as session:
            found = _read(session, owners)
        while missing := [owner for owner in owners if owner not in found]:  # again where one was destroyed in between
            with self._database.begin() as session:
                _make(session, missing)
                found |= _read(session, missing)
        return found


def _read(session: Session, owners: Sequence[Owner]) -> dict[Owner, bytes]:
    theirs = tuple_(col(UserKey.task), col(UserKey.user_hash)).in_(owners)
    return {(row.task, row.user_hash): row.key for row in session.exec(select(UserKey).where(theirs))}


def _make(session: Session, owners: Sequence[Owner]) -> None:
    """In the order of the owners, so that two processes wait for each other in one. The key that is there first stays."""
    insert = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(UserKey)
    rows = [{"task": task, "user_hash": hash_, "key": os.urandom(_KEY_BYTES)} for task, hash_ in owners]
    session.connection().execute(insert.on_conflict_do_nothing(), rows)
