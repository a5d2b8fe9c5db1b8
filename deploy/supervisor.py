"""Starts processes in order, keeps them running, and stops them in order."""

import asyncio
import ctypes
import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.child import Child
from deploy.probes import Probe
from deploy.remains import RUN_ID
from deploy.status import Identity, ProcessState, ProcessStatus, ServiceState, Status, boot_id, identity
from deploy.warden import children

_PR_SET_CHILD_SUBREAPER = 36
_STARTING_LOOK_S = 0.2
_READY_LOOK_S = 5.0
_WARDEN_S = 5
"""What a warden needs beyond the grace of its child."""
_LAST_LINES = 15


class StartFailed(Exception):
    """A process ended again and again before the service was ready. The message names it and its log."""


@dataclass(frozen=True, slots=True)
class Process:
    """What to run, and how to see that it works.

    It starts once the processes named in `after` were ready, and gets `start_timeout_s` to become ready itself; later it is
    started again when `alive` says no for `silence_s`. `stale` files are removed before each start. Processes of the
    lowest `stop_phase` are stopped first, with `grace_s` between SIGTERM and SIGKILL.
    """

    name: str
    command: Sequence[str]
    ready: Probe
    env: Mapping[str, str] = field(default_factory=dict)
    alive: Probe | None = None
    after: Sequence[str] = ()
    start_timeout_s: float = 120
    silence_s: float = 120
    grace_s: float = 5
    stop_phase: int = 0
    stale: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class RestartRule:
    """How the fallen are started again."""

    first_pause_s: float = 0.5
    max_pause_s: float = 30
    stable_s: float = 60
    max_failures: int = 20
    max_failures_at_start: int = 3

    def failures(self, before: int, ran_s: float) -> int:
        """Failures in a row, with the one that came after `ran_s`."""
        return 1 if ran_s >= self.stable_s else before + 1

    def pause_s(self, failures: int, at_start: bool) -> float | None:
        """Pause before the next start, or None: give up."""
        if failures >= (self.max_failures_at_start if at_start else self.max_failures):
            return None
        return min(self.max_pause_s, self.first_pause_s * 2.0 ** (failures - 1))


class Keeper:
    """Keeps one process running."""

    def __init__(self, process: Process, house: "Supervisor") -> None:
        self.process = process
        self.status = ProcessStatus(name=process.name)
        self.was_ready = asyncio.Event()
        self.child: Child | None = None
        self._house = house
        self._is_stopping = False
        self._log = house.log_dir / f"{process.name}.log"

    async def keep(self) -> None:
        """Run it until `stop`.

        Raises:
            StartFailed: it ended too often and was never ready. Once it was, giving it up is only told.
        """
        for name in self.process.after:
            await self._house.keepers[name].was_ready.wait()
        failures = 0
        while True:
            started = time.monotonic()
            end = await self._run()
            if self._is_stopping:
                return self._say("stopped", "")
            failures = self._house.rule.failures(failures, time.monotonic() - started)
            await self._pause(end, failures)
            self.status.restarts += 1

    async def stop(self, task: "asyncio.Task[None]") -> None:
        """End it and everything that it started."""
        self._is_stopping = True
        if not self.child:
            task.cancel()
            return self._say("stopped", self.status.note)
        self.child.stop()
        _, late = await asyncio.wait([task], timeout=self.process.grace_s + _WARDEN_S)
        if late:
            self.child.kill()
            await asyncio.wait([task])

    async def _pause(self, end: str, failures: int) -> None:
        at_start = not self.was_ready.is_set()
        pause_s = self._house.rule.pause_s(failures, at_start)
        if pause_s is not None:
            self._say("pausing", f"{end}; starts again in {pause_s:g} s")
            return await asyncio.sleep(pause_s)
        self._say("failed", f"{end}, {failures} times in a row; it is not started again. Its log: {self._log}")
        if at_start:
            raise StartFailed(f"{self.process.name} does not start: {self.status.note}\n{_last_words(self._log)}")
        await asyncio.Event().wait()  # the rest goes on without it until somebody stops the service

    async def _run(self) -> str:
        """One run, from start to end; says how it ended."""
        for path in self.process.stale:
            path.unlink(missing_ok=True)
        env = {**os.environ, **self.process.env, RUN_ID: self._house.run}
        child = self.child = Child(self.process.command, env, self._log, self.process.grace_s)
        self._say("starting", self.status.note, warden=identity(child.warden_pid), process=None)
        if (pid := await child.pid()) is not None:
            self._say("starting", self.status.note, process=identity(pid))
        silence = await self._watch(child)
        code = await child.ended
        self.child = None
        self._house.end_orphans()
        return silence or _how_it_ended(code)

    async def _watch(self, child: Child) -> str | None:
        """Until it ended, or was stopped because it did not answer, which the result then says."""
        started = answered = time.monotonic()
        limit_s, look_s, probe = self.process.start_timeout_s, _STARTING_LOOK_S, self.process.ready
        while not child.ended.done() and not self._is_stopping:
            if await probe(time.monotonic() - started):
                answered = time.monotonic()
                if self.status.state == "starting" and not child.ended.done():
                    self.was_ready.set()
                    self._say("ready", "")
                    limit_s, look_s, probe = self.process.silence_s, _READY_LOOK_S, self.process.alive or probe
            elif time.monotonic() - answered > limit_s:
                child.stop()
                return f"did not answer for {limit_s:g} s"
            await asyncio.wait([child.ended], timeout=look_s)
        return None

    def _say(self, state: ProcessState, note: str, **identities: Identity | None) -> None:
        self.status = self.status.model_copy(update={"state": state, "note": note, **identities})
        self._house.tell()


class Supervisor:
    """All processes of one start. The caller holds the lock of `run_dir`."""

    def __init__(
        self,
        processes: Sequence[Process],
        run_dir: Path,
        log_dir: Path,
        changed: Callable[[Status], None] = lambda _: None,
        rule: RestartRule = RestartRule(),
    ) -> None:
        self.run = uuid.uuid4().hex
        self.log_dir = log_dir
        self.rule = rule
        self.keepers = {process.name: Keeper(process, self) for process in processes}
        self._run_dir = run_dir
        self._changed = changed
        self._state: ServiceState = "starting"
        self._stop = asyncio.Event()

    async def serve(self) -> None:
        """Start everything, keep it running until SIGTERM or SIGINT, stop everything.

        Raises:
            StartFailed: a process never became ready; everything is stopped again.
        """
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        tasks = {keeper: asyncio.create_task(keeper.keep()) for keeper in self.keepers.values()}
        ready = asyncio.create_task(self._ready())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait([stop, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        stop.cancel()
        self._state = "stopping"
        fallen = [task for task in tasks.values() if task.done()]
        await self._stop_all(tasks)
        for task in fallen:
            task.result()

    def tell(self) -> None:
        """Write down what runs, and show it."""
        processes = [keeper.status for keeper in self.keepers.values()]
        status = Status(run=self.run, boot=boot_id(), supervisor=os.getpid(), state=self._state, processes=processes)
        status.write(self._run_dir)
        self._changed(status)

    def end_orphans(self) -> None:
        """Kill what a killed warden left: it came to this process, the nearest subreaper."""
        wardens = {keeper.child.warden_pid for keeper in self.keepers.values() if keeper.child}
        while orphans := children(os.getpid()) - wardens:
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    async def _ready(self) -> None:
        for keeper in self.keepers.values():
            await keeper.was_ready.wait()
        self._state = "running"
        self.tell()

    async def _stop_all(self, tasks: "Mapping[Keeper, asyncio.Task[None]]") -> None:
        for phase in sorted({keeper.process.stop_phase for keeper in tasks}):
            await asyncio.gather(*(k.stop(task) for k, task in tasks.items() if k.process.stop_phase == phase))


def _how_it_ended(code: int) -> str:
    if code < 0:
        return "its warden was killed"
    return f"ended by signal {code - 128}" if code > 128 else f"ended with status {code}"


def _last_words(log: Path) -> str:
    """The end of a log, for whoever has to find out why."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-_LAST_LINES:])
