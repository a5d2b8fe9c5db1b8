"""What users say is sealed under keys of their own: who has no key cannot read it, and who changes it is found out."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import delete
from sqlmodel import SQLModel
from starlette.testclient import TestClient

from ingest.app import create_app
from ingest.database import Database
from ingest.erasure import tombstone
from ingest.events import Event
from ingest.keys import SCOPES, KeyRing, create_key
from ingest.log import SEALED, NewRecord
from ingest.sealing import Sealed, Sealer, sealer
from ingest.settings import ErasureSettings, KafkaSettings, Settings
from ingest.user_keys import CACHE_S, KeysUnavailable, Owner, UserKey, UserKeys
from tests.services.feedback import TASK, edit, event, generation, preference, record
from tests.standins.log import MemoryLog

SECRET = "the sea is made of marmalade"
HASHED = tombstone(ErasureSettings(key=SecretStr("a key")))
ANN: Owner = (TASK, HASHED(TASK, "ann"))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/test.db")) as made:
        SQLModel.metadata.create_all(made.engine, tables=[UserKey.__table__])
        yield made


def sealed_by(database: Database, one: Event) -> NewRecord:
    return Sealer(UserKeys(database), HASHED)([record(one)])[0]


def destroy(database: Database) -> None:
    with database.begin() as session:
        session.connection().execute(delete(UserKey))


def test_what_was_sealed_opens_again_and_says_nothing_in_clear(database: Database) -> None:
    plain = record(edit("e", "g", SECRET))
    sealed = sealed_by(database, edit("e", "g", SECRET))
    assert (sealed.key, sealed.headers) == (plain.key, (SEALED,))
    assert not any(said in sealed.value for said in (SECRET.encode(), b"ann", b"saved"))
    said = Sealed.model_validate_json(sealed.value)
    assert (said.key, said.type, said.owner) == ((TASK, "e"), "edit", ANN)
    assert said.open(UserKeys(database).of([ANN])[ANN]) == plain.value
    assert said.open(bytes(32)) is None


def test_the_same_event_sealed_twice_has_other_bytes(database: Database) -> None:
    assert sealed_by(database, edit("e", "g", SECRET)).value != sealed_by(database, edit("e", "g", SECRET)).value


@pytest.mark.parametrize(
    "change",
    [
        {"task": "other"},
        {"event_id": "f"},
        {"type": "rating"},
        {"user_hash": "0" * 64},
        {"nonce": bytes(12)},
        {"content": bytes(90)},
    ],
)
def test_what_was_changed_or_put_under_another_name_does_not_open(database: Database, change: dict[str, Any]) -> None:
    said = Sealed.model_validate_json(sealed_by(database, edit("e", "g", SECRET)).value)
    assert said.model_copy(update=change).open(UserKeys(database).of([ANN])[ANN]) is None


def test_erasures_and_events_without_a_user_are_not_sealed(database: Database) -> None:
    for one in (event("erasure", "forget"), preference("p", "a", "b", user=None), generation("g", "a", user=None)):
        assert sealed_by(database, one) == record(one)


def test_a_destroyed_key_is_used_for_a_minute_at_most(database: Database) -> None:
    now = 0.0
    keys = UserKeys(database, lambda: now)
    first = keys.of([ANN])[ANN]
    destroy(database)
    now = CACHE_S - 1
    assert keys.of([ANN])[ANN] == first
    now = CACHE_S
    assert keys.of([ANN])[ANN] != first


def test_only_the_keys_used_last_are_cached(database: Database) -> None:
    keys, (one, two, three) = UserKeys(database, most_cached=2), [(TASK, str(number)) for number in range(3)]
    first = keys.of([one, two])
    keys.of([one])
    keys.of([three])
    destroy(database)
    assert keys.of([one])[one] == first[one]
    assert keys.of([two])[two] != first[two]


def test_two_processes_that_meet_a_user_at_once_have_one_key(tmp_path: Path, database: Database) -> None:
    owners = [(TASK, str(number)) for number in range(200)]
    with ThreadPoolExecutor(4) as processes, closing(Database(f"sqlite:///{tmp_path}/test.db")) as other:
        made = [processes.submit(UserKeys(one).of, part) for part in (owners, owners[::-1]) for one in (database, other)]
        first, *others = [dict(one.result()) for one in made]
    assert len(set(first.values())) == len(owners)
    assert all(one == first for one in others)


def test_nothing_is_sealed_but_for_kafka_and_by_setting(database: Database) -> None:
    erasure = ErasureSettings(key=SecretStr("a key"))
    for log, encrypt in (("kafka", False), ("embedded", True)):
        kafka = KafkaSettings(encrypt_users=encrypt)
        assert sealer(Settings.model_validate({"log": log, "kafka": kafka, "erasure": erasure}), database) is None
    kafka = KafkaSettings(encrypt_users=True)
    assert sealer(Settings.model_validate({"log": "kafka", "kafka": kafka, "erasure": erasure}), database) is not None


@pytest.fixture
def send(tmp_path: Path, database: Database) -> Iterator[Callable[..., tuple[int, MemoryLog]]]:
    """Sends one edit to an API whose keys of users are in this database."""
    with closing(Database(f"sqlite:///{tmp_path}/api.db")) as of_api:
        SQLModel.metadata.create_all(of_api.engine)
        with of_api.begin() as session:
            key = create_key(session, "test", ["*"], SCOPES)

        def make(of_users: Database) -> tuple[int, MemoryLog]:
            log = MemoryLog()
            app = create_app(Settings(), log, KeyRing(of_api), seal=Sealer(UserKeys(of_users), HASHED))
            with TestClient(app, base_url="http://localhost:8401") as client:
                body = edit("e", "g", SECRET).model_dump(mode="json")
                answer = client.post("/v1/feedback", json=body, headers={"Authorization": f"Bearer {key}"})
            return answer.status_code, log

        yield make


def test_ingest_appends_nothing_of_a_user_in_clear(send: Callable[..., tuple[int, MemoryLog]], database: Database) -> None:
    status, log = send(database)
    assert status == 202
    [kept] = log.records
    assert SEALED in kept.headers
    assert SECRET.encode() not in kept.value


def test_without_its_users_key_no_event_is_accepted(send: Callable[..., tuple[int, MemoryLog]], tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/no/such.db")) as away:
        status, log = send(away)
        assert (status, log.records) == (503, [])
        with pytest.raises(KeysUnavailable):
            UserKeys(away).of([ANN])
