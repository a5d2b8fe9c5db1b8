import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.observe import JsonLines

SECRET = "the-secret-of-a-user"
WORKER = """
import sys
from ingest.observe import EVENTS, metrics_response
EVENTS.labels("choice", "t").inc()
sys.stdout.write(metrics_response().body.decode())
"""


def logged(caplog: pytest.LogCaptureFixture) -> dict[str, object]:
    text = JsonLines("ingest").format(caplog.records[-1])
    assert "\n" not in text
    line: dict[str, object] = json.loads(text)
    return line


def test_a_log_line_is_one_json_object(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("a").warning("Lost %s\nof them.", 3)
    line = logged(caplog)
    assert (line["process"], line["level"], line["message"]) == ("ingest", "warning", "Lost 3\nof them.")


def test_an_exception_is_logged_by_its_place_and_not_by_its_message(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("a").exception("Failed.")
    line = logged(caplog)
    assert line["error"] == "ValueError"
    assert "test_observe.py" in str(line["where"])
    assert SECRET not in json.dumps(line)


def test_workers_count_together(tmp_path: Path) -> None:
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    run = [subprocess.run([sys.executable, "-c", WORKER], env=env, capture_output=True, text=True, check=True) for _ in "12"]
    assert 'whetstone_ingest_events_total{task="t",type="choice"} 2.0' in run[-1].stdout
