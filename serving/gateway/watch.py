"""Keeps one gateway process and rollout in step: reads who answers, tells what this process still answers with."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError

from ingest.database import Database
from serving.gateway.errors import NotReady, UnknownModel
from serving.gateway.metrics import IN_FLIGHT
from serving.gateway.routes import Route, Routes, read_routes
from serving.tables import Gateway

logger = logging.getLogger(__name__)

_READ_EVERY_S = 0.15
_TELL_EVERY_S = 0.25
_HEARTBEAT_S = 1


@dataclass(frozen=True, slots=True)
class _Presence:
    routes: dict[str, str]
    in_flight: dict[str, int]

    def differs(self, told: "_Presence | None") -> bool:
        """True when rollout would decide otherwise: counts matter to it only where they are zero."""
        return told is None or self.routes != told.routes or self.in_flight.keys() != told.in_flight.keys()


class Watch:
    """The routes of this process, and its row in the table `gateways`."""

    def __init__(self, database: Database, tasks: Sequence[str], gateway_id: str) -> None:
        self._database = database
        self._tasks = tasks
        self._gateway_id = gateway_id
        self._routes: Routes | None = None
        self._in_flight: Counter[str] = Counter()
        self._away = False

    @property
    def routes(self) -> Routes:
        """Who answers now, as the database last said; while the database is away that stays as it was.

        Raises:
            NotReady: the database has not been read yet.
        """
        if self._routes is None:
            raise NotReady("The gateway is starting.")
        return self._routes

    async def resolve(self, model: str) -> Route:
        """Who answers this model; an adapter sealed a moment ago is looked for in the database before it is refused.

        Raises:
            UnknownModel: no such task, or no such adapter of the task.
        """
        try:
            return self.routes.resolve(model)
        except UnknownModel:
            if "@" not in model:
                raise
        await self.refresh()
        return self.routes.resolve(model)

    @contextmanager
    def answering(self, adapter: str) -> Iterator[None]:
        """Counts a request; rollout leaves the adapter loaded until it is finished."""
        self._in_flight[adapter] += 1
        IN_FLIGHT.labels(adapter).inc()
        try:
            yield
        finally:
            self._in_flight[adapter] -= 1
            IN_FLIGHT.labels(adapter).dec()

    async def refresh(self) -> None:
        """Read the routes now."""
        try:
            self._routes = await asyncio.to_thread(self._read)
        except SQLAlchemyError as error:
            if not self._away:
                logger.error("cannot read the releases; going on with the last ones: %s", type(error).__name__)
            self._away = True
        else:
            self._away = False

    async def follow(self) -> None:
        """Read the routes a few times a second, for ever."""
        while True:
            await self.refresh()
            await asyncio.sleep(_READ_EVERY_S)

    async def tell(self) -> None:
        """Publish what this process answers with, for ever."""
        loop = asyncio.get_running_loop()
        told, told_at = None, loop.time()
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            now = self._presence()
            if now and (now.differs(told) or loop.time() - told_at >= _HEARTBEAT_S) and await self._publish(now):
                told, told_at = now, loop.time()

    async def leave(self) -> None:
        """Take this process's row away: nothing needs to wait for it any more."""
        try:
            await asyncio.to_thread(self._delete)
        except SQLAlchemyError as error:
            logger.warning("cannot sign off; rollout will see that by the clock: %s", type(error).__name__)

    def _presence(self) -> _Presence | None:
        in_flight = {adapter: count for adapter, count in self._in_flight.items() if count}
        return _Presence(self._routes.live, in_flight) if self._routes else None

    async def _publish(self, presence: _Presence) -> bool:
        try:
            await asyncio.to_thread(self._write, presence)
        except SQLAlchemyError as error:
            logger.warning("cannot tell rollout what is in flight: %s", type(error).__name__)
            return False
        return True

    def _read(self) -> Routes:
        with self._database.read() as session:
            return read_routes(session, self._tasks)

    def _write(self, presence: _Presence) -> None:
        row = Gateway(id=self._gateway_id, heartbeat=datetime.now(UTC), routes=presence.routes, in_flight=presence.in_flight)
        with self._database.begin() as session:
            session.merge(row)

    def _delete(self) -> None:
        with self._database.begin() as session:
            if row := session.get(Gateway, self._gateway_id):
                session.delete(row)
