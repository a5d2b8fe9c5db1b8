"""A private PostgreSQL for tests: on a Unix socket in a directory of its own, gone with the test or with its process."""

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

_READY_WITHIN_S = 30
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_QUARTER_MIB = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 >> 20
DURABLE = (f"shared_buffers={_QUARTER_MIB}MB", "max_wal_size=24GB", "checkpoint_timeout=30min", "wal_compression=lz4")
"""As a server that loses nothing, with the quarter of memory that PostgreSQL's manual advises, and rare checkpoints."""
# Not a database to keep: what it promises about power cuts is of no use here.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60", "deadlock_timeout=200ms")


@contextlib.contextmanager
def postgres(options: Sequence[str] = _FAST) -> Iterator[str]:
    """Start a server and yield the URL of an empty database. Skips the test where PostgreSQL is not installed.

    Server and files end with the block; the server also when this process is killed.
    """
    with stoppable_postgres(options) as server:
        yield server.url


@contextlib.contextmanager
def stoppable_postgres(options: Sequence[str] = _FAST) -> Iterator["Server"]:
    """As `postgres`; the server may be stopped and started again by the test."""
    programs = _programs()
    user = _user()
    # A short path of its own: a socket's path has at most 107 characters, and the server's user must reach it.
    home = Path(tempfile.mkdtemp(prefix="whetstone-pg-", dir="/tmp"))
    try:
        _hand_over(home, user)
        _run([str(programs / "initdb"), "-D", str(home / "data"), "-A", "trust", "-U", "whetstone", "-E", "UTF8", "-N"], user)
        command = [str(programs / "postgres"), "-D", str(home / "data"), "-k", str(home), "-h", "", *_options(options)]
        server = Server(home, command, user)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


class Server:
    """A server over the files in a directory, not yet started."""

    def __init__(self, home: Path, command: Sequence[str], user: str | None) -> None:
        self._plain = f"postgresql://whetstone@/postgres?host={home}"
        self._command, self._user = command, user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._plain.replace("postgresql:", "postgresql+psycopg:")

    def start(self) -> None:
        """Come back when it answers."""
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_end_with_parent,
            **_as(self._user),
        )
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._plain).close()
        except psycopg.OperationalError:
            return False
        return True


@contextlib.contextmanager
def empty_database(url: str, name: str) -> Iterator[str]:
    """Another empty database on the same server."""
    administer(url, 'CREATE DATABASE "{}"', name)
    yield url.replace("/postgres?", f"/{name}?")
    administer(url, 'DROP DATABASE "{}" WITH (FORCE)', name)


def administer(url: str, statement: str, name: str = "") -> None:
    """Run a statement, about the database of this name, on the server's own."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        connection.execute(statement.format(name).encode())


def _programs() -> Path:
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path(shutil.which("initdb") or "/none").parent]
    found = next((place for place in places if (place / "initdb").exists()), None)
    if found is None:
        pytest.skip("PostgreSQL is not installed")
    return found


def _user() -> str | None:
    """Whom to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


def _as(user: str | None) -> dict[str, Any]:
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [], "cwd": "/"} if user else {"cwd": "/"}


def _hand_over(home: Path, user: str | None) -> None:
    if user:
        account = pwd.getpwnam(user)
        os.chown(home, account.pw_uid, account.pw_gid)


def _run(command: Sequence[str], user: str | None) -> None:
    subprocess.run(command, check=True, capture_output=True, **_as(user))


def _options(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("-c", setting)]


def _end_with_parent() -> None:
    """Runs in the child before it becomes the server: a killed test leaves nothing behind."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
