"""A worker's own door: metrics for whoever may administer, and that it lives."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel

from ingest.database import Database
from ingest.keys import KeyRing, create_key
from ingest.log import NewRecord
from ingest.settings import PairingSettings
from pairing.serve import create_app
from pairing.tables import Mark
from pairing.worker import Worker
from tests.services.feedback import TASK, choice, generation, preference, record, ref
from tests.services.ledger import Ledger, settings_for
from tests.services.ledger import ledger as empty_ledger


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


def test_what_is_not_stored_yet_is_lag_and_has_an_age_until_it_is(ledger: Ledger) -> None:
    ledger.settings = settings_for(batch_events=2)
    ledger.log.append([record(generation(f"g{n}", "alpha")) for n in range(5)]).result()
    with closing(Worker(ledger.settings, ledger.database, ledger.log, "one", monotonic=count(0, 60).__next__)) as worker:
        time.sleep(0.01)
        worker.turn()
        assert (lag(), metric("whetstone_pairing_oldest_underived_seconds") > 0) == (3, True)
        for _ in range(3):
            worker.turn()
        assert (lag(), metric("whetstone_pairing_oldest_underived_seconds")) == (0, 0)


def lag() -> float:
    """Over all partitions, each of which is told."""
    told = [REGISTRY.get_sample_value("whetstone_pairing_lag_events", {"partition": str(number)}) for number in range(4)]
    return sum(one for one in told if one is not None) if None not in told else float("nan")


def test_while_the_database_is_away_what_waits_is_lag_and_grows_older(tmp_path: Path) -> None:
    with empty_ledger(f"sqlite:///{tmp_path}/whetstone.db") as ledger:
        ledger.add(generation("g", "alpha"))
        ledger.log.append([record(generation(f"g{n}", "alpha")) for n in range(5)]).result()
        with closing(Worker(ledger.settings, ledger.database, ledger.log, "one")) as worker:
            rename(ledger.database, "events", "away")
            for _ in range(2):
                with pytest.raises(OperationalError):
                    worker.turn()
                worker.measure_what_waits()
                time.sleep(0.05)
            assert (lag(), metric("whetstone_pairing_oldest_underived_seconds") >= 0.05) == (5, True)
            rename(ledger.database, "away", "events")
        ledger.add()
        assert (lag(), metric("whetstone_pairing_oldest_underived_seconds")) == (0, 0)


def rename(database: Database, table: str, name: str) -> None:
    with database.begin() as session:
        session.connection().exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")


def test_what_is_stored_and_not_derived_yet_has_the_age_of_its_mark(ledger: Ledger) -> None:
    ledger.add()
    with ledger.database.begin() as session:
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        session.add(Mark(task="of later settings", kind="generation", key="g", left_at=hour_ago))
    ledger.add()
    assert metric("whetstone_pairing_oldest_underived_seconds") == pytest.approx(3600, abs=60)


def test_bodies_that_lose_their_id_are_counted_as_dead_letters_in_one_batch_and_in_two(ledger: Ledger) -> None:
    before = metric("whetstone_pairing_dead_letters_total", reason="conflicting-body")
    bodies = [preference("p", chosen, "bad") for chosen in ("one", "two", "three")]
    ledger.add(*bodies[:2])
    assert metric("whetstone_pairing_dead_letters_total", reason="conflicting-body") - before == 1
    ledger.add(bodies[2])
    assert metric("whetstone_pairing_dead_letters_total", reason="conflicting-body") - before == 2
