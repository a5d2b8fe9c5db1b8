"""Finds what an id stands for, in the tables of pairing and of the trainer, and what belongs to it."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, func, select

from pairing import lineage
from pairing.lineage import Cast
from pairing.outcomes import DeadReason, Outcome
from pairing.short_keys import beginning, begins, equal
from pairing.standing import pairs_among
from pairing.tables import DeadLetter, Pair, StoredEvent
from trainer.explain import (
    AdapterFound,
    EventBehind,
    EventFound,
    Found,
    LetterFound,
    OnceBehind,
    PairBehind,
    PairFound,
    Trained,
    VoteOn,
    WithdrawnPair,
)
from trainer.tables import BASE, Adapter, Round, RoundEvent, RoundPair

_PAIR_ID = re.compile(r"[0-9a-f]{6,64}")
"""A pair's id, or enough of its beginning."""
_ADAPTER = re.compile(r"(?P<task>.+)-r(?P<number>[0-9]{6,9})")
_MOST = 100
"""Votes or pairs that are shown of one thing."""
_AT_ONCE = 500
_OF_ROUND = equal(beginning, (col(Pair.id), col(RoundPair.pair_id)))


def find(session: Session, id_: str, most_pairs: int) -> list[Found]:
    """Everything that this is the id of, in every task; of a pair its beginning will do."""
    stored = session.exec(select(StoredEvent).where(StoredEvent.event_id == id_).order_by(StoredEvent.task)).all()
    found: list[Found] = [_event(session, event) for event in stored]
    found += [_letter(letter, claimed) for letter, claimed in _letters(session, id_)]
    if _PAIR_ID.fullmatch(id_):
        found += _pairs(session, id_)
    if named := _ADAPTER.fullmatch(id_):
        rounds = select(Round).where(Round.task == named["task"], Round.number == int(named["number"]))
        found += [_adapter(session, round_, most_pairs) for round_ in session.exec(rounds).all()]
    return found


def _event(session: Session, event: StoredEvent) -> EventFound:
    part = lineage.part_of(session, event, _MOST)
    outcome = lineage.outcome_of(session, event, part.says)
    superseded = event.type == "rating" and outcome is Outcome.SUPERSEDED  # the vote is of the ratings that count
    body = json.loads(event.body) if event.body else {}
    rounds = _rounds_by_pair(session, event)
    shown = sorted(rounds)[:_MOST]
    return EventFound(
        task=event.task,
        event_id=event.event_id,
        type=event.type,
        by=body.get("by", "user") if body else None,
        written_by=body.get("adapter", BASE) if body and event.type == "generation" else None,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        outcome=outcome.value,
        meaning=outcome.meaning,
        votes=_votes(session, () if superseded else part.says),
        holds_for=_votes(session, part.holds),
        holds_for_left_out=part.holds_left_out,
        in_rounds=_in_rounds(session, rounds, shown),
        in_rounds_left_out=len(rounds) - len(shown),
    )


def _rounds_by_pair(session: Session, event: StoredEvent) -> Mapping[str, set[int]]:
    """By pair that the event was behind when rounds were planned, those rounds."""
    here = (RoundEvent.event_id == event.event_id, Round.task == event.task)
    query = select(RoundEvent.pair_id, RoundEvent.round_id).join(Round, col(Round.id) == RoundEvent.round_id).where(*here)
    rounds: defaultdict[str, set[int]] = defaultdict(set)
    for pair_id, round_id in session.exec(query).all():
        rounds[pair_id].add(round_id)
    return rounds


def _in_rounds(session: Session, rounds: Mapping[str, set[int]], shown: Sequence[str]) -> list[OnceBehind]:
    standing = pairs_among(session, set(shown))
    trained = _trained(session, shown)
    return [OnceBehind(id_, id_ in standing, [one for one in trained[id_] if one.round_id in rounds[id_]]) for id_ in shown]


def _votes(session: Session, casts: Sequence[Cast]) -> list[VoteOn]:
    ids = {cast.vote.speaks_for for cast in casts}
    standing = pairs_among(session, ids)
    trained = _trained(session, ids)
    return [
        VoteOn(
            event_id=cast.vote.event_id,
            source=cast.vote.source,
            standing=cast.standing.value,
            pair_id=cast.vote.speaks_for,
            stands=cast.vote.speaks_for in standing,
            rests_on=sorted(cast.vote.says - {cast.vote.event_id}),
            held_by=sorted(cast.vote.holders),
            chosen_adapter=cast.vote.chosen_adapter,
            rejected_adapter=cast.vote.rejected_adapter,
            trained=trained.get(cast.vote.speaks_for, ()),
        )
        for cast in casts
    ]


def _trained(session: Session, pair_ids: Iterable[str]) -> dict[str, list[Trained]]:
    """By pair, the rounds that had it."""
    query = (
        select(RoundPair, Round, Adapter)
        .join(Round, col(Round.id) == RoundPair.round_id)
        .outerjoin(Adapter, col(Adapter.round_id) == RoundPair.round_id)
        .where(col(RoundPair.pair_id).in_(list(pair_ids)))
        .order_by(col(RoundPair.round_id))
    )
    found: defaultdict[str, list[Trained]] = defaultdict(list)
    for row, round_, adapter in session.exec(query).all():
        tainted = adapter is not None and adapter.tainted_at is not None
        made = Trained(row.round_id, round_.adapter, round_.state, adapter is not None, row.split, tainted)
        found[row.pair_id].append(made)
    return found


def _pairs(session: Session, said: str) -> Iterator[PairFound | WithdrawnPair]:
    standing = session.exec(select(Pair).where(begins(col(Pair.id), said)).order_by(Pair.id)).all()
    yield from (_pair(session, pair) for pair in standing)
    known = {pair.id for pair in standing}
    rounds = select(RoundPair.pair_id).where(col(RoundPair.pair_id).startswith(said)).distinct()
    gone = sorted(set(session.exec(rounds).all()) - known)
    trained = _trained(session, gone)
    yield from (WithdrawnPair(id_, _events_once_behind(session, id_), trained[id_]) for id_ in gone)


def _events_once_behind(session: Session, pair_id: str) -> list[EventBehind]:
    query = (
        select(StoredEvent)
        .join(RoundEvent, col(RoundEvent.event_id) == StoredEvent.event_id)
        .join(Round, (col(Round.id) == RoundEvent.round_id) & (col(Round.task) == StoredEvent.task))
        .where(RoundEvent.pair_id == pair_id)
        .order_by(col(StoredEvent.occurred_at), StoredEvent.event_id)
        .distinct()
    )
    return [EventBehind(event.event_id, event.type, event.occurred_at) for event in session.exec(query).all()]


def _pair(session: Session, pair: Pair) -> PairFound:
    found = lineage.of_pair(session, pair, _MOST)
    return PairFound(
        **pair.model_dump(
            include={"id", "task", "source", "split", "votes_for", "votes_against", "weight", "wrong_share", "created_at"}
        ),
        prompt=json.loads(pair.prompt),
        chosen=json.loads(pair.chosen),
        rejected=json.loads(pair.rejected),
        chosen_adapters=json.loads(pair.chosen_adapters),
        rejected_adapters=json.loads(pair.rejected_adapters),
        votes=_votes(session, found.votes),
        votes_left_out=found.votes_left_out,
        events=[EventBehind(event.event_id, event.type, event.occurred_at) for event in found.events],
        trained=_trained(session, [pair.id]).get(pair.id, ()),
    )


def _adapter(session: Session, round_: Round, most_pairs: int) -> AdapterFound:
    sealed = session.get(Adapter, round_.adapter)
    verdict: dict[str, Any] = round_.verdict or {}
    return AdapterFound(
        name=round_.adapter,
        task=round_.task,
        state=round_.state,
        parents=list(_parents(session, round_.parent)),
        planned_at=round_.planned_at,
        finished_at=round_.finished_at,
        sealed_at=sealed.sealed_at if sealed else None,
        tainted_at=sealed.tainted_at if sealed else None,
        why=[round_.error] if round_.error else verdict.get("reasons", []),
        pairs=_counts(session, round_),
        shown=_shown(session, round_, most_pairs),
    )


def _parents(session: Session, parent: str) -> Iterator[str]:
    yield parent
    while parent != BASE and (adapter := session.get(Adapter, parent)):
        parent = adapter.parent
        yield parent


def _counts(session: Session, round_: Round) -> dict[str, dict[str, int]]:
    query = (
        select(RoundPair.split, Pair.source, func.count())
        .outerjoin(Pair, _OF_ROUND)
        .where(RoundPair.round_id == round_.id)
        .group_by(RoundPair.split, Pair.source)
    )
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for split, source, count in session.exec(query).all():
        counts[split][source or "withdrawn"] = count
    return {split: dict(sorted(counts[split].items())) for split in ("train", "holdout") if split in counts}


def _shown(session: Session, round_: Round, most: int) -> list[PairBehind]:
    query = (
        select(RoundPair, Pair)
        .outerjoin(Pair, _OF_ROUND)
        .where(RoundPair.round_id == round_.id)
        .order_by(col(RoundPair.split).desc(), RoundPair.pair_id)
        .limit(most)
    )
    found = session.exec(query).all()
    events = _events_by_pair(session, round_, [row.pair_id for row, _ in found])
    return [PairBehind(row.pair_id, row.split, pair.source if pair else None, events[row.pair_id]) for row, pair in found]


def _events_by_pair(session: Session, round_: Round, pair_ids: Sequence[str]) -> defaultdict[str, list[str]]:
    query = select(RoundEvent).where(RoundEvent.round_id == round_.id, col(RoundEvent.pair_id).in_(pair_ids))
    events: defaultdict[str, list[str]] = defaultdict(list)
    for row in session.exec(query.order_by(RoundEvent.event_id)).all():
        events[row.pair_id].append(row.event_id)
    return events


def _letters(session: Session, id_: str) -> Iterator[tuple[DeadLetter, dict[str, Any]]]:
    """The dead letters with this id, and those that claim to be an event with it."""
    for letter in session.exec(select(DeadLetter).order_by(DeadLetter.id)).yield_per(_AT_ONCE):
        claimed = _claims(letter.value)
        if claimed.get("event_id") == id_ or (_PAIR_ID.fullmatch(id_) and letter.id.startswith(id_)):
            yield letter, claimed


def _claims(value: bytes) -> dict[str, Any]:
    """What a record that is no event says of itself, where that can be read."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _letter(letter: DeadLetter, claimed: dict[str, Any]) -> LetterFound:
    task, event_id = (claimed.get(name) if isinstance(claimed.get(name), str) else None for name in ("task", "event_id"))
    meaning = DeadReason(letter.reason).meaning
    return LetterFound(letter.id, task, event_id, letter.reason, meaning, letter.detail, letter.received_at)
