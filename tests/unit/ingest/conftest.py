"""The feedback API in this process, over an event log in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel
from starlette.testclient import TestClient

from ingest.app import create_app
from ingest.database import Database
from ingest.keys import SCOPES, ApiKey, KeyRing, Scope, create_key
from ingest.settings import IngestSettings, Settings, TaskSettings
from tests.standins.log import MemoryLog

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/test.db")
    SQLModel.metadata.create_all(made.engine, tables=[ApiKey.__table__])
    yield made
    made.close()


@dataclass
class Api:
    """The API and what stands around it."""

    client: TestClient
    log: MemoryLog
    database: Database

    def key(self, *scopes: Scope, tasks: tuple[str, ...] = ("*",)) -> str:
        with self.database.begin() as session:
            return create_key(session, "test", tasks, scopes)

    def send(self, body: Any, *scopes: Scope, path: str = "/v1/feedback", tasks: tuple[str, ...] = ("*",)) -> Any:
        """Send with a key that has these scopes; all of them when none is named."""
        key = self.key(*(scopes or SCOPES), tasks=tasks)
        return self.client.post(path, json=body, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def start(database: Database) -> Iterator[Callable[..., Api]]:
    """Starts the API with these settings of ingest, and these tasks."""
    clients = []

    def make(tasks: dict[str, TaskSettings] | None = None, **ingest: Any) -> Api:
        settings = Settings(ingest=IngestSettings(**ingest), tasks=tasks or {"summarise-short": TaskSettings()})
        log = MemoryLog()
        app = create_app(settings, log, KeyRing(database), now=lambda: NOW)
        client = TestClient(app, base_url="http://localhost:8401", raise_server_exceptions=False)
        clients.append(client)
        client.__enter__()
        return Api(client, log, database)

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def api(start: Callable[..., Api]) -> Api:
    return start()
