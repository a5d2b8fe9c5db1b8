"""What the processes tell about themselves: log lines and metrics. Never what a user wrote, nor who the user is."""

import json
import logging
import os
import shutil
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

REQUESTS = Counter("whetstone_ingest_requests", "Requests with feedback, by how they were answered.", ["outcome"])
EVENTS = Counter("whetstone_ingest_events", "Events accepted: durable in the event log.", ["type", "task"])
APPEND_SECONDS = Histogram(
    "whetstone_ingest_append_seconds",
    "From handing events to the event log to knowing that they are durable.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_FLIGHT = Gauge("whetstone_ingest_in_flight_events", "Events not yet durable.", multiprocess_mode="livesum")

_SHARED_DIR = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported
_CHATTY = ("apscheduler", "httpx", "kafka")  # log every look, every request, or every lost connection, at INFO


class JsonLines(logging.Formatter):
    """One JSON object a line. Of an exception its class and where it passed, not its message: that may quote a user."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1]:
            line |= _where(record.exc_info[1])
        return json.dumps(line)


def configure_logging(process: str) -> None:
    """Log JSON lines to stderr, each with the name of the process."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(JsonLines(process))
    logging.basicConfig(level=logging.INFO, handlers=[lines], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def share_metrics(directory: Path) -> None:
    """Make the workers started after this count together, in files of an emptied directory."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    os.environ[_SHARED_DIR] = str(directory)


def metrics_response() -> Response:
    """All metrics of the process, or of all its workers where they count together, in Prometheus' text format."""
    registry = REGISTRY
    if _SHARED_DIR in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _where(error: BaseException) -> dict[str, str | list[str]]:
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__qualname__, "where": places}
