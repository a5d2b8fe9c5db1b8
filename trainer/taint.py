"""Taint: adapters that were trained on what a user wrote who was erased since, and all that were trained on top of them.

A tainted adapter never answers again. Where it does now, the nearest ancestor that is clean takes over; the pairs that survive
are new again, so that the next round, from there, makes up for it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from pairing.tables import Erasure, StoredEvent
from trainer.plan import UNFINISHED, live_adapter
from trainer.tables import BASE, Adapter, Release, Round, RoundEvent, RoundPair

_WHY = "A user was erased whose events it was made of, or the adapter under it: its adapter must not answer any more."


@dataclass(frozen=True, slots=True)
class Trained:
    """What an adapter was made of."""

    adapter: str
    parent: str
    on_erased: bool
    """A pair that it was trained on has an event of an erased user behind it."""


def tainted(trained: Iterable[Trained]) -> frozenset[str]:
    """Those made of what is erased, and their descendants."""
    found: set[str] = set()
    rest = list(trained)
    while new := {one.adapter for one in rest if one.on_erased or one.parent in found}:
        found |= new
        rest = [one for one in rest if one.adapter not in new]
    return frozenset(found)


def clean_ancestor(adapter: str, parents: Mapping[str, str], tainted: Collection[str]) -> str:
    """The adapter itself, or the nearest under it that is not tainted; the base model never is."""
    while adapter in tainted:
        adapter = parents.get(adapter, BASE)
    return adapter


def waiting(session: Session) -> list[str]:
    """Tasks with erasures that rounds and adapters were not seen to for."""
    return list(session.exec(select(Erasure.task).where(col(Erasure.rounds_at).is_(None)).distinct()))


def taint(session: Session, task: str, asking: Collection[str], now: datetime) -> None:
    """Taint what rests on erased events, end its rounds, and fall back where it answers. Again, it changes nothing.

    `asking` names rounds under way that would put an erased prompt to an adapter.
    """
    rounds = session.exec(select(Round).where(Round.task == task).order_by(col(Round.id)).with_for_update()).all()
    names = tainted(_trained(session, task, rounds, asking))
    for round_ in rounds:
        if round_.adapter in names and round_.state in (*UNFINISHED, "passed"):
            round_.state, round_.error, round_.finished_at = "tainted", _WHY, round_.finished_at or now
    for adapter in session.exec(select(Adapter).where(col(Adapter.name).in_(names), col(Adapter.tainted_at).is_(None))):
        adapter.tainted_at, adapter.wanted = now, False
    session.flush()
    _fall_back(session, task, names, {round_.adapter: round_.parent for round_ in rounds}, now)


def _trained(session: Session, task: str, rounds: Sequence[Round], asking: Collection[str]) -> list[Trained]:
    """A round under way counts as made of all that it holds: it is judged on what it must not show any more."""
    erased = _with_erased(session, task)
    before = set(session.exec(select(Adapter.name).where(Adapter.task == task, col(Adapter.tainted_at).is_not(None))))
    under_way = {round_.id for round_ in rounds if round_.state in UNFINISHED}
    made_of_erased = {id_ for id_, split in erased if split == "train" or id_ in under_way}
    return [
        Trained(round_.adapter, round_.parent, round_.id in made_of_erased or round_.adapter in {*before, *asking})
        for round_ in rounds
    ]


def _with_erased(session: Session, task: str) -> set[tuple[int | None, str]]:
    """Rounds, and on which side they have a pair with an erased event behind it."""
    query = (
        select(RoundEvent.round_id, RoundPair.split)
        .join(Round, col(Round.id) == RoundEvent.round_id)
        .join(RoundPair, (col(RoundPair.round_id) == RoundEvent.round_id) & (col(RoundPair.pair_id) == RoundEvent.pair_id))
        .join(StoredEvent, (col(StoredEvent.task) == Round.task) & (col(StoredEvent.event_id) == RoundEvent.event_id))
        .where(Round.task == task, StoredEvent.outcome == "erased")
        .distinct()
    )
    return {(round_id, split) for round_id, split in session.exec(query)}


def _fall_back(session: Session, task: str, names: Collection[str], parents: Mapping[str, str], now: datetime) -> None:
    newest = session.exec(select(Release).where(Release.task == task).order_by(col(Release.id).desc())).first()
    if newest and newest.adapter in names:
        wanted = clean_ancestor(live_adapter(session, task), parents, names)
        session.add(Release(task=task, adapter=wanted, reason="taint", asked_by="erasure", created_at=now))
