"""The reconciling loop: compares what is wanted with what vLLM has and what the gateways do, and takes the next steps."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from sqlmodel import Session, col, delete, select

from ingest.database import Database
from ingest.settings import Settings
from serving import releases
from serving.engine import Engine, EngineError
from serving.rollout.patience import Patience
from serving.rollout.steps import Answering, Flip, Load, Observed, Step, Unload, Warm, plan
from serving.tables import Gateway
from serving.trust import Untrusted, check_sealed
from trainer.tables import BASE, Adapter, Release

logger = logging.getLogger(__name__)

_GATEWAY_LOST_S = 10
"""A gateway that has not been heard of for so long counts as dead."""
_WARM_UP = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "temperature": 0}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the database says."""

    tasks: dict[str, releases.TaskReleases]
    adapters: list[Adapter]
    gateways: list[Answering]


class Rollout:
    """One turn after the other: observe, plan, act."""

    def __init__(self, settings: Settings, database: Database, engine: Engine) -> None:
        self._settings = settings
        self._database = database
        self._engine = engine
        self._warm: set[str] = set()
        self._patience = Patience(settings.rollout.drain_timeout_s)
        self._engine_away = False

    async def turn(self) -> bool:
        """Take every step that is due now; False when there was none.

        Raises:
            SQLAlchemyError: the database is away.
        """
        seen = self._look()
        try:
            loaded = await self._engine.models() - {BASE}
        except EngineError as error:
            self._forget_engine(str(error))
            return False
        self._engine_away = False
        self._warm &= loaded
        steps = plan(self._observed(seen, loaded))
        for step in steps:
            await self._take(step, {adapter.name: adapter for adapter in seen.adapters})
        return bool(steps)

    def _look(self) -> Seen:
        with self._database.read() as session:
            return see(session, sorted(self._settings.tasks), datetime.now(UTC))

    def _observed(self, seen: Seen, loaded: frozenset[str]) -> Observed:
        retired = loaded - releases.kept(seen.tasks.values(), seen.adapters)
        return Observed(
            tasks=seen.tasks,
            adapters=seen.adapters,
            loaded=loaded,
            warm=frozenset(self._warm),
            gateways=seen.gateways,
            paused=self._patience.paused(monotonic()),
            overdue=self._patience.overdue(retired, monotonic()),
            max_loaded=self._settings.engine.max_loaded,
        )

    async def _take(self, step: Step, adapters: dict[str, Adapter]) -> None:
        match step:
            case Load(adapter):
                await self._try(adapter, lambda: self._load(adapters[adapter]))
            case Warm(adapter):
                await self._try(adapter, lambda: self._warm_up(adapter))
            case Flip(release_id, task, adapter):
                self._flip(release_id)
                logger.info("%s is answered by %s now (release %d)", task, adapter, release_id)
            case Unload(adapter, drained):
                await self._try(adapter, lambda: self._engine.unload(adapter))
                logger.info("%s unloaded%s", adapter, "" if drained else ", though requests may still be on it")

    async def _try(self, adapter: str, act: Callable[[], Awaitable[None]]) -> None:
        """Act, or leave the adapter alone for a growing while."""
        try:
            await act()
        except (EngineError, Untrusted) as error:
            pause_s = self._patience.failed(adapter, monotonic())
            logger.error("%s: %s; again in %g s", adapter, error, pause_s)
        else:
            self._patience.succeeded(adapter)

    async def _load(self, adapter: Adapter) -> None:
        await asyncio.to_thread(check_sealed, adapter)
        started = monotonic()
        await self._engine.load(adapter.name, Path(adapter.path))
        logger.info("%s loaded in %.3f s", adapter.name, monotonic() - started)

    async def _warm_up(self, adapter: str) -> None:
        await self._engine.chat({"model": adapter, **_WARM_UP})
        self._warm.add(adapter)
        logger.info("%s is warm", adapter)

    def _flip(self, release_id: int) -> None:
        with self._database.begin() as session:
            flip(session, release_id, datetime.now(UTC))

    def _forget_engine(self, why: str) -> None:
        """vLLM is away, and with it everything that was loaded."""
        self._warm.clear()
        if not self._engine_away:
            logger.warning("vLLM is away: %s", why)
        self._engine_away = True


def see(session: Session, tasks: list[str], now: datetime) -> Seen:
    """Read what the next steps depend on."""
    living = col(Gateway.heartbeat) > now - timedelta(seconds=_GATEWAY_LOST_S)
    adapters = list(session.exec(select(Adapter)).all())
    return Seen(
        tasks=releases.read_all(tasks, session.exec(select(Release)).all(), adapters),
        adapters=adapters,
        gateways=[
            Answering(frozenset(gateway.routes.values()), frozenset(gateway.in_flight))
            for gateway in session.exec(select(Gateway).where(living))
        ],
    )


def flip(session: Session, release_id: int, now: datetime) -> None:
    """Make a release live, unless it is already or a newer one of its task is wanted by now."""
    release = session.get_one(Release, release_id)
    newer = select(Release.id).where(Release.task == release.task, col(Release.id) > release_id).limit(1)
    if release.live_at is None and session.exec(newer).first() is None:
        release.live_at = now


def bury(session: Session, now: datetime) -> None:
    """Delete what gateways of long ago said of themselves."""
    session.exec(delete(Gateway).where(col(Gateway.heartbeat) < now - timedelta(hours=1)))
