"""What commands read and replay on PostgreSQL: the same as on SQLite."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlmodel import Session
from starlette.testclient import TestClient

from ingest.app import create_app
from ingest.events import canonical, fingerprint
from ingest.keys import KeyRing, create_key
from ingest.log import NewRecord
from ingest.settings import Settings
from pairing import api
from pairing.outcomes import Outcome
from pairing.replay import replay
from pairing.rows import look_up_by_key
from pairing.tables import DeadLetter
from pairing.worker import Worker
from tests.services.feedback import TASK, choice, crowd, event, generation, preference, ref
from tests.services.ledger import Ledger, ledger
from tests.services.postgres import empty_database
from tests.services.rounds import NOW
from tests.standins.log import MemoryLog
from trainer.ask import with_users
from trainer.explain import as_json
from trainer.explain_reading import find
from trainer.manifest import FrozenPrompt
from trainer.scoring_prompts import recent_prompts
from trainer.tables import Adapter, Round, RoundEvent, RoundPair

EVENTS = [
    *crowd(40),
    generation("h", "good", "poor", prompt="Describe rain."),
    event("rating", "up", reply=ref("h"), thumb="up"),
    event("rating", "down", reply=ref("h", 1), thumb="down", user="bob"),
    *(generation(f"only-{number}", "fine", prompt=f"Describe snow {number}.") for number in range(3)),
    preference("imported", "good", "poor", prompt="Describe hail.", user="eve"),
    *(event("rating", f"up-{number}", reply=ref(f"only-{number}"), thumb="up") for number in range(3)),
]
MANY = 300
_WHEN_WRITTEN = {"created_at", "received_at"}


@pytest.fixture(scope="module")
def both(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, Ledger]]:
    """The same events, and a round, on either."""
    file = tmp_path_factory.mktemp("lineage") / "whetstone.db"
    with ledger(f"sqlite:///{file}") as on_sqlite, empty_database(server, "lineage") as url, ledger(url) as on_postgres:
        for one in (on_sqlite, on_postgres):
            one.add(*EVENTS).add_records([NewRecord(b"k", b'{"type":"poem","event_id":"poem-1"}')])
            with one.database.begin() as session:
                _add_round(session, sorted(pair.id for pair in one.rows()))
        yield on_sqlite, on_postgres


def _add_round(session: Session, pairs: list[str]) -> None:
    round_ = Round(task=TASK, number=1, state="passed", parent="base", live="base", planned_at=NOW)
    session.add(round_)
    session.flush()
    assert round_.id is not None
    session.add_all(RoundPair(round_id=round_.id, pair_id=id_, split="train") for id_ in [*pairs, "f" * 64])
    session.add_all(RoundEvent(round_id=round_.id, pair_id="f" * 64, event_id=id_) for id_ in ("h", "up"))
    row = {"task": TASK, "round_id": round_.id, "parent": "base", "path": "/nowhere", "manifest_sha256": "x"}
    session.add(Adapter(name=round_.adapter, sealed_at=NOW, **row))


def explained(one: Ledger) -> dict[str, Any]:
    ids = {event.event_id for event in EVENTS} | {pair.id for pair in one.rows()}
    with one.database.read() as session:
        return {
            id_: [_timeless(as_json(found)) for found in find(session, id_, 5)]
            for id_ in sorted({*ids, "f" * 64, "poem-1", f"{TASK}-r000001"})
        }


def _timeless(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in _WHEN_WRITTEN}


def test_every_event_pair_and_adapter_is_explained_the_same_on_postgresql(both: tuple[Ledger, Ledger]) -> None:
    on_sqlite, on_postgres = map(explained, both)
    assert on_postgres == on_sqlite
    assert all(on_postgres.values())


def test_no_event_costs_a_look_at_a_whole_table(server: str) -> None:
    """Rows are found by short forms of their keys: a query that does not ask by one would read them all."""
    with empty_database(server, "finding") as url, ledger(url) as one:
        with one.database.begin() as session:
            session.connection().exec_driver_sql("ALTER DATABASE finding SET enable_seqscan = off")  # where it can be helped
        one.database.engine.dispose()
        one.add()  # the first time by these rules, when all is to be derived
        before = _whole_reads(one)
        one.add(*EVENTS).add(*EVENTS)
        pairs = sorted(pair.id for pair in one.rows())
        after = _whole_reads(one)
        assert after == before | {"pairs": before["pairs"] + 1}  # by `rows`
        with one.database.begin() as session:
            _add_round(session, pairs)
        with one.database.read() as session:
            for id_ in (*pairs, pairs[0][:6], pairs[0][:20], "h", "up", f"{TASK}-r000001"):
                assert find(session, id_, 5)
            with_users(session, TASK, [FrozenPrompt(prompt="Describe rain.")])
        assert _exported(one, "pairs")
        assert _exported(one, "examples")
        one.add(event("erasure", "forget", user="bob"))
        with contextlib.closing(Worker(one.settings, one.database, one.log, "one")) as worker:
            for _ in range(9):
                worker.turn()
        assert _whole_reads(one) == after


def test_looking_up_by_key_is_never_compiled(server: str) -> None:
    """Which takes longer than to look up a batch, and happens where the server guesses many rows."""
    with empty_database(server, "compiling") as url, ledger(url) as one, one.database.begin() as session:
        run = session.connection().exec_driver_sql
        run("SET LOCAL jit_above_cost = 0")
        plan = "EXPLAIN (ANALYZE) SELECT body FROM events WHERE event_id = 'c'"
        assert any("JIT" in row[0] for row in run(plan)) == run("SELECT pg_jit_available()").scalar()
        look_up_by_key(session)
        assert not any("JIT" in row[0] for row in run(plan))


def test_who_says_the_same_again_and_again_costs_no_more_each_time(server: str) -> None:
    """Of a person's votes on two replies, and of their ratings of one, the last is found without reading the others."""
    with empty_database(server, "insisting") as url, ledger(url) as one:
        asked = [generation(f"g{number}", "one", "other", user=None) for number in range(MANY + 1)]
        said = [choice(f"c{n}", ref(f"g{n}"), ref(f"g{n}"), ref(f"g{n}", 1), at=n) for n in range(MANY + 1)]
        said += [event("rating", f"r{n}", reply=ref(f"g{n}"), thumb="up", at=n) for n in range(MANY + 1)]
        one.add(*asked, *(event for event in said if event.event_id not in ("c0", f"r{MANY}")))
        before = _rows_read(one)
        one.add(said[0], said[-1])
        after = _rows_read(one)
        assert (one.outcome("c0"), one.outcome(f"c{MANY}")) == (Outcome.SUPERSEDED, Outcome.PAIRED)
        assert all(after[table] - before[table] < 10 for table in ("votes", "ratings")), (before, after)


def _whole_reads(one: Ledger) -> dict[str, int]:
    """How often each of the largest tables was read from end to end so far."""
    return _told(one, "seq_scan", "events", "event_generations", "prompts", "votes", "pairs")


def _rows_read(one: Ledger) -> dict[str, int]:
    """How many rows of votes and ratings were fetched by an index so far."""
    return _told(one, "idx_tup_fetch", "votes", "ratings")


def _told(one: Ledger, count: str, *tables: str) -> dict[str, int]:
    """What the server counted of each table."""
    one.database.engine.dispose()  # a server's process tells what it did at its end
    with one.database.read() as session:
        query = f"SELECT relname, {count} FROM pg_stat_user_tables WHERE relname = ANY(%s)"
        return dict(session.connection().exec_driver_sql(query, (list(tables),)).all())


def test_the_prompts_that_criteria_score_are_the_same_on_postgresql(both: tuple[Ledger, Ledger]) -> None:
    found = []
    for one in both:
        with one.database.read() as session:
            found.append([(prompt.prompt, prompt.user) for prompt in recent_prompts(session, TASK, 5)])
    assert found[0] == found[1]
    assert len(found[0]) == 5


def test_the_gate_asks_a_prompt_as_somebody_who_asked_it_on_postgresql_too(both: tuple[Ledger, Ledger]) -> None:
    prompts = [FrozenPrompt(prompt=text) for text in ("Describe rain.", "Describe hail.", "Nobody asked this.")]
    for one in both:
        with one.database.read() as session:
            assert [asking.user for asking in with_users(session, TASK, prompts)] == ["ann", "eve", None]


def test_dead_letters_go_through_again_on_postgresql(both: tuple[Ledger, Ledger]) -> None:
    for one in both:
        body = canonical(preference("ready", "good", "bad"))
        with one.database.begin() as session:  # as a version left it that did not know this type
            row = {"detail": "type: unknown", "partition": 0, "offset": 7, "received_at": NOW}
            session.add(DeadLetter(id=fingerprint(body), reason="invalid", value=body, **row))
        assert replay(one.database, one.settings, [fingerprint(body)]).events == [fingerprint(body)]
        one.add()
        assert ("good", "bad") in one.pairs()
        assert [letter.value for letter in one.dead()] == [b'{"type":"poem","event_id":"poem-1"}']


@pytest.mark.parametrize("kind", ["pairs", "examples"])
def test_what_an_export_reads_is_the_same_on_both_in_pages_of_any_size(
    both: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    told = []
    for page in (1, 7, 500):
        monkeypatch.setattr(api, "PAGE_ROWS", page)
        told += [[_timeless(row) for row in _exported(one, kind)] for one in both]
    assert len(told[0]) > 1
    assert all(rows == told[0] for rows in told)


def _exported(one: Ledger, kind: str) -> list[dict[str, Any]]:
    keys = KeyRing(one.database)
    with one.database.begin() as session:
        key = create_key(session, "test", [TASK], ["admin"])
    app = create_app(Settings(), MemoryLog(), keys, routers=[api.routes(one.database, keys)])
    with TestClient(app, base_url="http://localhost:8401") as client:
        answer = client.get("/v1/pairs", params={"task": TASK, "kind": kind}, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.content.split(b"\n") if line]
