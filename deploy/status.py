"""What runs now, as the supervisor writes it into `run_dir/status.json`: for the screen, for `down`, for the next start."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

ProcessState = Literal["waiting", "starting", "ready", "pausing", "failed", "stopped"]
ServiceState = Literal["starting", "running", "stopping"]


class Identity(BaseModel):
    """One process of the system; its id alone may be another's later."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: int  # clock ticks since the system's start


class ProcessStatus(BaseModel):
    """One process of Whetstone."""

    name: str
    state: ProcessState = "waiting"
    process: Identity | None = None
    warden: Identity | None = None
    restarts: int = 0
    note: str = ""

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None


class Status(BaseModel):
    """All processes of one start. `running` once each of them was ready."""

    run: str
    boot: str
    supervisor: int
    state: ServiceState = "starting"
    processes: list[ProcessStatus]

    @property
    def all_ready(self) -> bool:
        return self.state == "running" and all(process.state == "ready" for process in self.processes)

    def named(self, name: str) -> ProcessStatus:
        return next(process for process in self.processes if process.name == name)

    def write(self, run_dir: Path) -> None:
        draft = run_dir / "status.json.new"
        draft.write_text(self.model_dump_json(indent=1))
        draft.replace(run_dir / "status.json")


def read_status(run_dir: Path) -> Status | None:
    """What the last start wrote, or None where nothing (readable) stands."""
    try:
        return Status.model_validate_json((run_dir / "status.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def identity(pid: int) -> Identity | None:
    """None where no such process is alive."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else Identity(pid=pid, started=int(fields[19]))


def is_alive(process: Identity | None) -> bool:
    return process is not None and identity(process.pid) == process


def boot_id() -> str:
    """Changes with each start of the system."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def processes_of_this_machine() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
