"""The lock that one Whetstone holds per data directory, and what an earlier one left behind when it was killed."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.status import Identity, Status, boot_id, identity, is_alive, processes_of_this_machine, read_status
from deploy.warden import descendants

RUN_ID = "WHETSTONE_RUN_ID"
"""Environment variable that marks every process of one start."""
_WARDENS_S = 15
"""Longer than any warden needs after its supervisor died."""
_SUPERVISOR_S = 45
_LOOK_EVERY_S = 0.05


class AlreadyRunning(Exception):
    """Another Whetstone runs on this data directory."""


@contextmanager
def the_only_one(run_dir: Path) -> Iterator[None]:
    """Hold the lock; the system lets go of it however this process ends.

    Raises:
        AlreadyRunning: somebody else holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    run_dir.chmod(0o700)
    with (run_dir / "supervisor.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"Whetstone is running already on {run_dir.parent} (process {holder(run_dir)}): "
                "stop it with `make down`, or set WHETSTONE_DATA_DIR to another directory."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def holder(run_dir: Path) -> int | None:
    """Process id of the supervisor that runs now."""
    with contextlib.suppress(FileNotFoundError), (run_dir / "supervisor.lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = lock.read()
            return int(said) if said else None
    return None


def stop(run_dir: Path) -> bool:
    """Stop what runs on this data directory, in order; False where nothing did."""
    supervisor = holder(run_dir)
    if supervisor is not None:
        os.kill(supervisor, signal.SIGTERM)
        deadline = time.monotonic() + _SUPERVISOR_S
        while holder(run_dir) == supervisor:
            if time.monotonic() > deadline:
                os.kill(supervisor, signal.SIGKILL)
            time.sleep(_LOOK_EVERY_S)
    return reap(run_dir) or supervisor is not None


def reap(run_dir: Path) -> bool:
    """End every process that an earlier start left; True where there were any. Needs the lock, or nobody who holds it."""
    status = read_status(run_dir)
    if status is None or status.boot != boot_id() or not (left := _left(status)):
        return False
    deadline = time.monotonic() + _WARDENS_S
    wardens = [process.warden for process in status.processes]
    while any(map(is_alive, wardens)) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)  # each stops its child in order, as it does whenever its supervisor is gone
    while left := _left(status):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_EVERY_S)
    return True


def _left(status: Status) -> set[int]:
    recorded = [i for process in status.processes for i in (process.warden, process.process) if i]
    wardens = [process.warden for process in status.processes if process.warden]
    alive = {i.pid for i in recorded if is_alive(i)}
    alive.update(pid for pid in processes_of_this_machine() if _is_marked(pid, status.run) or _is_in_group(pid, wardens))
    alive.update(pid for ancestor in tuple(alive) for pid in descendants(ancestor))
    return alive - {os.getpid()}


def _is_marked(pid: int, run: str) -> bool:
    try:
        return f"{RUN_ID}={run}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile, or is somebody else's
        return False


def _is_in_group(pid: int, wardens: list[Identity]) -> bool:
    """Whether it is in a dead warden's group: for processes that write over their own environment, as vLLM's do."""
    try:
        group = os.getpgid(pid)
    except ProcessLookupError:
        return False
    process, leader = identity(pid), identity(group)
    return process is not None and any(
        warden.pid == group and process.started >= warden.started and leader in (warden, None) for warden in wardens
    )
