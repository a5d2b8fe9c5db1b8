"""Holds one child process: keeps its log, and ends it with everything that it started when the supervisor goes.

Run as a file, with the standard library only: `python warden.py CONTROL_FD GRACE_S LOG_FILE COMMAND...`. It says the
child's process id over the control socket, and takes that socket's end of file, whether the supervisor closed it or
died, as the order to stop. It ends with the child's own status.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

MAX_LOG_BYTES = 10_000_000
_REST_GRACE_S = 2.0
"""What a child leaves behind has this long to end by itself."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class Log:
    """A file that is put aside as FILE.1 when it is large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def write(self, output: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end the child
            if self._file.tell() + len(output) > MAX_LOG_BYTES:
                self._file.close()
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._file = self._path.open("ab", buffering=0)
            self._file.write(output)


class Ward:
    """The child, what it says, and how it ended."""

    def __init__(self, command: list[str], control: socket.socket, log: Log) -> None:
        self._control = control
        self.told_to_stop = False
        self.speaking = True
        self.status: int | None = None
        self._log = log
        self._woken = _wake_when_a_child_ends()
        self.pid, self._output = _start(command)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, self._stop)
        self._selector.register(self._woken, selectors.EVENT_READ, self._reap)
        self._selector.register(self._output, selectors.EVENT_READ, self._keep_log)

    def wait(self, until: Callable[[], bool], timeout_s: float | None = None) -> None:
        """Keep the log and take note of what ends, until something holds or the time is over."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not until() and (deadline is None or time.monotonic() < deadline):
            for key, _ in self._selector.select(None if deadline is None else 0.05):
                key.data()

    def _stop(self) -> None:
        self.told_to_stop = True
        self._selector.unregister(self._control)

    def _keep_log(self) -> None:
        if said := os.read(self._output, 65_536):
            self._log.write(said)
        else:
            self.speaking = False
            self._selector.unregister(self._output)

    def _reap(self) -> None:
        self._woken.recv(4096)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:  # orphans among the descendants come to this process
                if ended[0] == self.pid:
                    self.status = os.waitstatus_to_exitcode(ended[1])


def main() -> int:
    control, grace_s, log, command = socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2]), sys.argv[3], sys.argv[4:]
    control.set_inheritable(False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    ward = Ward(command, control, Log(Path(log)))
    with contextlib.suppress(OSError):
        control.sendall(b"%d\n" % ward.pid)
    ward.wait(lambda: ward.told_to_stop or ward.status is not None)
    _end(ward, grace_s)
    status = ward.status or 0
    return status if status >= 0 else 128 - status


def _end(ward: Ward, grace_s: float) -> None:
    """SIGTERM to the child, then to what it leaves behind, then SIGKILL to all that is left."""
    if ward.status is None:
        _signal([ward.pid], signal.SIGTERM)
        ward.wait(lambda: ward.status is not None, grace_s)
    _signal(descendants(os.getpid()), signal.SIGTERM)
    ward.wait(lambda: not descendants(os.getpid()), _REST_GRACE_S)
    while left := descendants(os.getpid()):  # a process may start another while this one reads the list
        _signal(left, signal.SIGKILL)
        ward.wait(lambda: not descendants(os.getpid()), 0.2)
    ward.wait(lambda: ward.status is not None and not ward.speaking)


def descendants(ancestor: int) -> list[int]:
    """Every living process that `ancestor` started, directly or not, in whatever group or session it is."""
    living = [(pid, parent) for pid, parent, state in _processes() if state not in "ZX"]
    found = [ancestor]
    for known in found:
        found.extend(pid for pid, parent in living if parent == known)
    return found[1:]


def children(of: int) -> set[int]:
    """The children of a process, those that ended but were not waited for among them."""
    return {pid for pid, parent, _ in _processes() if parent == of}


def _processes() -> list[tuple[int, int, str]]:
    """Id, parent and state of every process of this machine."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                state, parent = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:2]
                found.append((int(entry.name), int(parent), state))
    return found


def _signal(pids: list[int], signal_number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)


def _start(command: list[str]) -> tuple[int, int]:
    """Process id of the child, and the file descriptor of what it says."""
    output, said = os.pipe()
    warden = os.getpid()
    if pid := os.fork():
        os.close(said)
        return pid, output
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a second belt, should this warden be killed
    if os.getppid() != warden:
        os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    _become(command)


def _become(command: list[str]) -> NoReturn:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error}\n".encode())
        os._exit(127)


def _wake_when_a_child_ends() -> socket.socket:
    """A socket that can be read once a child has ended. Other signals are left to the child."""
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the child would inherit
    return woken


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
