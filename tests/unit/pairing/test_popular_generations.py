"""On a generation with many events only those are read, and derived again, that what is new can change."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count

import pytest
from sqlmodel import select

from ingest.events import Event, canonical, fingerprint
from ingest.log import Record
from pairing import scope
from pairing.decoding import decode
from pairing.facts import Facts
from pairing.held import ALONE
from pairing.holdout import splitter
from pairing.outcomes import Outcome
from pairing.scope import Start, scope_of
from pairing.store import Fresh, leave
from pairing.tables import EventGeneration, Mark
from tests.services.feedback import TASK, acceptance, choice, edit, event, generation, held, record, ref, regeneration
from tests.services.ledger import Ledger

ASKED = generation("g", "one", "other")
PEOPLE = 50


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "FEW", 3)


def by(number: int, picked: int = 0, **fields: object) -> Event:
    return choice(f"c{number:03}", ref("g", picked), ref("g"), ref("g", 1), user=f"user-{number:03}", **fields)


def votes() -> Sequence[Event]:
    return [by(number) for number in range(PEOPLE)]


def rating(event_id: str, **fields: object) -> Event:
    return event("rating", event_id, reply=ref("g"), thumb="up", **fields)


def facts_of(ledger: Ledger, *new: Event) -> Facts:
    """What these say, as a worker reads it."""
    records = [Record(0, offset, 0, one.key, one.value, ()) for offset, one in enumerate(map(record, new))]
    return (decode(records, splitter(ledger.settings.holdout)).facts or {})[TASK]


def reached(ledger: Ledger, *new: Event) -> set[str]:
    """The stored events that are derived again when these come."""
    with ledger.database.read() as session:
        return set(scope_of(session, Start(), facts_of(ledger, *new)).stored)


@pytest.mark.parametrize(
    ("new", "again"),
    [
        (by(999), set()),
        (choice("again", "none", ref("g"), ref("g", 1), user="user-007", at=9), {"c007"}),
        (edit("e", "g", "my own", user="user-007"), {"c007"}),
        (acceptance("a", "g", user="user-007"), set()),
        (rating("r", user="user-007"), set()),
        (rating("r", user=None), set()),
        (event("score", "s", reply=ref("g"), criterion="short", value=1.0, by="criterion"), set()),
        (generation("g", "another", event_id="h", prompt="Later."), {"g"}),
    ],
    ids=["a choice", "another choice", "an edit", "an acceptance", "a rating", "nobody's rating", "a score", "a later record"],
)
def test_what_nobody_else_said_changes_by_it_is_not_read(ledger: Ledger, new: Event, again: set[str]) -> None:
    ledger.add(ASKED, *votes())
    assert reached(ledger, new) == again


@pytest.mark.parametrize(
    "new",
    [regeneration("l", "g", "h"), edit("e", "g", "my own", edit_of="earlier"), generation("g", "earlier", event_id="a")],
    ids=["a link", "an edit of an edit", "an earlier record"],
)
def test_what_can_change_anything_reads_all(ledger: Ledger, new: Event) -> None:
    ledger.add(ASKED, *votes())
    assert reached(ledger, new) == {"g", *(one.event_id for one in votes())}


def again(number: int, picked: int = 0, user: str | None = None, **fields: object) -> Event:
    """One person's next choice: nobody, or this user."""
    return choice(f"n{number:03}", ref("g", picked), ref("g"), ref("g", 1), at=number, user=user, **fields)


@pytest.mark.parametrize("user", [None, "ann"])
def test_who_changes_their_mind_again_and_again_makes_no_work(ledger: Ledger, user: str | None) -> None:
    ledger.add(ASKED, *votes())
    for number in range(PEOPLE):
        ledger.add(again(number, number % 2, user))
    last = f"n{PEOPLE - 1:03}"
    assert reached(ledger, again(PEOPLE, user=user)) == {last}
    assert reached(ledger, again(-1, user=user)) == {last}
    assert ledger.outcome(last) is Outcome.OUTVOTED
    assert ledger.pair().votes_for == PEOPLE


def test_what_is_beaten_when_it_comes_is_set_aside_at_once(ledger: Ledger) -> None:
    ledger.add(ASKED, *(again(number) for number in range(PEOPLE)))
    assert places_of(ledger).count("user") == 1
    assert reached(ledger, again(PEOPLE)) == {f"n{PEOPLE - 1:03}"}


def places_of(ledger: Ledger) -> Sequence[str]:
    """Where the names of the generation stand."""
    with ledger.database.read() as session:
        return session.exec(select(EventGeneration.place).where(EventGeneration.generation_id == "g")).all()


def test_of_carried_generations_that_count_for_nothing_else_the_first_is_kept_in_sight(ledger: Ledger) -> None:
    carried = held("g", "one", "other")
    ledger.add(*(again(number, generation=carried) for number in range(PEOPLE)))
    ledger.add(again(PEOPLE, generation=carried))
    assert reached(ledger, again(PEOPLE + 1, generation=carried)) == {"n000", f"n{PEOPLE:03}"}
    ledger.add(*(rating(f"r{number:03}", generation=carried, user=f"user-{number}") for number in range(PEOPLE)))
    ledger.add(rating("r", generation=carried, user="zoe"))
    assert places_of(ledger).count(ALONE) == 1
    assert ledger.add(rating("q", generation=held("g", "changed", "other"), user="zoe")).pairs() == [("changed", "other")]


def test_of_one_persons_edits_the_last_of_each_draft_is_read(ledger: Ledger) -> None:
    ledger.add(ASKED, *votes())
    for number in range(PEOPLE):
        ledger.add(edit(f"e{number:03}", "g", f"my own, {number}", candidate=number % 2, at=number))
    assert reached(ledger, edit("e", "g", "mine", at=PEOPLE)) == {f"e{PEOPLE - 2:03}", f"e{PEOPLE - 1:03}"}


@pytest.mark.parametrize("people", [0, PEOPLE], ids=["few are left", "many are left"])
def test_what_was_set_aside_counts_again_when_what_beat_it_goes(ledger: Ledger, people: int) -> None:
    """The last choice goes when another body with its id comes that has a smaller hash: it is about another generation."""
    last = again(5, 1)
    elsewhere = (choice("n005", ref("h"), ref("h"), ref("h", 1), tags={"try": str(number)}) for number in count())
    smaller = next(one for one in elsewhere if fingerprint(canonical(one)) < fingerprint(canonical(last)))
    ledger.add(ASKED, *(by(number, 1) for number in range(people)))
    for number in range(5):
        ledger.add(again(number, number % 2))
    assert ledger.add(last).pairs() == [("other", "one")]
    ledger.add(smaller)
    assert (ledger.outcome("n004"), ledger.outcome("n005")) == (
        Outcome.OUTVOTED if people else Outcome.PAIRED,
        Outcome.WAITING_FOR_GENERATION,
    )
    assert reached(ledger, again(6)) == {"n004"}


def test_what_a_worker_leaves_to_another_is_derived_with_no_more_than_it_changes(ledger: Ledger) -> None:
    ledger.add(ASKED, *votes())
    with ledger.database.begin() as session:
        leave(session, Fresh(facts_of(ledger, by(999)), Start()), True, datetime.now(UTC))
    with ledger.database.read() as session:
        [mark] = session.exec(select(Mark)).all()
        assert (mark.kind, mark.key) == ("event", "c999")
        assert set(scope_of(session, Start(events=frozenset({"c999"})), Facts(TASK)).stored) == {"c999"}
    assert ledger.add().pair().votes_for == PEOPLE + 1


def test_what_waits_for_its_generation_is_read_when_that_comes(ledger: Ledger) -> None:
    ledger.add(*votes())
    assert not reached(ledger, by(999))
    assert len(reached(ledger, ASKED)) == PEOPLE
    assert ledger.add(ASKED).pair().votes_for == PEOPLE


def test_of_carried_generations_another_one_counts_only_when_it_comes_before(ledger: Ledger) -> None:
    carried = held("g", "one", "other")
    ledger.add(*(by(number, generation=carried) for number in range(100, 100 + PEOPLE)))
    assert not reached(ledger, by(999, generation=held("g", "changed", "other")))
    assert len(reached(ledger, by(0, generation=held("g", "changed", "other")))) == PEOPLE
    ledger.add(by(0, generation=held("g", "changed", "other")))
    assert ledger.pairs() == [("changed", "other")]
    assert ledger.pair().votes_for == PEOPLE + 1


def test_an_acceptance_of_a_popular_reply_closes_the_chain_that_leads_to_it(ledger: Ledger) -> None:
    ledger.add(ASKED, generation("h", "worse"), *votes(), regeneration("l", "h", "g"), acceptance("a", "g", at=99, user="zoe"))
    assert ("one", "worse") in ledger.pairs()
    ledger.add(acceptance("b", "g", 1, at=100, user="yan"))
    assert ("other", "worse") in ledger.pairs()
    assert ("one", "worse") not in ledger.pairs()


def test_an_adapter_stays_named_while_any_vote_says_that_it_wrote_a_reply(ledger: Ledger) -> None:
    first, second = (generation(id_, "one", "other", adapter=f"{TASK}-r00000{id_}") for id_ in "12")
    shown = [choice(f"c{id_}{who}", ref(id_), ref(id_), ref(id_, 1), user=who) for id_ in "12" for who in ("ann", "ben")]
    ledger.add(first, second, *shown)
    assert ledger.pair().chosen_adapters == f'["{TASK}-r000001", "{TASK}-r000002"]'
    ledger.add(choice("none", "none", ref("1"), ref("1", 1), at=9, user="ann"))
    assert ledger.pair().chosen_adapters == f'["{TASK}-r000001", "{TASK}-r000002"]'
    ledger.add(choice("none too", "none", ref("1"), ref("1", 1), at=9, user="ben"))
    assert ledger.pair().chosen_adapters == f'["{TASK}-r000002"]'
    assert ledger.pair().rejected_adapters == f'["{TASK}-r000002"]'
