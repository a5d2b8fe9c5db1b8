import gc
import os
import signal

import pytest

_SHORT_LIVES = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""For Apache Kafka: most of what it does in a test is to start, a third of it compiling code that then does not run for long."""


def pytest_configure() -> None:
    os.environ.setdefault("KAFKA_JVM_PERFORMANCE_OPTS", _SHORT_LIVES)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would what tests start


@pytest.fixture(autouse=True, scope="module")
def _garbage_is_looked_for_among_what_is_new() -> None:
    """Each worker of pairing collects garbage; in a process that has imported all tests that would take most of its time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # some libraries count at the end what was not freed
