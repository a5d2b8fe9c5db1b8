"""Whatever the order, the repetitions and the batches in which events arrive: the same pairs, votes, splits and reasons."""

import contextlib
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.events import Event
from ingest.settings import TaskPairingSettings
from pairing.worker import Worker
from tests.services.feedback import (
    acceptance,
    choice,
    edit,
    event,
    generation,
    held,
    preference,
    record,
    ref,
    regeneration,
)
from tests.services.ledger import everything, ledger, settings_for

# Few names and texts, so that events meet: in generations, chains, votes and ids.
GENERATIONS = ("g1", "g2", "g3", "g4")
PROMPTS = st.sampled_from(["Describe the sea.", "Describe the sea.", "Describe the sea.", "Another one."])
TEXTS = st.sampled_from(["alpha", "beta", "gamma"])
IDS = st.sampled_from(GENERATIONS)
REFS = st.builds(ref, IDS, st.integers(0, 1))
EVENT_IDS = st.integers(0, 30).map("e{}".format)


@st.composite
def events(draw: st.DrawFn) -> Event:
    fields: dict[str, Any] = {
        "at": draw(st.integers(0, 5)),
        "user": draw(st.sampled_from(["ann", "bob", None])),
        "revision": draw(st.sampled_from([None, None, 1, 2])),
        "by": draw(st.sampled_from(["user", "user", "expert"])),
    }
    id_, kind = draw(EVENT_IDS), draw(st.sampled_from("GGGCCRRRAAEEPX"))
    texts = draw(st.lists(TEXTS, min_size=1, max_size=2))
    carried = {} if draw(st.integers(0, 5)) else {"generation": held(draw(IDS), *texts, prompt=draw(PROMPTS))}
    match kind:
        case "G":
            purpose = draw(st.sampled_from(["traffic"] * 7 + ["evaluation"]))
            return generation(draw(IDS), *texts, event_id=id_, prompt=draw(PROMPTS), purpose=purpose, **fields)
        case "C":
            shown = draw(st.lists(REFS, min_size=2, max_size=3, unique_by=str))
            return choice(id_, draw(st.sampled_from([*shown, "tie", "none"])), *shown, **fields | carried)
        case "R":
            return regeneration(id_, draw(IDS), draw(IDS), draw(st.integers(0, 1)), **fields | carried)
        case "A":
            return acceptance(id_, draw(IDS), draw(st.integers(0, 1)), **fields | carried)
        case "E":
            return edit(id_, draw(IDS), draw(TEXTS), draw(st.integers(0, 1)), **fields | carried)
        case "P":
            return preference(id_, draw(TEXTS), draw(TEXTS), **fields)
        case _:
            return event("erasure", id_, **fields | {"user": "bob"})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.lists(events(), min_size=1, max_size=25), st.sampled_from(["first", "each"]))
def test_any_order_repetition_and_batches_give_what_one_go_gives(data: st.DataObject, sent: Sequence[Event], which: Any) -> None:
    rules = TaskPairingSettings(regeneration=which)
    with ledger(settings=settings_for(rules)) as at_once, ledger(settings=settings_for(rules)) as piecemeal:
        at_once.add(*sent)
        again = data.draw(st.permutations([*sent, *data.draw(st.lists(st.sampled_from(sent), max_size=5))]))
        while again:
            size = data.draw(st.integers(1, len(again)))
            now, again = again[:size], again[size:]
            piecemeal.add(*now)
        assert everything(piecemeal.database) == everything(at_once.database)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events(), min_size=1, max_size=20), st.integers(1, 3))
def test_two_workers_give_what_one_gives(sent: Sequence[Event], batch: int) -> None:
    with ledger() as one, ledger(settings=settings_for(batch_events=batch)) as two:
        one.add(*sent)
        two.log.append([record(event) for event in sent]).result()
        workers = [Worker(two.settings, two.database, two.log, name) for name in ("first", "second")]
        with contextlib.closing(workers[0]), contextlib.closing(workers[1]):
            for _ in sent:
                for worker in workers:
                    worker.turn()
        assert everything(two.database) == everything(one.database)
