"""`whetstone up` with all its processes; a small process that speaks vLLM's API stands in for the engine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.remains import stop
from deploy.service import Service, ServiceFailed
from deploy.status import Status
from tests.services.ports import free_ports

ROOT = Path(__file__).parents[2]
PATIENCE_S = 90
SETTINGS = """
[engine]
module = "tests.standins.vllm"
[model]
name = "organisation/no-model-is-read-by-the-stand-in"
[tasks.short]
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "whetstone.toml"
    file.write_text(SETTINGS)
    ports = free_ports(2)
    return {
        "WHETSTONE_CONFIG": str(file),
        "WHETSTONE_DATA_DIR": str(tmp_path / "data"),
        "WHETSTONE_GATEWAY_PORT": str(ports[0]),
        "WHETSTONE_INGEST_PORT": str(ports[1]),
    }


@pytest.fixture
def service(environment: dict[str, str]) -> Iterator[Service]:
    with Service(environment, ready_timeout_s=PATIENCE_S) as started:
        yield started
    assert not living(started.data_dir)


def living(data_dir: Path) -> list[int]:
    """Processes of this machine that were started for this data directory."""
    mark = f"WHETSTONE_DATA_DIR={data_dir}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marked and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


def status(service: Service) -> Status:
    found = service.status()
    assert found
    return found


def whetstone(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.cli", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=PATIENCE_S
    )


def test_the_examples_that_up_prints_work_when_pasted(service: Service, environment: dict[str, str]) -> None:
    shown = "from deploy.up import examples; from ingest.settings import load_settings; print(examples(load_settings()))"
    env = {**os.environ, **environment}
    printed = subprocess.run([sys.executable, "-c", shown], cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    pasted = printed[printed.index("ID=$(") :].replace(".venv/bin/python", sys.executable)
    commands = pasted.replace("The same in Python, with two candidates to choose from, which makes a pair:", "")
    commands = commands.replace(".venv/bin/whetstone pairs list", "true")
    done = subprocess.run(["bash", "-e"], input=commands, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert '"choices"' in done.stderr  # what the first command shows of the reply
    assert done.stdout.rstrip().endswith(" 202")
    until(lambda: "choice" in whetstone(environment, "pairs", "list").stdout, "the choice becomes a pair")


def test_every_killed_process_is_started_again(service: Service) -> None:
    names = [process.name for process in status(service).processes]
    assert {"engine", "ingest", "pairing", "gateway", "rollout", "trainer"} == set(names)
    for name in names:
        pid = status(service).named(name).pid
        assert pid
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(process.restarts == 1 for process in status(service).processes), "all started again")
    service.wait_until_ready()


def test_a_killed_supervisor_leaves_nothing_and_the_next_start_works(environment: dict[str, str]) -> None:
    with Service(environment, ready_timeout_s=PATIENCE_S) as first:
        kept = json.loads((first.data_dir / "keys.json").read_text())
        first.kill()
        with Service(environment, ready_timeout_s=PATIENCE_S) as second:
            assert json.loads((second.data_dir / "keys.json").read_text()) == kept
    until(lambda: not living(first.data_dir), "everything ends")


def test_down_stops_a_service_that_was_started_elsewhere(service: Service, environment: dict[str, str]) -> None:
    assert whetstone(environment, "down").stdout == "Stopped.\n"
    until(lambda: not living(service.data_dir), "everything ends")


def test_a_second_start_is_refused_in_one_sentence(service: Service, environment: dict[str, str]) -> None:
    refused = whetstone(environment, "up")
    assert refused.returncode == 2
    assert f"running already on {service.data_dir} (process {service.pid})" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_port_in_use_is_named_before_anything_starts(environment: dict[str, str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(environment["WHETSTONE_INGEST_PORT"])))
        other.listen()
        with pytest.raises(ServiceFailed, match=r"^Port \d+ on 127\.0\.0\.1 is in use.*WHETSTONE_INGEST_PORT.*$"):
            Service(environment).__enter__()
    data_dir = Path(environment["WHETSTONE_DATA_DIR"])
    assert not (data_dir / "run" / "status.json").exists()
    assert not stop(data_dir / "run")


@pytest.mark.skipif("KAFKA_HOME" not in os.environ, reason="no Apache Kafka at hand: KAFKA_HOME names none")
def test_apache_kafka_runs_as_one_of_the_processes(environment: dict[str, str]) -> None:
    with Service({**environment, "WHETSTONE_LOG": "kafka"}, ready_timeout_s=PATIENCE_S) as started:
        pid = status(started).named("kafka").pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: status(started).named("kafka").restarts == 1, "started again")
        started.wait_until_ready()
    assert not living(started.data_dir)
