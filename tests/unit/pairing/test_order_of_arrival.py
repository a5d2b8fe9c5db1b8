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
WORLD = (
    *(generation(f"g{n}", "alpha", text) for n, text in enumerate(("beta", "gamma", "beta", "delta"))),
    generation("judged", "alpha", "beta", purpose="evaluation"),
    generation("other", "alpha", "beta", prompt="Another one."),
)
IDS = st.sampled_from(["g0", "g1", "g2", "g3"] * 3 + ["judged", "other", "lost"])
TEXTS = st.sampled_from(["alpha", "beta", "gamma", "delta"])
PROMPTS = st.sampled_from(["Describe the sea."] * 3 + ["Another one."])
REFS = st.builds(ref, IDS, st.integers(0, 1))
EVENT_IDS = st.integers(0, 25).map("e{}".format)
KINDS = "RRRRRRAAAACCCCCCEEEPPGXTTTTT"


@st.composite
def events(draw: st.DrawFn) -> Event:
    fields: dict[str, Any] = {
        "at": draw(st.integers(0, 5)),
        "user": draw(st.sampled_from(["ann", "bob", "cid", "dan", None])),
        "revision": draw(st.sampled_from([None, None, 1])),
        "by": draw(st.sampled_from(["user", "user", "user", "expert"])),
    }
    id_, kind = draw(EVENT_IDS), draw(st.sampled_from(KINDS))
    texts = draw(st.lists(TEXTS, min_size=1, max_size=2))
    carried = {} if draw(st.integers(0, 5)) else {"generation": held(draw(IDS), *texts, prompt=draw(PROMPTS))}
    match kind:
        case "G":
            return generation(draw(IDS), *texts, event_id=id_, prompt=draw(PROMPTS), **fields)
        case "C":
            shown = draw(st.lists(REFS, min_size=2, max_size=3, unique_by=str))
            return choice(id_, draw(st.sampled_from([*shown, "tie", "none"])), *shown, **fields | carried)
        case "R":
            return regeneration(id_, draw(IDS), draw(IDS), draw(st.integers(0, 1)), **fields | carried)
        case "A":
            return acceptance(id_, draw(IDS), draw(st.integers(0, 1)), **fields | carried)
        case "E":
            return edit(id_, draw(IDS), draw(TEXTS), draw(st.integers(0, 1)), **fields | carried)
        case "T":
            return event("rating", id_, reply=draw(REFS), thumb=draw(st.sampled_from(["up", "down"])), **fields | carried)
        case "P":
            return preference(id_, draw(TEXTS), draw(TEXTS), **fields)
        case _:
            return event("erasure", id_, **fields | {"user": draw(st.sampled_from(["ann", "bob"]))})


SENT = st.builds(lambda drawn: [*WORLD, *drawn], st.lists(events(), min_size=15, max_size=40))


@settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data(), SENT, st.sampled_from(["first", "each"]))
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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(SENT, st.integers(1, 3))
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
