"""Starts an engine on a Unix socket for a test: the small process that stands in for vLLM, or vLLM itself."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
STANDIN_START_S = 20
VLLM_START_S = 300
FLAGS = ["--served-model-name", "base", "--enable-lora", "--max-lora-rank", "8", "--max-loras", "2", "--max-model-len", "512"]


@contextmanager
def standin(uds: Path, token_s: float = 0.0) -> Iterator[int]:
    """The process that stands in for vLLM; gives its pid. Each token takes `token_s` seconds."""
    command = [sys.executable, "-m", "tests.standins.vllm", "--uds", str(uds), "--model", "nothing", *FLAGS]
    with _started(command, {"STANDIN_TOKEN_S": str(token_s)}, uds, STANDIN_START_S) as pid:
        yield pid


@contextmanager
def vllm(uds: Path, model: Path) -> Iterator[int]:
    """vLLM itself on the CPU, started as the one-machine start does; gives its pid. Takes about a minute."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--uds", str(uds), "--model", str(model), *FLAGS]
    command += ["--lora-target-modules", "qkv_proj", "o_proj", "--no-enable-chunked-prefill"]
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with _started(command, environment, uds, VLLM_START_S) as pid:
        yield pid


@contextmanager
def _started(command: list[str], environment: dict[str, str], uds: Path, start_s: float) -> Iterator[int]:
    uds.unlink(missing_ok=True)  # a killed engine leaves its socket behind
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, start_new_session=True)
    try:
        _wait(process, uds, start_s)
        yield process.pid
    finally:
        _end(process)


def _wait(process: "subprocess.Popen[bytes]", uds: Path, start_s: float) -> None:
    deadline = time.monotonic() + start_s
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(uds))) as client:
        while not (_listens(uds) and client.get("http://vllm/health").is_success):
            if process.poll() is not None:
                raise RuntimeError(f"the engine ended with {process.returncode} before it answered")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the engine did not answer within {start_s} s")
            time.sleep(0.05)


def _listens(path: Path) -> bool:
    # vLLM makes its socket long before it listens; httpx leaves a socket of its own open when it cannot connect.
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the engine and what it started: they are one process group."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(15)
    except ProcessLookupError:
        process.wait()
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
