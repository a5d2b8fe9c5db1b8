"""What many tests use: one PostgreSQL and one broker of each kind a session, with a database and a topic for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.kafka import Broker
from tests.services.log_places import broker
from tests.services.postgres import empty_database, postgres


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL. Its own database is nobody's: see `on_postgres`."""
    with postgres() as url:
        yield url


@pytest.fixture
def on_postgres(server: str) -> Iterator[str]:
    """An empty database of this test on PostgreSQL."""
    with empty_database(server, f"test{os.urandom(4).hex()}") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of this test, on each kind."""
    if request.param == "postgres":
        return str(request.getfixturevalue("on_postgres"))
    return f"sqlite:///{tmp_path}/whetstone.db"


@pytest.fixture(scope="session")
def noida(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A small broker; tests that kill one start their own, since this one keeps what it acknowledged in memory at first."""
    with broker("noida", tmp_path_factory.mktemp("noida")) as running:
        assert running
        yield running


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Apache Kafka. Who kills it starts it again."""
    with broker("apache", tmp_path_factory.mktemp("kafka")) as running:
        assert running
        yield running
