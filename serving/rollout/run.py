"""The rollout process: one at a time for one database, turn after turn until it is told to stop."""

import asyncio
import fcntl
import logging
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from ingest.database import Database
from ingest.settings import Settings
from serving.engine import Engine
from serving.rollout.loop import Rollout, bury

logger = logging.getLogger(__name__)

_LOCK_NUMBER = 0x77_68_65_74  # of PostgreSQL's advisory locks; any number that nothing else in the database uses
_LOCK_EVERY_S = 1
_ENGINE_TIMEOUT_S = 120


class Lock(Protocol):
    """Held by one rollout process; gone when that dies."""

    def held(self) -> bool:
        """True when this process holds it; tries to take it when not."""
        ...

    def release(self) -> None: ...


class FileLock:
    """For SQLite: everything runs on one machine."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def held(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # on a lock that is held already: nothing happens
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        os.close(self._file)


class AdvisoryLock:
    """For PostgreSQL: held by a connection of its own, and lost with it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def held(self) -> bool:
        try:
            return self._still_held() if self._connection else self._take()
        except SQLAlchemyError:
            self.release()
            raise

    def release(self) -> None:
        if self._connection:
            self._connection.invalidate()  # closes the session itself, and with it the lock
            self._connection.close()
        self._connection = None

    def _still_held(self) -> bool:
        assert self._connection
        self._connection.execute(text("SELECT 1"))
        return True

    def _take(self) -> bool:
        connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if connection.execute(text("SELECT pg_try_advisory_lock(:number)"), {"number": _LOCK_NUMBER}).scalar():
            self._connection = connection
            return True
        connection.close()
        return False


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    database = Database(settings.database_url, settings.database.pool_size)
    engine = Engine(settings.engine_url, _ENGINE_TIMEOUT_S)
    lock = FileLock(settings.run_dir / "rollout.lock") if database.is_sqlite else AdvisoryLock(database)
    turning = asyncio.create_task(_turns(settings, lock, Rollout(settings, database, engine), database))
    await asyncio.wait({turning, stopping := asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    turning.cancel()
    try:
        await turning
    except asyncio.CancelledError:
        logger.info("rollout stops")
    finally:
        lock.release()
        await engine.close()
        database.close()


async def _turns(settings: Settings, lock: Lock, rollout: Rollout, database: Database) -> None:
    led = False
    while True:
        try:
            if not lock.held():
                led = False
                await asyncio.sleep(_LOCK_EVERY_S)
                continue
            if not led:
                led = True
                logger.info("rollout leads")
                _bury(database)
            while await rollout.turn():
                pass
        except SQLAlchemyError as error:
            logger.error("the database does not answer: %s", type(error).__name__)
        await asyncio.sleep(settings.rollout.poll_s)


def _bury(database: Database) -> None:
    with database.begin() as session:
        bury(session, datetime.now(UTC))
