"""The feedback API. 202 means that the event log has the events on disk; anything else means: not accepted, send again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest import problems
from ingest.admission import admit, to_record
from ingest.appending import Appender, Appends, LateLog, TooManyInFlight
from ingest.database import Database
from ingest.document import answers, document, takes_batch, takes_event, wants_key
from ingest.events import Event
from ingest.guard import Guard
from ingest.keys import ALL_TASKS, KeyRing, Principal
from ingest.log import LogError, LogUnavailable, NewRecord, RecordTooLarge, open_log
from ingest.observe import EVENTS, REQUESTS, configure_logging, metrics_response
from ingest.parsing import check_times, parse_batch, parse_event
from ingest.problems import FieldError, Problem
from ingest.redaction import CannotRedact, Redactor
from ingest.sealing import Seal, sealer
from ingest.settings import Settings, load_settings
from ingest.user_keys import KeysUnavailable

READY_WITHIN_S = 2.0
RETRY_AFTER_S = "2"

_DESCRIPTION = "Tell Whetstone what people did with the model's replies. Send the same `event_id` again as often as you like."
_OUTCOMES = {202: "accepted", 401: "denied", 403: "denied", 503: "unavailable"}


Routes = Callable[[Database, KeyRing], APIRouter]
"""Routes of a later stage behind the same door: made over ingest's database and keys, inside its guard."""


def create_app(
    settings: Settings,
    log: Appends,
    keys: KeyRing,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    routers: Sequence[APIRouter] = (),
    seal: Seal | None = None,
) -> FastAPI:
    """The feedback API over this log, which it closes when it ends. With `seal` the log has nothing of users in clear.

    Raises:
        WrongSetting: a task's redaction cannot be used.
    """
    door = Door(settings, log, keys, now, seal)
    app = FastAPI(title="Whetstone feedback", description=_DESCRIPTION, redoc_url=None, lifespan=door.open)
    refused = answers(400, 401, 403, 413, 415, 422, 503)
    batch = takes_batch(settings.ingest.max_batch_events)
    app.post("/v1/feedback", status_code=202, responses=refused, openapi_extra=takes_event())(door.one)
    app.post("/v1/feedback/batch", status_code=202, responses=refused, openapi_extra=batch)(door.batch)
    app.get("/metrics", responses=answers(401, 403, 503), openapi_extra=wants_key())(door.metrics)
    app.get("/healthz")(healthz)
    app.get("/readyz", responses=answers(503))(door.readyz)
    for router in routers:
        app.include_router(router)
    problems.install(app)
    app.openapi = document(app)  # type: ignore[method-assign]  # FastAPI's own way to change the document
    app.add_middleware(Guard, allowed_hosts=settings.ingest.allowed_hosts, max_body_bytes=settings.ingest.max_request_bytes)
    app.add_middleware(Counted)
    return app


def serve_app(*routes: Routes) -> FastAPI:
    """The app of one worker process, by the settings: connections are made here, after the fork."""
    configure_logging("ingest")
    settings = load_settings()
    database = Database(settings.database_url, settings.database.pool_size)
    keys = KeyRing(database)
    routers = [made(database, keys) for made in routes]
    seal = sealer(settings, database)
    return create_app(settings, LateLog(lambda: open_log(settings)), keys, routers=routers, seal=seal)


async def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


class Door:
    """What the routes do."""

    def __init__(self, settings: Settings, log: Appends, keys: KeyRing, now: Callable[[], datetime], seal: Seal | None) -> None:
        self._limits = settings.ingest
        self._tasks = settings.tasks.keys()
        self._log = log
        self._keys = keys
        self._now = now
        self._redactor = Redactor(settings.tasks)
        self._seal = seal
        self._appender = Appender(log, settings.ingest.max_in_flight_events)
        self._checks = ThreadPoolExecutor(1, "readiness")  # one: checks that hang must not pile up

    @asynccontextmanager
    async def open(self, _app: FastAPI) -> AsyncIterator[None]:
        yield
        self._checks.shutdown(wait=False, cancel_futures=True)
        await run_in_threadpool(self._log.close)

    async def one(self, request: Request) -> Response:
        """Accept one event."""
        caller = await self._caller(request)
        return await self._accept(caller, [parse_event(await request.body())], [""])

    async def batch(self, request: Request) -> Response:
        """Accept several events: all of them or, on any error, none."""
        caller = await self._caller(request)
        events = parse_batch(await request.body(), self._limits.max_batch_events)
        return await self._accept(caller, events, [f"events.{index}." for index in range(len(events))])

    async def metrics(self, request: Request) -> Response:
        """Metrics in Prometheus' text format, for a key with the scope `admin` and all tasks."""
        (await self._caller(request)).require("admin", ALL_TASKS)
        return metrics_response()

    async def readyz(self) -> dict[str, str]:
        """The event log and the database answer: feedback is taken now."""
        try:
            check = asyncio.get_running_loop().run_in_executor(self._checks, self._check)
            await asyncio.wait_for(check, READY_WITHIN_S)
        except (LogError, TimeoutError):
            raise Problem(503, "Not ready", "The event log does not answer.", {"Retry-After": RETRY_AFTER_S}) from None
        return {"status": "ready"}

    def _check(self) -> None:
        self._keys.check()
        self._log.end_offsets()

    async def _caller(self, request: Request) -> Principal:
        authorization = request.headers.get("authorization")
        if remembered := self._keys.remembered(authorization):
            return remembered
        return await run_in_threadpool(self._keys.authenticate, authorization)

    async def _accept(self, caller: Principal, events: Sequence[Event], prefixes: Sequence[str]) -> Response:
        received_at = self._now()
        admit(caller, events)
        check_times(events, prefixes, received_at)
        events = await self._redacted(events)
        records = [to_record(event, received_at, caller.key_id) for event in events]
        self._check_sizes(records, prefixes)
        await self._append(await self._sealed(records))
        for (kind, task), count in Counter((event.type, event.task) for event in events).items():
            # A key for all tasks can name any: only known ones become labels.
            EVENTS.labels(kind, task if task in self._tasks else "other").inc(count)
        return JSONResponse({"accepted": len(events)}, 202)

    async def _redacted(self, events: Sequence[Event]) -> Sequence[Event]:
        """What may be kept of them: nothing after this sees more."""
        if not any(self._redactor.needed(event.task) for event in events):
            return events
        try:
            return await run_in_threadpool(lambda: [self._redactor(event) for event in events])
        except CannotRedact as error:
            raise Problem(
                503, "Not accepted", f"{error} Nothing was kept. Send the same events again once it is repaired."
            ) from None

    async def _sealed(self, records: Sequence[NewRecord]) -> Sequence[NewRecord]:
        """As the event log may have them."""
        if self._seal is None:
            return records
        try:
            return await run_in_threadpool(self._seal, records)
        except KeysUnavailable as error:
            raise _away(str(error)) from None

    async def _append(self, records: Sequence[NewRecord]) -> None:
        try:
            await self._appender.append(records)
        except LogUnavailable:
            raise _away("The event log cannot take events now.") from None
        except TooManyInFlight:
            raise _away("More events are coming than the event log can take.") from None
        except RecordTooLarge:
            raise Problem(413, "Event too large", "The event log takes no event of that size: shorten it.") from None

    def _check_sizes(self, records: Sequence[NewRecord], prefixes: Sequence[str]) -> None:
        most = self._limits.max_event_bytes
        errors: list[FieldError] = [
            {"field": prefix.rstrip(".") or "body", "message": f"At most {most} bytes of JSON."}
            for record, prefix in zip(records, prefixes, strict=True)
            if len(record.value) > most
        ]
        if errors:
            raise Problem(413, "Event too large", "Shorten the events that `errors` names.", errors=errors)


def _away(what: str) -> Problem:
    detail = f"{what} Send the same events again: what was taken already counts once."
    return Problem(503, "Not accepted", detail, {"Retry-After": RETRY_AFTER_S})


class Counted:
    """ASGI middleware, the outermost: counts requests with feedback by how they were answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/feedback"):
            await self._app(scope, receive, send)
            return
        outcome = "failed"

        async def noting(message: Message) -> None:
            nonlocal outcome
            if message["type"] == "http.response.start":
                outcome = _OUTCOMES.get(message["status"], "invalid")
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            REQUESTS.labels(outcome).inc()
