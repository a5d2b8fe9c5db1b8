"""API keys: who may do what, for which tasks. Only a SHA-256 of each secret is kept, so a stolen database opens nothing."""

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from pydantic import TypeAdapter
from sqlalchemy import JSON, Column
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Field, Session, SQLModel, col, select

from ingest.database import Database, UtcDateTime
from ingest.problems import Problem
from ingest.settings import TaskName

Scope = Literal["inference", "feedback", "expert", "criterion", "preference", "erasure", "carried-generation", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
ALL_TASKS = "*"

CACHE_S = 3.0
"""A revoked key works for this long, in seconds."""
OUTAGE_S = 300.0
"""While the database does not answer, a key that was good works on for this long: feedback is worth more than that risk."""

_PREFIX = "wsk_"
_tasks = TypeAdapter(tuple[Literal["*"] | TaskName, ...])
_scopes = TypeAdapter(tuple[Scope, ...])


class ApiKey(SQLModel, table=True):
    """What is kept of a key."""

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True, description="Public name of the key: in `whetstone keys list` and in the event log.")
    name: str = Field(description="What a person calls it.")
    digest: str = Field(unique=True, description="SHA-256 of the key, in hex.")
    tasks: list[str] = Field(sa_column=Column(JSON, nullable=False), description='Tasks it is bound to; ["*"]: all.')
    scopes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(None, sa_type=UtcDateTime)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, as the key says."""

    key_id: str
    tasks: frozenset[str]
    scopes: frozenset[str]

    def require(self, scope: Scope, task: str) -> None:
        """Pass if the key may do this for the task; the task `*` means all of them.

        Raises:
            Problem: 403, the key has not this scope or is not bound to this task.
        """
        if scope not in self.scopes:
            make = f"whetstone keys create --name NAME --scope {scope} --task {task}"
            raise Problem(403, "Scope missing", f"Use an API key with the scope {scope}: `{make}` makes one.")
        if not self.tasks & {task, ALL_TASKS}:
            raise Problem(403, "Other task", "This API key is bound to other tasks. Use one made with `--task` for this task.")


def create_key(session: Session, name: str, tasks: Sequence[str], scopes: Sequence[Scope]) -> str:
    """Make a key and return it: the only time that it can be read.

    Raises:
        pydantic.ValidationError: a task or scope that cannot be.
    """
    key = _PREFIX + secrets.token_urlsafe(32)
    row = ApiKey(
        id=f"key-{secrets.token_hex(6)}",
        name=name,
        digest=digest(key),
        tasks=list(_tasks.validate_python(tuple(tasks))),
        scopes=list(_scopes.validate_python(tuple(scopes))),
        created_at=datetime.now(UTC),
        revoked_at=None,
    )
    session.add(row)
    return key


def digest(key: str) -> str:
    """What is kept of a key's secret. It has 256 random bits, so one plain hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """Finds who calls, asking the database again every few seconds."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._known: dict[str, tuple[Principal, float]] = {}  # by digest; never more than there are keys

    def authenticate(self, authorization: str | None) -> Principal:
        """Find who sends this Authorization header. May wait for the database: not for an event loop.

        Raises:
            Problem: 401, no key or one that is not valid; 503, the database does not answer.
        """
        known = self.remembered(authorization)
        if known:
            return known
        wanted = digest(_bearer(authorization))
        try:
            row = self._find(wanted)
        except (DBAPIError, PoolTimeout):
            return self._trusted(wanted)
        if row is None:
            self._known.pop(wanted, None)
            raise _unauthorized("This API key is unknown or revoked. Make one with `whetstone keys create`.")
        principal = Principal(row.id, frozenset(row.tasks), frozenset(row.scopes))
        self._known[wanted] = (principal, self._monotonic())
        return principal

    def remembered(self, authorization: str | None) -> Principal | None:
        """Whom `authenticate` found for this header some seconds ago, without waiting for anything; None: ask it.

        Raises:
            Problem: 401, no key.
        """
        principal, found_at = self._known.get(digest(_bearer(authorization)), (None, 0.0))
        return principal if self._monotonic() - found_at < CACHE_S else None

    def check(self) -> None:
        """Read the table of keys.

        Raises:
            Problem: 503, the database does not answer.
        """
        try:
            with self._database.read() as session:
                session.exec(select(ApiKey.id).limit(1)).all()
        except (DBAPIError, PoolTimeout):
            raise _no_database() from None

    def _find(self, wanted: str) -> ApiKey | None:
        with self._database.read() as session:
            # By its hash, which nobody can steer towards another's: how long the search takes tells nothing.
            return session.exec(select(ApiKey).where(ApiKey.digest == wanted, col(ApiKey.revoked_at).is_(None))).one_or_none()

    def _trusted(self, wanted: str) -> Principal:
        principal, found_at = self._known.get(wanted, (None, 0.0))
        if principal is None or self._monotonic() - found_at > OUTAGE_S:
            raise _no_database()
        return principal


def _bearer(authorization: str | None) -> str:
    kind, _, key = (authorization or "").partition(" ")
    if kind.lower() != "bearer" or not key.startswith(_PREFIX):
        raise _unauthorized("Send the header `Authorization: Bearer KEY`, with a key from `whetstone keys create`.")
    return key.strip()


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "No valid API key", detail, {"WWW-Authenticate": "Bearer"})


def _no_database() -> Problem:
    return Problem(
        503, "Database unavailable", "The database does not answer. Send the same request again.", {"Retry-After": "2"}
    )
