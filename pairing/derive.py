"""Deriving: what follows from events together. The difference of votes, pairs and outcomes is written."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlmodel import Session, col, select

from ingest.settings import TaskSettings
from pairing import ballots, pairs, ratings
from pairing.ballots import Ballot, Changes
from pairing.facts import Facts
from pairing.outcomes import Outcome
from pairing.pairs import Standing
from pairing.ratings import Matches
from pairing.rows import delete_by, update_by
from pairing.rules import derive as derive_votes
from pairing.rules.in_force import rules_of
from pairing.rules.net import Side, Tally
from pairing.rules.votes import Derived, Opinion, Vote
from pairing.scope import Scope, Start, scope_of
from pairing.store import Fresh, writing_events
from pairing.tables import Mark, RulesInForce, StoredEvent

_MOST_MARKS = 5_000
_LOCKS = 0x77687374
"""Any number, the same for every Whetstone: the class of PostgreSQL's advisory locks, one a task, under which is derived."""


class Done(NamedTuple):
    """What came of deriving."""

    outcomes: Mapping[str, Outcome]  # that are new
    remains: Sequence[list[Any]]  # what was made on the way: to free it all at once takes long


@dataclass(frozen=True, slots=True)
class Deriver:
    """Derives for one task, in a transaction that holds the task's lock."""

    session: Session
    task: str
    settings: TaskSettings
    now: datetime

    def derive(self, fresh: Fresh) -> Done:
        """Write the fresh events and what they change."""
        scope = scope_of(self.session, fresh.start, fresh.facts)
        stored = ballots.by_events(self.session, self.task, scope.stored.keys() | scope.skeletons)
        with fresh.facts.writing_names(self.session, but=scope.crowded):
            derived = derive_votes(scope.feedback, scope.generations, rules_of(self.settings))
        with fresh.facts.writing_prompts(self.session) as tend:
            outcomes = {**derived.outcomes, **dict.fromkeys(_voting(derived), Outcome.VOTED), **scope.decided}
            votes = self._ballots(tend(derived.votes))
        matches = self._rate(scope, derived.ratings)
        votes |= self._ballots(matches.derived)
        stored += matches.stored
        changed = ballots.changes(stored, votes)
        standing = self._standing(stored, changed, fresh.facts)
        beside = ballots.delete(self.session, self.task, changed, standing.tallies)
        with writing_events(self.session, fresh.facts.events.values(), outcomes) as tend:
            _tally_new(standing, tend(changed.come), votes)
            ballots.count(changed, beside, standing.tallies, tend)
            difference = pairs.compare(self.task, standing, self.settings.pairing.sources, self.now, tend)
        ballots.insert(self.session, changed.come)
        difference.write(self.session, fresh.facts.new_prompts)
        fresh.facts.settle_names(self.session, scope.crowded, scope.names, derived.beaten)
        turned = {id_: outcomes[id_] for id_, before in scope.stored.items() if outcomes[id_] != before}
        rows = [(self.task, id_, outcome.value) for id_, outcome in turned.items()]
        update_by(self.session, StoredEvent, ("task", "event_id"), ("outcome",), rows)
        new = turned | {id_: outcomes[id_] for id_ in fresh.facts.events}
        made = list(scope.generations.values()), derived.votes, list(votes), list(standing.tallies.values())
        return Done(new, made)

    def derive_marked(self) -> tuple[Mapping[str, Outcome], bool]:
        """Derive some of what was left to be derived. Returns the outcomes that are new, and whether there may be more."""
        marks = self.session.exec(select(Mark).where(Mark.task == self.task).order_by(col(Mark.id)).limit(_MOST_MARKS)).all()
        if not marks:
            return {}, False
        kinds = {kind: frozenset(mark.key for mark in marks if mark.kind == kind) for kind in ("generation", "event")}
        delete_by(self.session, Mark, ("id",), [(mark.id,) for mark in marks])
        fresh = Fresh(Facts(self.task), Start(kinds["generation"], kinds["event"]))
        return self.derive(fresh).outcomes, len(marks) == _MOST_MARKS

    def _rate(self, scope: Scope, opinions: Sequence[Opinion]) -> Matches:
        stored = ratings.by_events(self.session, self.task, scope.stored.keys() | scope.skeletons)
        most = self.settings.pairing.rating_pairs_per_prompt
        return ratings.write(self.session, self.task, stored, opinions, most) if stored or opinions else Matches((), ())

    def _ballots(self, votes: Iterable[Vote]) -> dict[Ballot, Vote]:
        return {ballots.ballot_of(self.task, vote): vote for vote in votes}

    def _standing(self, stored: Sequence[Ballot], changed: Changes, facts: Facts) -> Standing:
        of_known_prompts = (ballot for ballot in changed.come if ballot.prompt_hash not in facts.new_prompts)
        return pairs.load(self.session, self.task, (*stored, *of_known_prompts))


def try_lock(session: Session, task: str, alone: bool) -> bool:
    """Whether this transaction may derive for the task. `alone`: it is the only one that writes, and needs no lock."""
    return alone or bool(_lock(session, "pg_try_advisory_xact_lock", task))


def may_derive(session: Session, task: str, settings: TaskSettings, alone: bool) -> bool:
    """try_lock, and whether these settings are the ones in force: a worker that has older ones leaves deriving to others."""
    if not try_lock(session, task, alone):
        return False
    in_force = session.exec(select(RulesInForce.digest).where(RulesInForce.task == task)).first()
    return in_force is None or in_force == rules_of(settings).digest


def lock(session: Session, task: str, alone: bool) -> None:
    """As try_lock, and waits until it may."""
    if not alone:
        _lock(session, "pg_advisory_xact_lock", task)


def _lock(session: Session, function: str, task: str) -> Any:
    key = {"locks": _LOCKS, "task": zlib.crc32(task.encode()) - 2**31}
    return session.connection().execute(text(f"SELECT {function}(:locks, :task)"), key).scalar()


def _tally_new(standing: Standing, come: Iterable[Ballot], votes: Mapping[Ballot, Vote]) -> None:
    """Begin a count on the replies that have none."""
    for ballot in come:
        if ballot.replies not in standing.tallies:
            chosen, rejected = Side(*votes[ballot].chosen), Side(*votes[ballot].rejected)
            standing.tallies[ballot.replies] = Tally(ballot.prompt_hash, ballot.replies, chosen, rejected)


def _voting(derived: Derived) -> Iterator[str]:
    """The events that say which of two replies is better, or what one is worth."""
    for vote in derived.votes:
        yield from vote.events
    for opinion in derived.ratings:
        yield opinion.event_id
