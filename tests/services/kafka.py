"""Brokers for tests, started on free ports and gone with the test, however that ends."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from tests.services.ports import free_port, free_ports

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: a child between fork and exec must not load libraries
_births = ThreadPoolExecutor(1)  # the signal comes when the thread that made the child ends: this one lasts
_READY_WITHIN_S = 60.0


@dataclass
class Broker:
    """A broker process that a test may kill and start again."""

    bootstrap: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start, and come back when the broker answers requests."""
        with (self.directory / "broker.log").open("ab") as output:
            self._process = _births.submit(
                subprocess.Popen,
                self.command,
                cwd=self.directory,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
            ).result()
        _wait_until(lambda: self._answers())

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it cleanly."""
        self._end(signal.SIGTERM)

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(with_signal)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the broker ended: {(self.directory / 'broker.log').read_text(errors='replace')[-2000:]}")
        return _speaks_kafka(self.bootstrap)


@contextlib.contextmanager
def noida(data_dir: Path) -> Iterator[Broker]:
    """A small broker without topic ids, from PyPI. It is up in a moment, and keeps acknowledged records in memory at first."""
    port = free_port()
    program = str(files("noida_db").joinpath("noida-db"))
    data_dir.mkdir(parents=True, exist_ok=True)
    Path(program).chmod(0o755)
    command = [program, "start", "--data-dir", str(data_dir / "data"), "--only", "kafka", "--kafka-port", str(port)]
    yield from _running(Broker(f"127.0.0.1:{port}", command, data_dir))


@contextlib.contextmanager
def apache_kafka(data_dir: Path, more_properties: str = "", listener: str = "PLAINTEXT") -> Iterator[Broker]:
    """The Apache Kafka that KAFKA_HOME names: one node, KRaft.

    Args:
        data_dir: where it keeps its log and its settings.
        more_properties: lines added to its server.properties.
        listener: the security protocol that clients use.
    """
    scripts = Path(os.environ["KAFKA_HOME"]) / "bin"
    port, controller_port = free_ports(2)
    data_dir.mkdir(parents=True, exist_ok=True)
    properties = data_dir / "server.properties"
    properties.write_text(_PROPERTIES.format(port=port, controller=controller_port, data=data_dir / "data", listener=listener))
    with properties.open("a") as file:
        file.write(more_properties)
    environment = {"LOG_DIR": str(data_dir), "KAFKA_HEAP_OPTS": "-Xms128m -Xmx384m"}
    subprocess.run(
        [scripts / "kafka-storage.sh", "format", "--standalone", "-t", "V2hldHN0b25lVGVzdExvZw", "-c", properties],
        cwd=data_dir,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    command = [str(scripts / "kafka-server-start.sh"), str(properties)]
    yield from _running(Broker(f"127.0.0.1:{port}", command, data_dir, environment))


def _running(broker: Broker) -> Iterator[Broker]:
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
        shutil.rmtree(broker.directory, ignore_errors=True)


def _end_with_parent() -> None:
    """Runs in the child before it becomes the broker: a killed test leaves nothing behind."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no broker after {_READY_WITHIN_S:.0f} s")
        time.sleep(0.05)


def _speaks_kafka(bootstrap: str) -> bool:
    host, port = bootstrap.rsplit(":", 1)
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1) as connection:
        connection.sendall(_API_VERSIONS)
        return bool(connection.recv(4))
    return False


_API_VERSIONS = bytes.fromhex("0000000d 0012 0000 00000001 0003 782d79".replace(" ", ""))
"""Kafka's request "which versions do you speak" (key 18, version 0) of a client named x-y."""

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners={listener}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listener}://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
inter.broker.listener.name={listener}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""
