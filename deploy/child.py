"""One run of one process, held by its warden."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy import warden


class Child:
    """A started process. Must be made inside a running event loop, in the main thread."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path, grace_s: float) -> None:
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        with theirs:
            self._warden = subprocess.Popen(
                [sys.executable, "-I", warden.__file__, str(theirs.fileno()), str(grace_s), str(log), *command],
                env=env,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._handle = os.pidfd_open(self._warden.pid)
        asyncio.get_running_loop().add_reader(self._handle, self._warden_ended)

    @property
    def warden_pid(self) -> int:
        return self._warden.pid

    async def pid(self) -> int | None:
        """Process id of the child itself; None when its warden died before it could say so."""
        try:
            said = await asyncio.get_running_loop().sock_recv(self._control, 32)
        except OSError:
            return None
        return int(said) if said.endswith(b"\n") else None

    def stop(self) -> None:
        """Order the warden to end the child and everything that it started. `ended` tells when that is done."""
        self._control.close()

    def kill(self) -> None:
        """End the warden too, when it does not do what it was ordered to."""
        self._warden.kill()

    def _warden_ended(self) -> None:
        # The warden is not waited for yet, so its id, which is the group's, cannot be another's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._warden.pid, signal.SIGKILL)
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        self._control.close()
        self.ended.set_result(self._warden.wait())
