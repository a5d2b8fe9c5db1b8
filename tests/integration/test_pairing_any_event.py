"""Whatever comes: no record stops a worker, be it an event or not, and each event is explained; the same on both databases."""

import json
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console
from sqlmodel import SQLModel

from ingest.events import canonical, event_adapter
from ingest.log import NewRecord
from tests.services.any_event import events, text
from tests.services.feedback import TASK
from tests.services.ledger import Ledger, everything, ledger
from tests.standins.log import MemoryLog
from trainer.explain import as_json
from trainer.explain_reading import find
from trainer.explain_tree import as_tree

ODD = 0.1
"""Share of texts to which a character is added that not every database can hold."""
NAMES = ("type", "event_id", "occurred_at", "user", "by", "role")
"""Odd ones make no event."""
CHANCE = st.randoms(use_true_random=False)


def met(said: Any, chance: random.Random, name: str = "") -> Any:
    """The same about few generations, with an odd text now and then."""
    match name, said:
        case (("generation_id" | "replacement"), _):
            return chance.choice(["g1", "g2"])
        case "candidate", _:
            return chance.randrange(2)
        case _, dict():
            return {key: met(value, chance, key) for key, value in said.items()}
        case _, list():
            return [met(one, chance) for one in said]
        case _, str() if name not in NAMES and chance.random() < ODD:
            return f"{said}\0"
    return said


def sent(drawn: Sequence[Any], texts: Sequence[str], chance: random.Random) -> list[NewRecord]:
    """What ingest would append of it, and what it would refuse too. There is something to vote on."""
    prompt, reply, adapter = texts
    at = {"task": TASK, "occurred_at": "2026-01-01T00:00:00Z"}
    written = at | {"prompt": prompt, "adapter": adapter, "candidates": [{"reply": reply}, {"reply": f"{reply}x"}]}
    asked = [written | {"type": "generation", "event_id": id_, "generation_id": id_} for id_ in ("g1", "g2")]
    refs = [{"generation_id": "g1", "candidate": candidate} for candidate in (0, 1)]
    picked = at | {"type": "choice", "event_id": "c", "shown": refs, "picked": refs[0]}
    return [NewRecord(b"k", as_appended(one)) for one in (*asked, picked, *(met(one, chance) | {"task": TASK} for one in drawn))]


def as_appended(body: Any) -> bytes:
    try:
        return canonical(event_adapter.validate_json(json.dumps(body)))
    except ValueError:
        return json.dumps(body).encode()


def explained(here: Ledger, event_id: str) -> str:
    console = Console(width=200)
    with here.database.read() as session, console.capture() as told:
        for found in find(session, event_id, 5):
            console.print(as_tree(found), json.dumps(as_json(found), default=str))
    return told.get()


def test_no_record_stops_a_worker_and_each_event_is_explained_the_same_on_postgresql(on_postgres: str) -> None:
    tables = ", ".join(f'"{name}"' for name in SQLModel.metadata.tables)
    with ledger(on_postgres) as there:

        @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.reuse, Phase.generate))
        @given(st.lists(events, min_size=10, max_size=25), st.tuples(text, text, text), CHANCE)
        def worked_on(drawn: Sequence[Any], texts: Sequence[str], chance: random.Random) -> None:
            with there.database.begin() as session:
                session.connection().exec_driver_sql(f"TRUNCATE {tables} CASCADE")
            there.log, records = MemoryLog(), sent(drawn, texts, chance)
            with ledger(settings=there.settings) as here:
                for one in (here, there):
                    one.add_records(records).add()
                assert everything(there.database) == everything(here.database)
                assert all(explained(here, event_id) for _, event_id in everything(here.database)["outcomes"])

        worked_on()
        there.database.engine.dispose()
