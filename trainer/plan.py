"""Opens a round: what is new, whether a round is due, and the manifest that freezes it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlmodel import Session, col, func, select

from ingest.settings import Settings, TaskSettings
from pairing.tables import Pair, PairEvent, StoredEvent
from trainer import manifest as manifests
from trainer.manifest import FrozenPair, Manifest
from trainer.select import apart_from, select_pairs
from trainer.tables import BASE, Adapter, Release, Round, RoundPair
from trainer.trigger import TaskState

UNFINISHED = ("planned", "training", "sealed")
_JUDGED = ("passed", "refused")


def state_of(session: Session, task: str) -> TaskState:
    """What a decision about the task rests on."""
    new = select(func.count(), func.min(Pair.created_at)).where(Pair.task == task, Pair.split == "train", _is_new())
    count, oldest = session.exec(new).one()
    return TaskState(count, oldest, unfinished(session, task) is not None)


def unfinished(session: Session, task: str) -> Round | None:
    """The round of the task that has not reached a verdict."""
    return session.exec(select(Round).where(Round.task == task, col(Round.state).in_(UNFINISHED))).first()


def live_adapter(session: Session, task: str) -> str:
    """What answers the task now."""
    query = (
        select(Release.adapter).where(Release.task == task, col(Release.live_at).is_not(None)).order_by(col(Release.id).desc())
    )
    return session.exec(query).first() or BASE


def open_round(session: Session, task: str, now: datetime) -> Round:
    """A new round with the next number; it trains from what is live."""
    last = session.exec(select(func.max(Round.number)).where(Round.task == task)).one()
    live = live_adapter(session, task)
    round_ = Round(task=task, number=(last or 0) + 1, parent=live, live=live, planned_at=now)
    session.add(round_)
    session.flush()
    return round_


def freeze(session: Session, settings: Settings, round_: Round) -> Manifest:
    """The manifest of a planned round, from the pairs as they stand now."""
    assert round_.id is not None
    task: TaskSettings = settings.tasks[round_.task]
    holdout = _frozen(session.exec(_pairs(round_.task, "holdout")).all())
    new = _frozen(session.exec(_pairs(round_.task, "train").where(_is_new())).all())
    earlier = _frozen(session.exec(_pairs(round_.task, "train").where(~_is_new())).all(), replay=True)
    selected = select_pairs(new, earlier, task.training)
    train = apart_from(holdout, selected)
    return Manifest(
        round_id=round_.id,
        name=round_.adapter,
        task=round_.task,
        base_model=settings.model.name,
        parent=round_.parent,
        parent_path=_path(session, round_.parent),
        live=round_.live,
        live_path=_path(session, round_.live),
        settings=task,
        train=tuple(train),
        holdout=tuple(holdout),
        near_holdout=len(selected) - len(train),
        last_event_at=_last_event_at(session, round_.task, [pair.id for pair in train]) or datetime.now(UTC),
    )


def publish(session: Session, settings: Settings, frozen: Manifest) -> None:
    """Write the manifest, then what it names into the database; the round may start once this transaction is through."""
    manifests.write(manifests.folder_of(settings, frozen.name), frozen)
    for split, pairs in (("train", frozen.train), ("holdout", frozen.holdout)):
        session.add_all(RoundPair(round_id=frozen.round_id, pair_id=pair.id, split=split) for pair in pairs)
    session.get_one(Round, frozen.round_id).state = "training"


def _is_new():  # type: ignore[no-untyped-def]  # SQLAlchemy's expression types do not survive the negation
    """No round with a verdict had the pair."""
    judged = select(RoundPair.pair_id).join(Round, col(Round.id) == RoundPair.round_id).where(col(Round.state).in_(_JUDGED))
    return col(Pair.id).not_in(judged)


def _pairs(task: str, split: str):  # type: ignore[no-untyped-def]  # sqlmodel's Select is generic in a private class
    """Newest first, in an order that does not depend on the database."""
    return select(Pair).where(Pair.task == task, Pair.split == split).order_by(col(Pair.created_at).desc(), col(Pair.id))


def _frozen(pairs: Sequence[Pair], replay: bool = False) -> list[FrozenPair]:
    return [
        FrozenPair(
            id=pair.id,
            prompt=json.loads(pair.prompt),
            tools=json.loads(pair.tools) if pair.tools else None,
            chosen=json.loads(pair.chosen),
            rejected=json.loads(pair.rejected),
            source=pair.source,
            replay=replay,
        )
        for pair in pairs
    ]


def _path(session: Session, name: str) -> str | None:
    return None if name == BASE else session.get_one(Adapter, name).path


def _last_event_at(session: Session, task: str, pair_ids: Sequence[str]) -> datetime | None:
    query = (
        select(StoredEvent.occurred_at)
        .join(PairEvent, (col(PairEvent.task) == StoredEvent.task) & (col(PairEvent.event_id) == StoredEvent.event_id))
        .where(PairEvent.task == task, col(PairEvent.pair_id).in_(pair_ids))
        .order_by(col(StoredEvent.occurred_at).desc())
        .limit(1)
    )
    return session.exec(query).first()
