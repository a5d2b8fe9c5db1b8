"""The database engine and its transactions: SQLite (WAL) or PostgreSQL, by URL."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Engine, String, event
from sqlalchemy.engine import make_url
from sqlalchemy.types import TypeDecorator
from sqlmodel import Session, create_engine

_TIMEOUT_S = 30
_READERS_TIMEOUT_MS = 1_000

KEY = String().with_variant(String(collation="C"), "postgresql")
"""Of ids and hashes that are looked up: compared byte by byte, several times as fast as by the rules of a language."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in and out, also on SQLite, which stores no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC) if value else None


class Database:
    """Connections to one database, and transactions over them."""

    def __init__(self, url: str, pool_size: int = 5) -> None:
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = _sqlite(url) if self.is_sqlite else _postgres(url, pool_size)

    @contextmanager
    def begin(self, meanwhile: Callable[[], bool] | None = None) -> Iterator[Session]:
        """A writing transaction: commits at the end of the block, rolls back when it raises.

        `meanwhile` does a little of something else, and returns whether there is more of it. It must not raise what it can
        bear: while a server of PostgreSQL works, it is called again and again. SQLite works in this process.
        """
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            if self.is_sqlite:
                # Take the write lock at once: a read that is upgraded later fails instead of waiting.
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            elif meanwhile:
                _driver(session).meanwhile = meanwhile
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A reading session; what it loaded stays usable after the block."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    def truncate_wal(self) -> bool:
        """SQLite: see that what was deleted is in no file; False while somebody still reads an older state: try again.

        PostgreSQL: always True, and its server's own affair. What was deleted goes with the next VACUUM, which runs by itself,
        and from its write-ahead log, replicas and backups as those are set up.
        """
        if not self.is_sqlite:
            return True
        with self.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {_READERS_TIMEOUT_MS}")
            busy, _, _ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {_TIMEOUT_S * 1000}")
        return not busy

    def close(self) -> None:
        self.engine.dispose()


def _postgres(url: str, pool_size: int) -> Engine:
    from ingest.meanwhile import Connection

    # hide_parameters: an error's text must not hold what people wrote.
    engine = create_engine(url, pool_size=pool_size, pool_pre_ping=True, hide_parameters=True)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Dialect, _record: Any, args: Any, options: Any) -> Connection:
        return Connection.connect(*args, **options)

    @event.listens_for(engine, "checkin")
    def leave(connection: Connection | None, _record: Any) -> None:
        if connection is not None:  # None: it broke
            connection.meanwhile = None

    return engine


def _driver(session: Session) -> Any:
    """The driver's own connection."""
    return session.connection().connection.driver_connection


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": _TIMEOUT_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where `begin` says, not where the driver guesses
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")

    return engine
