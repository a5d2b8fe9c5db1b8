from datetime import UTC, datetime

import pytest
from pydantic import ValidationError
from sqlmodel import select

from ingest.database import Database
from ingest.keys import CACHE_S, OUTAGE_S, ApiKey, KeyRing, Principal, create_key
from ingest.problems import Problem


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ring(database: Database, clock: Clock) -> KeyRing:
    return KeyRing(database, clock)


def make(database: Database) -> str:
    with database.begin() as session:
        return create_key(session, "app", ["summarise-short"], ["feedback", "inference"])


def revoke(database: Database) -> None:
    with database.begin() as session:
        session.exec(select(ApiKey)).one().revoked_at = datetime.now(UTC)


def rename(database: Database, old: str, new: str) -> None:
    with database.begin() as session:
        session.connection().exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")


def refusal(ring: KeyRing, key: str) -> int:
    with pytest.raises(Problem) as caught:
        ring.authenticate(f"Bearer {key}")
    return caught.value.status


def test_a_key_says_who_calls_and_for_which_tasks(database: Database, ring: KeyRing) -> None:
    principal = ring.authenticate(f"bearer {make(database)}")
    assert principal.tasks == {"summarise-short"}
    assert principal.scopes == {"feedback", "inference"}


def test_the_database_cannot_give_a_key_away(database: Database) -> None:
    key = make(database)
    with database.read() as session:
        row = session.exec(select(ApiKey)).one()
    assert key.removeprefix("wsk_") not in row.model_dump_json()


def test_no_two_keys_are_the_same(database: Database) -> None:
    keys = {make(database) for _ in range(5)}
    assert len(keys) == 5
    assert all(key.startswith("wsk_") and len(key) == 47 for key in keys)


@pytest.mark.parametrize(("tasks", "scopes"), [(["Not A Task"], ["feedback"]), (["*"], ["everything"])])
def test_a_key_cannot_be_made_for_what_does_not_exist(database: Database, tasks: list[str], scopes: list[str]) -> None:
    with database.begin() as session, pytest.raises(ValidationError):
        create_key(session, "app", tasks, scopes)  # type: ignore[arg-type]  # wrong on purpose


def test_a_revoked_key_stops_working_within_seconds(database: Database, ring: KeyRing, clock: Clock) -> None:
    key = make(database)
    ring.authenticate(f"Bearer {key}")
    revoke(database)
    clock.now += CACHE_S
    assert refusal(ring, key) == 401


def test_a_key_that_was_good_works_on_while_the_database_is_away_but_not_for_ever(
    database: Database, ring: KeyRing, clock: Clock
) -> None:
    known, unknown = make(database), make(database)
    ring.authenticate(f"Bearer {known}")
    rename(database, "api_keys", "away")
    clock.now += CACHE_S
    assert ring.authenticate(f"Bearer {known}")
    assert refusal(ring, unknown) == 503
    clock.now += OUTAGE_S
    assert refusal(ring, known) == 503
    rename(database, "away", "api_keys")
    assert ring.authenticate(f"Bearer {known}")
    assert ring.authenticate(f"Bearer {unknown}")


def test_a_principal_may_do_only_what_its_key_says() -> None:
    principal = Principal("key-1", frozenset({"a"}), frozenset({"feedback"}))
    principal.require("feedback", "a")
    for scope, task in (("admin", "a"), ("feedback", "b"), ("feedback", "*")):
        with pytest.raises(Problem) as caught:
            principal.require(scope, task)  # type: ignore[arg-type]  # a str in the tuple
        assert caught.value.status == 403


def test_a_key_for_all_tasks_may_do_what_concerns_all() -> None:
    principal = Principal("key-1", frozenset({"*"}), frozenset({"admin"}))
    principal.require("admin", "a")
    principal.require("admin", "*")
