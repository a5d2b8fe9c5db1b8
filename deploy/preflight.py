"""What must be there before anything starts. Each check says in one sentence what is wrong, and what to do about it."""

import errno
import shutil
import socket
from pathlib import Path

from deploy import kafka
from deploy.processes import on_cpu
from ingest.settings import ModelSettings, Settings

GIB = 1024**3
_SOCKET_PATH_BYTES = 107  # of a Unix socket's address, by Linux
_DISK_GIB = 2
_MEMORY_GIB = 0.5
_TRAINING_GIB = 2
_ENGINE_GIB = 1.5  # without its cache


class CannotStart(Exception):
    """Something that Whetstone needs is missing. The message says what, and the remedy."""


def check(settings: Settings) -> None:
    """Check ports, memory, disk, model and tools.

    Raises:
        CannotStart: the first thing that is wrong.
    """
    if not settings.tasks:
        raise CannotStart("whetstone.toml names no task: add a table [tasks.NAME], as the one that comes with Whetstone has it.")
    check_port(settings.gateway.host, settings.gateway.port, "gateway")
    check_port(settings.ingest.host, settings.ingest.port, "ingest")
    if settings.engine.url is None:
        check_socket(settings.engine_url.removeprefix("unix://"))
        check_model(settings.model.name)
    check_memory(_free_memory_gib(), needed_gib(settings, on_cpu()))
    check_disk(settings.data_dir, shutil.disk_usage(settings.data_dir).free / GIB)
    if kafka.is_wanted(settings):
        check_kafka()


def check_port(host: str, port: int, section: str) -> None:
    """Raises CannotStart where the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            wrong = "is in use by another program" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            variable = f"WHETSTONE_{section.upper()}"
            raise CannotStart(
                f"Port {port} on {host} {wrong}: set {variable}_PORT (or {variable}_HOST) to another, or end that program."
            ) from None


def check_socket(path: str) -> None:
    """Raises CannotStart where the path is too long for a Unix socket."""
    if len(path.encode()) > _SOCKET_PATH_BYTES:
        raise CannotStart(
            f"{path} is too long for a socket ({len(path.encode())} bytes of {_SOCKET_PATH_BYTES}): "
            "set WHETSTONE_DATA_DIR to a directory with a shorter path."
        )


def check_model(name: str) -> None:
    """Raises CannotStart where a directory that shall hold the model does not."""
    if (Path(name) / "config.json").exists():
        return
    if name == ModelSettings().name:
        raise CannotStart(f"The demo model is not in {name}: run `make setup`.")
    if Path(name).exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CannotStart(
            f"{name} holds no model (no config.json): set WHETSTONE_MODEL_NAME to a directory that does, or a hub name."
        )


def needed_gib(settings: Settings, cpu: bool) -> float:
    """Memory that the processes of these settings take, as measured with small models."""
    is_vllm = settings.engine.url is None and settings.engine.module.startswith("vllm.")
    engine_gib = _ENGINE_GIB + (settings.engine.cpu_kv_cache_gib if cpu else 0)
    return _MEMORY_GIB + (engine_gib + _TRAINING_GIB if is_vllm else 0)


def check_memory(free_gib: float, needed_gib: float) -> None:
    """Raises CannotStart where the processes would not fit."""
    if free_gib < needed_gib:
        raise CannotStart(
            f"{needed_gib:.1f} GiB of memory are needed and {free_gib:.1f} GiB are free: end other programs, "
            "or set WHETSTONE_ENGINE_CPU_KV_CACHE_GIB lower."
        )


def check_disk(directory: Path, free_gib: float) -> None:
    """Raises CannotStart where the disk is nearly full."""
    if free_gib < _DISK_GIB:
        raise CannotStart(
            f"{_DISK_GIB} GiB of disk are needed in {directory} and {free_gib:.1f} GiB are free: make room, "
            "or set WHETSTONE_DATA_DIR to a directory on another disk."
        )


def check_kafka() -> None:
    """Raises CannotStart where Apache Kafka cannot be run here."""
    try:
        kafka.check()
    except kafka.NoKafka as error:
        raise CannotStart(str(error)) from error


def _free_memory_gib() -> float:
    """Of the machine, or of the container."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free_kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        return min(free_kib * 1024, int(most) - int(used.read_text())) / GIB
    return free_kib * 1024 / GIB
