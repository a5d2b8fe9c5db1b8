"""A request and its reply: resolve, ask vLLM, record, answer."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ingest.redaction import CannotRedact
from serving.engine import Engine, EngineError, EngineRefused, EngineUnavailable, NotLoaded
from serving.gateway.errors import EngineSaidNo, GatewayError, NotReady, TooSlow, UnknownModel, error_body
from serving.gateway.metrics import FIRST_BYTE, UNRECORDED
from serving.gateway.record import Identity, Writing, new_generation_id
from serving.gateway.recorder import Recorder
from serving.gateway.request import Ask
from serving.gateway.routes import Route
from serving.gateway.spool import SpoolError
from serving.gateway.watch import Watch

logger = logging.getLogger(__name__)
Json = dict[str, Any]
T = TypeVar("T")


class ClientGone(Exception):
    """Nobody waits for the reply any more."""


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers requests that were authenticated, parsed and allowed."""

    engine: Engine
    watch: Watch
    recorder: Recorder
    timeout_s: float

    async def answer(self, ask: Ask, route: Route, request: Request) -> Response:
        """The reply of the adapter that `route` names, or of the one that took its place in this moment.

        Raises:
            GatewayError: what the client is told instead.
            ClientGone: the client left before the first byte.
        """
        try:
            return await self._by(route, ask, request)
        except NotLoaded:
            await self.watch.refresh()  # it may just have been replaced and unloaded
        now = self.watch.routes.resolve(ask.model)
        if now.adapter == route.adapter:
            raise self._missing(route)
        try:
            return await self._by(now, ask, request)
        except NotLoaded:
            raise self._missing(now) from None

    async def _by(self, route: Route, ask: Ask, request: Request) -> Response:
        identity = Identity(new_generation_id(), route, ask)
        reply = self._stream if ask.stream else self._whole
        try:
            return await reply(identity, request)
        except EngineRefused as refusal:
            raise EngineSaidNo(refusal.status, refusal.message, refusal.param) from None
        except EngineUnavailable as error:
            raise NotReady(f"The model cannot answer at this moment ({error}). Ask again.") from None
        except TimeoutError:
            raise TooSlow(f"No reply within {self.timeout_s:g} s.") from None

    async def _whole(self, identity: Identity, request: Request) -> Response:
        started = monotonic()
        with self.watch.answering(identity.route.adapter):
            async with asyncio.timeout(self.timeout_s):
                answer = await unless_gone(request, self.engine.chat(identity.ask.for_engine(identity.route.adapter)))
        _check_writer(answer, identity.route)
        writing = Writing(identity.ask.candidates)
        writing.add(answer["choices"])
        recorded = await self._record(identity, writing)
        FIRST_BYTE.labels(identity.route.task).observe(monotonic() - started)
        return JSONResponse(identity.rewrite(answer), headers=identity.headers(recorded))

    async def _stream(self, identity: Identity, request: Request) -> Response:
        """Waits for the first chunk, so that whatever goes wrong before it is an error with a status."""
        started, deadline = monotonic(), asyncio.get_running_loop().time() + self.timeout_s
        relay = self._relay(identity, deadline)
        first = await unless_gone(request, _first(relay))
        FIRST_BYTE.labels(identity.route.task).observe(monotonic() - started)
        return Relayed(first, relay, identity.headers(recorded=self.recorder.has_room))

    async def _relay(self, identity: Identity, deadline: float) -> AsyncGenerator[bytes, None]:
        writing, saved = Writing(identity.ask.candidates), False
        chunks = self.engine.stream(identity.ask.for_engine(identity.route.adapter))
        try:
            with self.watch.answering(identity.route.adapter):
                while chunk := await _next(chunks, deadline):
                    _check_writer(chunk, identity.route)
                    writing.add(chunk["choices"])
                    yield _event(identity.rewrite(chunk))
            saved = True
            await self._record(identity, writing)
            yield b"data: [DONE]\n\n"
        except (EngineError, TimeoutError) as error:
            if not writing.started:
                raise
            yield _event(error_body(f"The reply broke off: {type(error).__name__}.", "server_error", code="broken_off"))
        finally:
            if writing.started and not saved:
                self._put(identity, writing)
            await chunks.aclose()

    async def _record(self, identity: Identity, writing: Writing) -> bool:
        """True when the generation is on disk. A reply goes out also when it is not: a full disk fails nobody."""
        try:
            await asyncio.wrap_future(self._put(identity, writing))
        except (SpoolError, CannotRedact):
            return False
        return True

    def _put(self, identity: Identity, writing: Writing) -> "Future[None]":
        written = self.recorder.put(identity, writing)
        written.add_done_callback(_count_unrecorded)
        return written

    def _missing(self, route: Route) -> GatewayError:
        if route.by_name and route.adapter not in self.watch.routes.kept:
            return UnknownModel(f"{route.adapter!r} is not loaded; `whetstone adapters promote` loads it.", "model")
        return NotReady(f"{route.adapter!r} is not loaded yet. Ask again.")


class Relayed(StreamingResponse):
    """A stream whose first event is there; whatever ends it, the relay is closed, and so ends in vLLM too."""

    def __init__(self, first: bytes, relay: AsyncGenerator[bytes, None], headers: dict[str, str]) -> None:
        super().__init__(_chained(first, relay), media_type="text/event-stream", headers={"Cache-Control": "no-cache", **headers})
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._relay.aclose()


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; it is cancelled when the client leaves first.

    Raises:
        ClientGone: the client left.
    """
    working, leaving = asyncio.create_task(work), asyncio.create_task(_leaving(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return await working
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _first(relay: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(relay)


async def _chained(first: bytes, relay: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for event in relay:
        yield event


async def _next(chunks: AsyncGenerator[Json, None], deadline: float) -> Json | None:
    async with asyncio.timeout_at(deadline):
        return await anext(chunks, None)


def _check_writer(answer: Json, route: Route) -> None:
    if answer["model"] != route.adapter:
        logger.error("vLLM answered by another adapter than %s, which it was asked for", route.adapter)
        raise EngineUnavailable("vLLM answered by another adapter")


def _event(content: Json) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def _count_unrecorded(written: "Future[None]") -> None:
    if error := written.exception():
        UNRECORDED.inc()
        logger.error("a reply went out unrecorded: %s", error)
