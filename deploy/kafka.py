"""The Apache Kafka that this machine runs for itself: one node, broker and controller, on loopback."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from ingest.settings import Settings

_JAVA = 17
_FORMAT_TIMEOUT_S = 120


class NoKafka(Exception):
    """Apache Kafka cannot be run here. The message says what to do."""


def is_wanted(settings: Settings) -> bool:
    """Whether the event log is a Kafka that nobody else runs."""
    return settings.log == "kafka" and settings.kafka.bootstrap is None


def check() -> None:
    """Look for what Kafka needs.

    Raises:
        NoKafka: KAFKA_HOME names none, or Java is missing or too old.
    """
    home = os.environ.get("KAFKA_HOME")
    if not home:
        raise NoKafka(
            'log = "kafka" needs brokers: set WHETSTONE_KAFKA_BOOTSTRAP to HOST:PORT of yours, '
            "or KAFKA_HOME to the directory of an Apache Kafka 4, which is then started here."
        )
    if not Path(home, "bin", "kafka-server-start.sh").exists():
        raise NoKafka(f"KAFKA_HOME={home} holds no bin/kafka-server-start.sh: set it to the directory of an Apache Kafka 4.")
    java = Path(os.environ["JAVA_HOME"], "bin", "java") if "JAVA_HOME" in os.environ else Path("java")
    if (version := _java_version(str(java))) is None or version < _JAVA:
        found = f"and {java} is Java {version}" if version else f"and {java} does not run"
        raise NoKafka(f"Apache Kafka needs Java {_JAVA} or newer, {found}: install a JRE, or set JAVA_HOME.")


def prepare(directory: Path) -> Path:
    """Write `server.properties` with ports that are free now, and format the storage once; returns that file.

    Raises:
        NoKafka: the storage cannot be formatted.
    """
    directory.mkdir(parents=True, exist_ok=True)
    properties, data = directory / "server.properties", (directory / "data").absolute()
    port, controller = _free_ports()
    properties.write_text(_PROPERTIES.format(port=port, controller=controller, data=data))
    if not (data / "meta.properties").exists():
        storage = Path(os.environ["KAFKA_HOME"], "bin", "kafka-storage.sh")
        cluster = _output(directory, storage, "random-uuid").split()[-1]
        _output(directory, storage, "format", "--standalone", "-t", cluster, "-c", properties)
    return properties


def bootstrap(properties: Path) -> str:
    """HOST:PORT of the broker that `properties` describe."""
    return properties.read_text().partition("advertised.listeners=PLAINTEXT://")[2].split()[0]


def _output(directory: Path, *command: str | Path) -> str:
    env = {**os.environ, "LOG_DIR": str(directory)}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoKafka(f"Kafka's storage cannot be made in {directory}: {error}") from error
    if done.returncode:
        raise NoKafka(f"Kafka's storage cannot be made in {directory}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def _java_version(java: str) -> int | None:
    if not shutil.which(java):
        return None
    said = subprocess.run([java, "-version"], capture_output=True, text=True)
    found = re.search(r'version "(\d+)', said.stderr + said.stdout)
    return int(found[1]) if found else None


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


_PROPERTIES = """\
# Written at each start. This Kafka is reached from this machine only.
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
# The event log is what pairs are made from: it is kept until somebody decides otherwise.
log.retention.ms=-1
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# A killed broker may register again only when its old session has run out; short, because it is alone here.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""
