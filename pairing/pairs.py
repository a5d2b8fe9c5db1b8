"""Pairs and draws as they are stored: each is the count of all votes on two replies."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlmodel import Session

from ingest.settings import SourcesSettings
from pairing.ballots import Ballot
from pairing.identity import pair_id, reply_hash
from pairing.rows import Tend, delete_by, insert_all, select_by, update_by
from pairing.rules.net import Side, Tally, Weights, Won, by_source, winner
from pairing.rules.votes import Source
from pairing.tables import AskedPrompt, Draw, Pair

_DRAWN = ("replies", "prompt_hash", "one", "other", "one_adapters", "other_adapters", "counted")
_COUNTED = ("chosen_adapters", "rejected_adapters", "counted")
_CHANGING = (*_COUNTED, "source", "votes_for", "votes_against", "weight", "wrong_share")
_FOUND = ("replies", "prompt_hash", "chosen", "rejected", *_CHANGING, "id")
_FIXED = ("id", "task", "replies", "prompt_hash", "chosen", "rejected", "created_at", "prompt", "tools", "split")


class Before(NamedTuple):
    """How two replies stood: the pair's id, or None for a draw, and what the row said of the votes."""

    pair: str | None
    said: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is stored of some replies: the count so far, and how each stood."""

    tallies: dict[str, Tally]
    before: dict[str, Before]


def load(session: Session, task: str, votes: Iterable[Ballot]) -> Standing:
    """The count on every two replies that these votes are on and that have any stored ones."""
    on = {vote.replies: vote for vote in votes}
    ids = [(id_,) for vote in on.values() for id_ in (vote.speaks_for, vote.speaks_against)]
    pairs = select_by(session, Pair, _FOUND, ("id",), ids)
    draws = select_by(session, Draw, _DRAWN, ("task", "replies"), [(task, one) for one in on])
    before = {row[0]: Before(row[-1], tuple(row[4:-1])) for row in pairs} | {
        row[0]: Before(None, tuple(row[4:])) for row in draws
    }
    return Standing({row[0]: _tally(row) for row in (*pairs, *draws)}, before)


def compare(task: str, standing: Standing, sources: SourcesSettings, now: datetime, tend: Tend) -> "Difference":
    """What makes pairs and draws what the tallies say, while votes are inserted."""
    difference, weights = Difference(task, now), by_source(sources)
    for tally in tend(standing.tallies.values()):
        difference.add(tally, standing.before.get(tally.replies), weights)
    return difference


class Difference:
    """Rows of pairs and draws to delete, insert and update."""

    def __init__(self, task: str, now: datetime) -> None:
        self._task = task
        self._now = now
        self._withdrawn: list[tuple[str]] = []
        self._undrawn: list[tuple[str, str]] = []
        self._drawn: list[tuple[Any, ...]] = []
        self._new: list[tuple[str, Tally, Won]] = []
        self._changed: list[tuple[Any, ...]] = []

    def add(self, tally: Tally, before: Before | None, weights: Weights) -> None:
        won = winner(tally, weights)
        id_ = won and pair_id(self._task, tally.prompt_hash, won.chosen.reply_hash, won.rejected.reply_hash)
        if won and before and before.pair == id_:
            if before.said != _says(won):
                self._changed.append((id_, *_says(won)))
            return
        if before and before.pair:
            self._withdrawn.append((before.pair,))
        elif before:
            self._undrawn.append((self._task, tally.replies))
        if won and id_:
            self._new.append((id_, tally, won))
        elif not tally.is_empty:
            self._drawn.append(_draw(self._task, tally))

    def write(self, session: Session, known: Mapping[str, Sequence[Any]]) -> None:
        """Make it so. `known` has prompt, tools and split of some prompts, by hash."""
        delete_by(session, Pair, ("id",), self._withdrawn)
        delete_by(session, Draw, ("task", "replies"), self._undrawn)
        insert_all(session, Draw, ("task", *_DRAWN), self._drawn)
        asked = _prompts(session, self._task, {tally.prompt_hash for _, tally, _ in self._new}, known)
        insert_all(session, Pair, (*_FIXED, *_CHANGING), (self._row(*new, asked) for new in self._new))
        update_by(session, Pair, ("id",), _CHANGING, self._changed)

    def _row(self, id_: str, tally: Tally, won: Won, asked: Mapping[str, Sequence[Any]]) -> tuple[Any, ...]:
        texts = won.chosen.reply, won.rejected.reply
        return (id_, self._task, tally.replies, tally.prompt_hash, *texts, self._now, *asked[tally.prompt_hash], *_says(won))


def _prompts(session: Session, task: str, hashes: set[str], known: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
    missing = [(task, one) for one in hashes if one not in known]
    rows = select_by(session, AskedPrompt, ("hash", "prompt", "tools", "split"), ("task", "hash"), missing)
    return {**known, **{row[0]: row[1:] for row in rows}}


def _tally(row: Sequence[Any]) -> Tally:
    replies, prompt_hash, one, other, one_adapters, other_adapters, counted = row[:7]
    by_source: dict[Source, tuple[int, int]] = json.loads(counted)
    ones, others = ({source: votes[side] for source, votes in by_source.items()} for side in (0, 1))
    return Tally(
        prompt_hash,
        replies,
        Side(one, reply_hash(one), set(json.loads(one_adapters)), defaultdict(int, ones)),
        Side(other, reply_hash(other), set(json.loads(other_adapters)), defaultdict(int, others)),
    )


def _says(won: Won) -> tuple[Any, ...]:
    """What later votes can change: the columns of _CHANGING."""
    chosen, rejected = won.chosen, won.rejected
    return (*_counted(chosen, rejected), won.source, chosen.count, rejected.count, won.weight, won.wrong_share)


def _draw(task: str, tally: Tally) -> tuple[Any, ...]:
    one, other = sorted((tally.one, tally.other), key=lambda side: side.reply_hash)
    return (task, tally.replies, tally.prompt_hash, one.reply, other.reply, *_counted(one, other))


def _counted(one: Side, other: Side) -> tuple[str, str, str]:
    """Adapters of each side, and votes by source for the one and the other."""
    votes = [(source, one.votes.get(source, 0), other.votes.get(source, 0)) for source in {*one.votes, *other.votes}]
    return _names(frozenset(one.adapters)), _names(frozenset(other.adapters)), _votes(frozenset(votes))


@lru_cache(10_000)  # most pairs are of few adapters, and have one vote
def _names(adapters: frozenset[str]) -> str:
    return json.dumps(sorted(adapters))


@lru_cache(10_000)
def _votes(votes: frozenset[tuple[Source, int, int]]) -> str:
    return json.dumps({source: (ones, others) for source, ones, others in sorted(votes) if ones or others})
