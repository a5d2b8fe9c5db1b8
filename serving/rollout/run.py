"""The rollout process: one at a time for one database, turn after turn until it is told to stop."""

import asyncio
import logging
import signal
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from ingest.database import Database
from ingest.leader import Lock, open_lock
from ingest.settings import Settings
from serving.engine import Engine
from serving.rollout.loop import Rollout, bury

logger = logging.getLogger(__name__)

_LOCK_EVERY_S = 1
_ENGINE_TIMEOUT_S = 120


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    database = Database(settings.database_url, settings.database.pool_size)
    engine = Engine(settings.engine_url, _ENGINE_TIMEOUT_S)
    lock = open_lock(database, settings.run_dir, "rollout")
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
