"""A worker's own door: metrics for whoever may administer, and that it lives."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from sqlmodel import SQLModel

from ingest.database import Database
from ingest.keys import KeyRing, create_key
from ingest.log import NewRecord
from ingest.settings import PairingSettings
from pairing.serve import create_app
from tests.services.feedback import TASK, choice, generation, ref
from tests.services.ledger import Ledger


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/keys.db")) as database:
        SQLModel.metadata.create_all(database.engine)
        yield database


def key(database: Database, *scopes: str) -> dict[str, str]:
    with database.begin() as session:
        return {"Authorization": f"Bearer {create_key(session, 'test', ['*'], scopes)}"}  # type: ignore[arg-type]  # checked there


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_metrics_want_a_key_that_may_administer(database: Database) -> None:
    with TestClient(create_app(PairingSettings(), KeyRing(database)), base_url="http://127.0.0.1") as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=key(database, "feedback")).status_code == 403
        shown = client.get("/metrics", headers=key(database, "admin"))
        assert (shown.status_code, "whetstone_pairing_lag_events" in shown.text) == (200, True)


def test_events_are_counted_by_what_became_of_them_and_dead_letters_by_reason(ledger: Ledger) -> None:
    def counts() -> list[float]:
        return [
            metric("whetstone_pairing_events_total", type="choice", task=TASK),
            metric("whetstone_pairing_outcomes_total", task=TASK, outcome="waiting-for-generation"),
            metric("whetstone_pairing_outcomes_total", task=TASK, outcome="voted"),
            metric("whetstone_pairing_dead_letters_total", reason="invalid"),
        ]

    before = counts()
    ledger.add(choice("c", ref("g"), ref("g"), ref("g", 1)))
    assert [after - start for after, start in zip(counts(), before, strict=True)] == [1, 1, 0, 0]
    ledger.add(generation("g", "alpha", "beta")).add_records([NewRecord(b"k", b"nonsense")])
    assert [after - start for after, start in zip(counts(), before, strict=True)] == [1, 1, 1, 1]


def test_what_is_stored_to_the_end_has_no_lag(ledger: Ledger) -> None:
    ledger.add(generation("g", "alpha"))
    assert metric("whetstone_pairing_oldest_underived_seconds") == 0
