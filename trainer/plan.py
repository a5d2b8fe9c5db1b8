"""Opens a round: what is new, whether a round is due, and the manifest that freezes it."""

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement
from sqlmodel import Session, col, func, select
from sqlmodel.sql.expression import SelectOfScalar

from ingest.events import Prompt
from ingest.settings import Settings
from pairing.rows import insert_all, select_by
from pairing.standing import behind
from pairing.tables import AskedPrompt, EventGeneration, Pair, StoredVote
from trainer import manifest as manifests
from trainer.manifest import FrozenPair, FrozenPrompt, Manifest
from trainer.select import apart_from, for_judging, select_pairs, to_answer
from trainer.tables import BASE, Adapter, Release, Round, RoundEvent, RoundPair
from trainer.trigger import TaskState

UNFINISHED = ("planned", "training", "sealed")
_JUDGED = ("passed", "refused")
_MOST_HELD_OUT_PAIRS = 256
"""Enough for 83 % power at 100 and more beyond; more would only take longer."""
_prompt: TypeAdapter[Prompt] = TypeAdapter(Prompt)


def state_of(session: Session, task: str) -> TaskState:
    """What a decision about the task rests on."""
    new = select(func.count(), func.min(Pair.created_at)).where(Pair.task == task, Pair.split == "train", _is_new())
    count, oldest = session.exec(new).one()
    failures = _failures(session, task)
    return TaskState(
        new_pairs=count,
        oldest_new_at=oldest,
        unfinished=unfinished(session, task) is not None,
        failures=len(failures),
        failed_at=failures[0].finished_at if failures else None,
    )


def unfinished(session: Session, task: str) -> Round | None:
    """The round of the task that has not reached a verdict."""
    return session.exec(select(Round).where(Round.task == task, col(Round.state).in_(UNFINISHED))).first()


def live_adapter(session: Session, task: str) -> str:
    """What answers the task now."""
    query = (
        select(Release.adapter).where(Release.task == task, col(Release.live_at).is_not(None)).order_by(col(Release.id).desc())
    )
    return session.exec(query).first() or BASE


def rests_on_erased(session: Session, name: str) -> bool:
    """Whether the adapter is tainted: nothing is to be trained on top of it."""
    adapter = session.get(Adapter, name)
    return adapter is not None and adapter.tainted_at is not None


def open_round(session: Session, settings: Settings, task: str, now: datetime) -> Round:
    """A new round with the next number; it trains from what is live."""
    live = live_adapter(session, task)
    round_ = Round(task=task, number=_next_number(session, settings, task), parent=live, live=live, planned_at=now)
    session.add(round_)
    session.flush()
    return round_


def freeze(session: Session, settings: Settings, round_: Round) -> Manifest:
    """The manifest of a planned round, from the pairs as they stand now."""
    assert round_.id is not None
    task = settings.tasks[round_.task]
    held_out, train = _held_out(session, round_.task), _pairs(round_.task, "train").limit(task.training.max_pairs)
    new = _frozen(session.exec(train.where(_is_new())).all())
    earlier = _frozen(session.exec(train.where(~_is_new())).all(), replay=True)
    new_apart, earlier_apart = apart_from(held_out, new), apart_from(held_out, earlier)
    selected = select_pairs(new_apart, earlier_apart, task.training)
    of_holdout = _frozen(session.exec(_pairs(round_.task, "holdout").limit(task.training.max_pairs)).all())
    judging = for_judging(of_holdout, task.gate.prompts, _MOST_HELD_OUT_PAIRS)
    return Manifest(
        round_id=round_.id,
        name=round_.adapter,
        task=round_.task,
        base_model=settings.model.name,
        parent=round_.parent,
        parent_path=path_of(session, round_.parent),
        live=round_.live,
        settings=task,
        train=tuple(selected),
        holdout=tuple(judging),
        prompts=tuple(to_answer(judging, _asked(session, round_.task, task.gate.prompts), task.gate.prompts)),
        near_holdout=len(new) - len(new_apart) + len(earlier) - len(earlier_apart),
        last_event_at=_last_event_at(session, [pair.id for pair in selected]) or round_.planned_at,
    )


def publish(session: Session, settings: Settings, frozen: Manifest) -> bool:
    """Write the manifest, then what it names into the database; the round may start once this transaction is through.

    Pairs that were withdrawn since they were frozen are left out. False, and nothing is written, when none is left to train on.
    """
    events = _events_behind(session, frozen)
    frozen = frozen.model_copy(
        update={
            "train": tuple(pair for pair in frozen.train if pair.id in events),
            "holdout": tuple(pair for pair in frozen.holdout if pair.id in events),
        }
    )
    if not frozen.train:
        return False
    manifests.write(manifests.folder_of(settings, frozen.name), frozen)
    for split, pairs in (("train", frozen.train), ("holdout", frozen.holdout)):
        session.add_all(RoundPair(round_id=frozen.round_id, pair_id=pair.id, split=split) for pair in pairs)
    rows = [(frozen.round_id, pair_id, event_id) for pair_id, behind in events.items() for event_id in sorted(behind)]
    insert_all(session, RoundEvent, ("round_id", "pair_id", "event_id"), rows)
    session.get_one(Round, frozen.round_id).state = "training"
    return True


def _events_behind(session: Session, frozen: Manifest) -> dict[str, set[str]]:
    """By pair, the events behind it; a pair that is no more has none."""
    ids = [(pair.id,) for pair in (*frozen.train, *frozen.holdout)]
    rows = select_by(session, Pair, ("id", "replies"), ("id",), ids)
    events = behind(session, frozen.task, {replies for _, replies in rows})
    return {pair_id: events[replies] for pair_id, replies in rows if events.get(replies)}


def _is_new() -> ColumnElement[bool]:
    """No round with a verdict had the pair."""
    judged = select(RoundPair.pair_id).join(Round, col(Round.id) == RoundPair.round_id).where(col(Round.state).in_(_JUDGED))
    return col(Pair.id).not_in(judged)


def _pairs(task: str, split: str) -> SelectOfScalar[Pair]:
    """Newest first, in an order that does not depend on the database."""
    return select(Pair).where(Pair.task == task, Pair.split == split).order_by(col(Pair.created_at).desc(), col(Pair.id))


def _frozen(pairs: Sequence[Pair], replay: bool = False) -> list[FrozenPair]:
    return [
        FrozenPair(
            id=pair.id,
            prompt=json.loads(pair.prompt),
            tools=_tools(pair.tools),
            chosen=json.loads(pair.chosen),
            rejected=json.loads(pair.rejected),
            source=pair.source,
            replay=replay,
        )
        for pair in pairs
    ]


def path_of(session: Session, name: str) -> str | None:
    """The directory of an adapter; none for the base model."""
    return None if name == BASE else session.get_one(Adapter, name).path


def _next_number(session: Session, settings: Settings, task: str) -> int:
    """Above every number of this database, and of an earlier one that left files behind: names are never used twice."""
    last = session.exec(select(func.max(Round.number)).where(Round.task == task)).one() or 0
    left = (path.name for directory in (settings.rounds_dir, settings.adapters_dir) for path in directory.glob(f"{task}-r*"))
    numbers = (name.removeprefix(f"{task}-r") for name in left)
    return 1 + max([last, *(int(number) for number in numbers if number.isdecimal())])


def _held_out(session: Session, task: str) -> list[Prompt]:
    """Every prompt that a held-out pair was made of."""
    query = select(Pair.prompt).where(Pair.task == task, Pair.split == "holdout").distinct()
    return [_prompt.validate_json(prompt) for prompt in session.exec(query)]


def _asked(session: Session, task: str, most: int) -> list[FrozenPrompt]:
    """Held-out prompts that people asked, whether or not a pair came of them."""
    traffic = select(EventGeneration.prompt_hash).where(EventGeneration.task == task, ~col(EventGeneration.evaluation))
    query = select(AskedPrompt).where(
        AskedPrompt.task == task, AskedPrompt.split == "holdout", col(AskedPrompt.hash).in_(traffic)
    )
    rows = session.exec(query.order_by(AskedPrompt.hash).limit(most)).all()
    return [FrozenPrompt(prompt=_prompt.validate_json(row.prompt), tools=_tools(row.tools)) for row in rows]


def _tools(stored: str | None) -> tuple[dict[str, object], ...] | None:
    return tuple(json.loads(stored)) if stored else None


def _failures(session: Session, task: str) -> list[Round]:
    """The rounds that failed since the last verdict, newest first."""
    finished = select(Round).where(Round.task == task, col(Round.state).not_in(UNFINISHED)).order_by(col(Round.number).desc())
    return list(takewhile(lambda round_: round_.state == "failed", session.exec(finished)))


def _last_event_at(session: Session, pair_ids: Sequence[str]) -> datetime | None:
    """When the last event that decided a vote on any of these pairs happened."""
    replies = select_by(session, Pair, ("task", "replies"), ("id",), [(id_,) for id_ in pair_ids])
    return max((row[0] for row in select_by(session, StoredVote, ("occurred_at",), ("task", "replies"), replies)), default=None)
