"""What a worker answers over HTTP: whether it lives, and its metrics."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from ingest import problems
from ingest.guard import Guard
from ingest.keys import ALL_TASKS, KeyRing
from ingest.observe import metrics_response
from ingest.settings import PairingSettings

logger = logging.getLogger(__name__)


@contextmanager
def served(settings: PairingSettings, keys: KeyRing) -> Iterator[None]:
    """Answer in a thread while the block runs. A port in use costs the metrics, not the pairs."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings, keys), log_config=None, access_log=False, server_header=False))
    try:
        socket = uvicorn.Config(lambda: None, host=settings.host, port=settings.port).bind_socket()
    except SystemExit:  # how uvicorn says that the address is taken
        logger.warning("no metrics: %s:%d is in use; give each worker a pairing.port of its own", settings.host, settings.port)
        yield
        return
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, name="pairing-http", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)
        with suppress(OSError):
            socket.close()


def create_app(settings: PairingSettings, keys: KeyRing) -> FastAPI:
    """`/healthz` for anybody, `/metrics` for a key with the scope `admin` and all tasks."""
    app = FastAPI(title="Whetstone pairing", docs_url=None, redoc_url=None, openapi_url=None)

    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    async def metrics(request: Request) -> Response:
        caller = await run_in_threadpool(keys.authenticate, request.headers.get("authorization"))
        caller.require("admin", ALL_TASKS)
        return metrics_response()

    app.get("/healthz")(healthz)
    app.get("/metrics")(metrics)
    problems.install(app)
    app.add_middleware(Guard, allowed_hosts=settings.allowed_hosts, max_body_bytes=0)
    return app
