"""Pairs as they are stored: those of two replies whose votes changed are made, changed or withdrawn."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select
from sqlmodel import Session

from pairing.identity import pair_id, reply_hash
from pairing.rows import delete_by, insert_all, select_in, table_of, update_by
from pairing.rules.net import Tally, Won
from pairing.rules.votes import Vote
from pairing.tables import AskedPrompt, Pair, PairEvent

_pairs, _pair_events, _prompts = table_of(Pair), table_of(PairEvent), table_of(AskedPrompt)


def write(session: Session, task: str, touched: Iterable[Vote], tallies: Iterable[Tally], now: datetime) -> None:
    """Make the pairs of the two replies of each touched vote those that the tallies say; without a tally there is none."""
    wanted = {_id(task, counted.won): counted.won for counted in tallies if counted.won}
    possible = {id_ for vote in touched for id_ in _either_way(task, vote)}
    before = {row.id: row for row in select_in(session, select(_pairs), _pairs.c.id, possible)}
    delete_by(session, Pair, [{"id": id_} for id_ in sorted(before.keys() - wanted.keys())])
    _insert(session, task, {id_: won for id_, won in wanted.items() if id_ not in before}, now)
    changed = {id_: won for id_, won in wanted.items() if id_ in before and _differs(before[id_], won)}
    update_by(session, Pair, ["id"], [{"id": id_, **_says(won)} for id_, won in changed.items()])
    _write_events(session, task, wanted)


def _insert(session: Session, task: str, new: Mapping[str, Won], now: datetime) -> None:
    of_task = select(_prompts).where(_prompts.c.task == task)
    found = select_in(session, of_task, _prompts.c.hash, {won.prompt_hash for won in new.values()})
    prompts = {row.hash: row for row in found}
    insert_all(session, Pair, [_row(task, id_, won, prompts[won.prompt_hash], now) for id_, won in new.items()])


def _write_events(session: Session, task: str, wanted: Mapping[str, Won]) -> None:
    rows = select_in(session, select(_pair_events), _pair_events.c.pair_id, wanted)
    before = {(row.pair_id, row.event_id) for row in rows}
    after = {(id_, event_id) for id_, won in wanted.items() for event_id in won.events}
    delete_by(session, PairEvent, [_event(task, *key) for key in before - after])
    insert_all(session, PairEvent, [_event(task, *key) for key in after - before])


def _either_way(task: str, vote: Vote) -> tuple[str, str]:
    one, other = reply_hash(vote.chosen), reply_hash(vote.rejected)
    return pair_id(task, vote.prompt_hash, one, other), pair_id(task, vote.prompt_hash, other, one)


def _id(task: str, won: Won) -> str:
    return pair_id(task, won.prompt_hash, reply_hash(won.chosen), reply_hash(won.rejected))


def _event(task: str, pair: str, event_id: str) -> dict[str, Any]:
    return {"pair_id": pair, "task": task, "event_id": event_id}


def _says(won: Won) -> dict[str, Any]:
    """What later votes can change."""
    return {
        "source": won.source,
        "votes_for": won.votes_for,
        "votes_against": won.votes_against,
        "chosen_adapter": won.chosen_adapter,
        "rejected_adapter": won.rejected_adapter,
    }


def _differs(row: Row[Any], won: Won) -> bool:
    return any(getattr(row, name) != value for name, value in _says(won).items())


def _row(task: str, id_: str, won: Won, prompt: Row[Any], now: datetime) -> dict[str, Any]:
    return _says(won) | {
        "id": id_,
        "task": task,
        "prompt_hash": won.prompt_hash,
        "prompt": prompt.prompt,
        "tools": prompt.tools,
        "chosen": won.chosen,
        "rejected": won.rejected,
        "split": prompt.split,
        "created_at": now,
    }
