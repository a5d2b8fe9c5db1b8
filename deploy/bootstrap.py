"""`make setup`: from a fresh clone to an installation that can start. Standard library only: nothing else is there yet.

Makes `.venv` with the packages that `constraints/` pins, then runs `whetstone setup`. Both are skipped when nothing that
they depend on has changed; an interrupted one is done again.
"""

from __future__ import annotations  # an older Python must get as far as the sentence that refuses it

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
LOG = ROOT / "var" / "setup.log"
PYTHONS = ((3, 11), (3, 12), (3, 13))
PIP = (str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check")
DISK_GB = 8
MEMORY_GB = 6
# What vLLM asks for on a CPU and pip does not always find by itself.
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
# vLLM pulls these in; those that pip finds do not match the CPU build of torch and break every import of a model.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")


def main() -> None:
    if sys.version_info[:2] not in PYTHONS:
        stop(f"Whetstone needs Python 3.11 to 3.13, and this is {sys.version.split()[0]}: `make PYTHON=python3.11 ...`.")
    os.chdir(ROOT)
    LOG.parent.mkdir(exist_ok=True)
    with (LOG.parent / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build = "cuda" if has_gpu() else "cpu"
        if not is_current(VENV / ".installed", wanted := packages_wanted(build)):
            check_machine()
            install(build)
            (VENV / ".installed").write_text(wanted)
        if not is_current(data_dir() / ".set-up", first_start_wanted(wanted)):
            first_start()
            (data_dir() / ".set-up").write_text(first_start_wanted(wanted))


def check_machine() -> None:
    """End with one sentence where the packages could not be installed, or not run."""
    if importlib.util.find_spec("ensurepip") is None:
        stop(f"Python's venv module is missing: install python{sys.version_info[0]}.{sys.version_info[1]}-venv.")
    if (free := shutil.disk_usage(ROOT).free / 1e9) < DISK_GB and not VENV.exists():
        stop(f"The packages need {DISK_GB} GB of disk and {free:.1f} GB are free in {ROOT}: make room.")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if memory < MEMORY_GB:
        stop(f"Whetstone needs {MEMORY_GB} GB of memory, and this machine has {memory:.1f} GB: use a larger one.")


def install(build: str) -> None:
    """Make the virtual environment and put the pinned packages into it."""
    python = VENV / "bin" / "python"
    if not python.exists() or subprocess.run([python, "-c", "import pip"], capture_output=True).returncode:
        must("Virtual environment", sys.executable, "-m", "venv", "--clear", str(VENV))
    pinned = ("--constraint", f"constraints/{build}.txt")
    index = wheels_of_torch(pinned) if build == "cpu" else ()
    must("Packages", *PIP, "install", *pinned, *index, "--editable", f".[{build},demo-model,dev]")
    if build == "cpu":
        must("Unwanted packages", *PIP, "uninstall", "--yes", *UNWANTED)


def wheels_of_torch(pinned: tuple[str, ...]) -> tuple[str, ...]:
    """Install torch for CPUs; returns how pip had to be told where it is."""
    lines = (ROOT / "constraints" / "cpu.txt").read_text().splitlines()
    torch = next(line for line in lines if line.startswith("torch=="))
    for index in ((), ("--extra-index-url", CPU_WHEELS)):
        if step("PyTorch for CPUs", *PIP, "install", *pinned, *index, torch):
            return index
    failed("PyTorch for CPUs")


def first_start() -> None:
    """Model, tables, keys, secrets."""
    if subprocess.run([VENV / "bin" / "whetstone", "setup"]).returncode:
        sys.exit(2)


def is_current(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def packages_wanted(build: str) -> str:
    files = (ROOT / "pyproject.toml", ROOT / "constraints" / f"{build}.txt")
    return digest(sys.version, str(ROOT), *(file.read_text() for file in files))


def first_start_wanted(packages: str) -> str:
    """Everything that `whetstone setup` reads, and whether what it made is still there."""
    made = (data_dir() / "keys.json", data_dir() / "secrets.toml", Path(model_name()) / "config.json")
    revisions = sorted(path.name for path in (ROOT / "deploy" / "migrations" / "versions").glob("*.py"))
    environment = sorted(pair for pair in os.environ.items() if pair[0].startswith("WHETSTONE_"))
    return digest(packages, json.dumps([[path.exists() for path in made], revisions, environment, settings()]))


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def settings() -> dict[str, object]:
    import tomllib

    file = Path(os.environ.get("WHETSTONE_CONFIG", "whetstone.toml"))
    return tomllib.loads(file.read_text()) if file.exists() else {}


def data_dir() -> Path:
    return Path(os.environ.get("WHETSTONE_DATA_DIR", str(settings().get("data_dir", "var"))))


def model_name() -> str:
    section = settings().get("model")
    configured = str(section.get("name", "")) if isinstance(section, dict) else ""
    return os.environ.get("WHETSTONE_MODEL_NAME", configured)


def has_gpu() -> bool:
    try:
        return subprocess.run(["nvidia-smi"], capture_output=True).returncode == 0
    except OSError:
        return False


def must(what: str, *command: str) -> None:
    if not step(what, *command):
        failed(what)


def step(what: str, *command: str) -> bool:
    """Run a command with its output in the log, and show how long it takes; True if it did its work."""
    started = time.monotonic()
    with LOG.open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL) as running:
        if not sys.stdout.isatty():
            say(f"{what} ...\n")
        while sys.stdout.isatty() and running.poll() is None:
            say(f"\r{what} ... {time.monotonic() - started:.0f} s")
            time.sleep(0.2)
    if sys.stdout.isatty():
        say("\n")
    return running.returncode == 0


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def failed(what: str) -> NoReturn:
    last = "\n".join(LOG.read_text(errors="replace").splitlines()[-15:])
    stop(f"{last}\n\n{what}: this step failed. Its log is {LOG}; `make setup` goes on from here.")


def stop(sentence: str) -> NoReturn:
    sys.exit(sentence)


if __name__ == "__main__":
    main()
