"""The gateway's HTTP surface: OpenAI's API on the outside, one vLLM behind it."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from ingest.database import Database
from ingest.guard import Guard
from ingest.keys import KeyRing, Principal
from ingest.log import open_log
from ingest.observe import configure_logging, metrics_response
from ingest.problems import Problem
from ingest.redaction import Redactor
from ingest.sealing import sealer
from ingest.settings import Settings, load_settings
from serving.engine import Engine, EngineError
from serving.gateway.answer import Answerer, ClientGone
from serving.gateway.errors import GatewayError, NotReady, error_body
from serving.gateway.metrics import REQUESTS
from serving.gateway.recorder import Recorder
from serving.gateway.request import parse
from serving.gateway.shipping import Shipper
from serving.gateway.spool import Spool, SpoolFile
from serving.gateway.watch import Watch

router = APIRouter()
_NOBODY_READS_THIS = 499


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with, for the life of the process."""

    keys: KeyRing
    engine: Engine
    watch: Watch
    answerer: Answerer


def serve_app() -> FastAPI:
    """The gateway as uvicorn starts it, in each worker."""
    configure_logging("gateway")
    return create_app(load_settings())


def create_app(settings: Settings) -> FastAPI:
    """The gateway of one process."""
    app = FastAPI(title="Whetstone gateway", lifespan=lambda app: _running(app, settings), openapi_url=None)
    app.include_router(router)
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(ClientGone, _client_gone)
    app.add_exception_handler(SQLAlchemyError, _database_away)
    app.add_middleware(Guard, allowed_hosts=settings.gateway.allowed_hosts, max_body_bytes=settings.gateway.max_request_bytes)
    return app


@asynccontextmanager
async def _running(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    gateway_id = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns() // 1_000_000:x}"
    database = Database(settings.database_url, settings.database.pool_size)
    engine = Engine(settings.engine_url, settings.gateway.request_timeout_s)
    spool = Spool(SpoolFile.create(settings.spool_dir, gateway_id), settings.gateway.spool_max_bytes)
    shipper = Shipper(spool, lambda: open_log(settings), sealer(settings, database))
    watch = Watch(database, sorted(settings.tasks), gateway_id)
    recorder = Recorder(spool, Redactor(settings.tasks), settings.model.name)
    answerer = Answerer(engine, watch, recorder, settings.gateway.request_timeout_s)
    app.state.parts = Parts(KeyRing(database), engine, watch, answerer)
    await watch.refresh()
    background = [asyncio.create_task(watch.follow()), asyncio.create_task(watch.tell())]
    try:
        yield
    finally:
        await _end(background)
        await watch.leave()
        await asyncio.to_thread(recorder.close)
        await asyncio.to_thread(shipper.close)
        await engine.close()
        database.close()


async def _end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


async def _principal(request: Request) -> Principal:
    keys, header = _parts(request).keys, request.headers.get("authorization")
    known = keys.remembered(header)
    return known if known else await run_in_threadpool(keys.authenticate, header)


PartsOf = Annotated[Parts, Depends(_parts)]
Caller = Annotated[Principal, Depends(_principal)]


@router.post("/v1/chat/completions")
async def chat(request: Request, parts: PartsOf, caller: Caller) -> Response:
    ask = parse(await request.body(), request.headers)
    route = await parts.watch.resolve(ask.model)
    caller.require("inference", route.task)
    if ask.purpose == "evaluation":
        caller.require("admin", route.task)
    try:
        response = await parts.answerer.answer(ask, route, request)
    except GatewayError as error:
        REQUESTS.labels(route.task, route.adapter, error.status).inc()
        raise
    REQUESTS.labels(route.task, response.headers["X-Whetstone-Adapter"], response.status_code).inc()
    return response


@router.get("/v1/models")
async def models(parts: PartsOf, caller: Caller) -> Response:
    try:
        loaded = await parts.engine.models()
    except EngineError as error:
        raise NotReady(str(error)) from None
    allowed = [task for task in parts.watch.routes.live if _may(caller, task)]
    names = parts.watch.routes.models(loaded, allowed)
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "whetstone"} for name in names]
    return JSONResponse({"object": "list", "data": data})


def _may(caller: Principal, task: str) -> bool:
    try:
        caller.require("inference", task)
    except Problem:
        return False
    return True


@router.get("/healthz")
async def healthz() -> Response:
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(parts: PartsOf) -> Response:
    """Ready when the releases are known and vLLM answers."""
    _known = parts.watch.routes  # raises NotReady before the first reading
    ready = await parts.engine.healthy()
    return JSONResponse({"status": "ok" if ready else "vLLM does not answer"}, status_code=200 if ready else 503)


@router.get("/metrics")
async def metrics(caller: Caller) -> Response:
    caller.require("admin", "*")
    return metrics_response()


def _gateway_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    kind = {401: "authentication_error", 403: "permission_error", 503: "server_error"}[error.status]
    return JSONResponse(error_body(str(error), kind), status_code=error.status, headers=error.headers)


def _of_framework(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = "The gateway has POST /v1/chat/completions and GET /v1/models."
    return JSONResponse(error_body(message, "invalid_request_error"), status_code=error.status_code, headers=error.headers)


def _client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_NOBODY_READS_THIS)


def _database_away(request: Request, _error: Exception) -> Response:
    return _gateway_error(request, NotReady("The database does not answer."))
