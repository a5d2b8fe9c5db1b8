"""The supervisor over real processes: small children stand in for Whetstone's."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.remains import AlreadyRunning, reap, stop, the_only_one
from deploy.status import Status, boot_id, read_status
from deploy.warden import descendants

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20

SUPERVISE = """
import asyncio, json, sys
from pathlib import Path
from deploy.probes import lives
from deploy.remains import reap, the_only_one
from deploy.supervisor import Process, RestartRule, StartFailed, Supervisor

run_dir = Path(sys.argv[1])
rule = RestartRule(first_pause_s=0.05, max_pause_s=0.2, stable_s=60, max_failures=4, max_failures_at_start=2)
processes = [Process(ready=lives(0.1), grace_s=1, **described) for described in json.loads(sys.argv[2])]

async def serve():
    await Supervisor(processes, run_dir, run_dir / "logs", rule=rule).serve()

with the_only_one(run_dir):
    reap(run_dir)
    try:
        asyncio.run(serve())
    except StartFailed as error:
        sys.exit(str(error))
"""

SLEEPS = [sys.executable, "-c", "import time; print('sleeping', flush=True); time.sleep(1000)"]
# Ignores SIGTERM; its children too, one of them in a session of its own and with a wiped environment, as vLLM's.
_DEAF = "trap '' TERM; while :; do sleep 0.1; done"
STUBBORN = [
    "bash",
    "-c",
    f"trap '' TERM; ({_DEAF}) & env -i setsid bash -c \"{_DEAF}\" & wait",
]


@contextmanager
def supervisor(run_dir: Path, *processes: dict[str, object]) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-c", SUPERVISE, str(run_dir), json.dumps(processes)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as started:
        try:
            yield started
        finally:
            started.kill()
            started.wait()
            reap(run_dir)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def status(run_dir: Path) -> Status:
    found = read_status(run_dir)
    assert found
    return found


def until_ready(run_dir: Path) -> None:
    until(lambda: (s := read_status(run_dir)) is not None and s.all_ready, "ready")


def session_processes(run_dir: Path) -> set[int]:
    """Everything that descends from the wardens now."""
    return {pid for p in status(run_dir).processes if p.warden for pid in (p.warden.pid, *descendants(p.warden.pid))}


def alive(pids: set[int]) -> set[int]:
    living = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                living.add(pid)
    return living


def test_sigterm_stops_everything_in_order_and_cleanly(tmp_path: Path) -> None:
    says_when = "trap 'date +%s%N > $0; exit 0' TERM; while :; do sleep 0.05; done"
    first = {"name": "first", "command": ["bash", "-c", says_when, str(tmp_path / "first")], "stop_phase": 0}
    last = {"name": "last", "command": ["bash", "-c", says_when, str(tmp_path / "last")], "stop_phase": 1}
    with supervisor(tmp_path, last, first) as started:
        until_ready(tmp_path)
        all_of_them = session_processes(tmp_path)
        started.terminate()
        assert started.wait(PATIENCE_S) == 0
    assert int((tmp_path / "first").read_text()) < int((tmp_path / "last").read_text())
    assert len(all_of_them) >= 4
    assert not alive(all_of_them)
    assert {p.state for p in status(tmp_path).processes} == {"stopped"}


def test_a_child_that_ignores_sigterm_goes_with_all_its_grandchildren(tmp_path: Path) -> None:
    with supervisor(tmp_path, {"name": "stubborn", "command": STUBBORN}) as started:
        until_ready(tmp_path)
        all_of_them = session_processes(tmp_path)
        started.send_signal(signal.SIGINT)
        assert started.wait(PATIENCE_S) == 0
    assert len(all_of_them) >= 4
    assert not alive(all_of_them)


def test_a_killed_supervisor_leaves_no_process_behind(tmp_path: Path) -> None:
    described = {"name": "stubborn", "command": STUBBORN}, {"name": "sleeps", "command": SLEEPS}
    with supervisor(tmp_path, *described) as started:
        until_ready(tmp_path)
        all_of_them = session_processes(tmp_path)
        started.kill()
        until(lambda: not alive(all_of_them), "everything ends")


@pytest.mark.parametrize("victim", ["process", "warden"])
def test_what_is_killed_is_started_again(tmp_path: Path, victim: str) -> None:
    with supervisor(tmp_path, {"name": "stubborn", "command": STUBBORN}):
        until_ready(tmp_path)
        before = session_processes(tmp_path)
        identity = getattr(status(tmp_path).named("stubborn"), victim)
        os.kill(identity.pid, signal.SIGKILL)
        until(lambda: status(tmp_path).named("stubborn").restarts == 1 and status(tmp_path).all_ready, "started again")
        assert not alive(before)


def test_a_second_start_is_refused_and_names_the_remedy(tmp_path: Path) -> None:
    with supervisor(tmp_path, {"name": "sleeps", "command": SLEEPS}) as started:
        until_ready(tmp_path)
        with pytest.raises(AlreadyRunning, match=rf"process {started.pid}.*make down"), the_only_one(tmp_path):
            pass


def test_down_stops_what_runs_elsewhere(tmp_path: Path) -> None:
    with supervisor(tmp_path, {"name": "sleeps", "command": SLEEPS}) as started:
        until_ready(tmp_path)
        all_of_them = session_processes(tmp_path)
        assert stop(tmp_path)
        assert started.wait(PATIENCE_S) == 0
        assert not alive(all_of_them)
        assert not stop(tmp_path)


def test_the_next_start_reaps_what_supervisor_and_wardens_left_when_all_were_killed(tmp_path: Path) -> None:
    # Without a warden nobody ends the session of its own; its mark in the environment finds it.
    detached = "setsid sleep 1000 & exec sleep 1000"
    with supervisor(tmp_path, {"name": "detached", "command": ["bash", "-c", detached]}) as started:
        until_ready(tmp_path)
        all_of_them = session_processes(tmp_path)
        os.kill(started.pid, signal.SIGSTOP)  # it must not see its warden die
        os.kill(status(tmp_path).named("detached").warden.pid, signal.SIGKILL)  # type: ignore[union-attr]  # it is ready
        started.kill()
        until(lambda: started.poll() is not None, "supervisor ends")
        assert alive(all_of_them)
        with the_only_one(tmp_path):
            assert reap(tmp_path)
        assert not alive(all_of_them)


def test_another_process_that_got_an_old_id_is_never_killed(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as innocent:
        old = {"pid": innocent.pid, "started": 1}
        record = {
            "run": "none",
            "boot": boot_id(),
            "supervisor": 1,
            "processes": [{"name": "old", "process": old, "warden": old}],
        }
        (tmp_path / "status.json").write_text(json.dumps(record))
        assert not reap(tmp_path)
        assert innocent.poll() is None
        innocent.kill()


def test_a_process_that_never_starts_stops_the_start_and_shows_its_last_words(tmp_path: Path) -> None:
    fails = ["bash", "-c", "echo the reason; exit 7"]
    with supervisor(tmp_path, {"name": "sleeps", "command": SLEEPS}, {"name": "fails", "command": fails}) as started:
        assert started.wait(PATIENCE_S) == 1
        assert started.stderr
        told = started.stderr.read()
    assert "fails does not start: ended with status 7, 2 times in a row" in told
    assert "the reason" in told


def test_the_rest_goes_on_without_a_process_that_is_given_up(tmp_path: Path) -> None:
    falls_later = ["bash", "-c", "sleep 0.4; exit 3"]
    with supervisor(tmp_path, {"name": "sleeps", "command": SLEEPS}, {"name": "falls", "command": falls_later}):
        until(lambda: (s := read_status(tmp_path)) is not None and s.named("falls").state == "failed", "given up")
        assert "status 3, 4 times in a row" in status(tmp_path).named("falls").note
        assert status(tmp_path).named("sleeps").state == "ready"


def test_a_process_waits_for_those_that_it_needs(tmp_path: Path) -> None:
    needed = {"name": "needed", "command": ["sleep", "1000"]}
    needs = {"name": "needs", "command": SLEEPS, "after": ["needed"]}
    with supervisor(tmp_path, needs, needed):
        until_ready(tmp_path)
        started = {p.name: p.process.started for p in status(tmp_path).processes if p.process}
        assert started["needs"] > started["needed"]


def test_what_a_child_says_is_kept_in_its_log(tmp_path: Path) -> None:
    with supervisor(tmp_path, {"name": "sleeps", "command": SLEEPS}):
        until_ready(tmp_path)
        until(lambda: (tmp_path / "logs" / "sleeps.log").read_text() == "sleeping\n", "log")
