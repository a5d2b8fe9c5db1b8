"""What stands behind a pair, and what an event is behind: votes, ratings and events, as they are stored."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from ingest.events import event_adapter
from pairing import ratings
from pairing.held import reaches
from pairing.identity import pair_id, reply_hash
from pairing.outcomes import Outcome
from pairing.rules.rating import event_id_of
from pairing.standing import of_ratings
from pairing.tables import EventGeneration, Pair, StoredEvent, StoredRating, StoredVote

_BY_WEIGHT = (Outcome.PAIRED, Outcome.DRAW, Outcome.OUTVOTED, Outcome.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Cast:
    """A stored vote, and how it stands."""

    vote: StoredVote
    standing: Outcome

    @property
    def events(self) -> list[str]:
        """The event that decided it, and the others that it rests on. All ratings of two replies decide as one event."""
        return [self.vote.event_id, *(json.loads(self.vote.rests_on) if self.vote.rests_on else ())]

    @property
    def pair_id(self) -> str:
        """The pair that it speaks for, whether or not that stands."""
        vote = self.vote
        return pair_id(vote.task, vote.prompt_hash, vote.chosen_hash, vote.rejected_hash)


@dataclass(frozen=True, slots=True)
class Behind:
    """Votes on the two replies of a pair, the last first, and the events behind those that count."""

    votes: Sequence[Cast]
    votes_left_out: int
    events: Sequence[StoredEvent]


def of_pair(session: Session, pair: Pair, most: int) -> Behind:
    """What stands behind the pair, as `standing.behind` has it, but so many votes, and so many ratings, at most."""
    on = (StoredVote.task == pair.task, StoredVote.replies == pair.replies)
    last = select(StoredVote).where(*on).order_by(col(StoredVote.occurred_at).desc(), StoredVote.event_id).limit(most)
    votes = [_cast(session, vote) for vote in session.exec(last).all()]
    ids = {id_ for cast in votes if cast.standing is not Outcome.SUPERSEDED for id_ in cast.events}
    if event_id_of(pair.prompt_hash) in ids:
        ids |= _rating_events(session, pair, most)
    found = select(StoredEvent).where(StoredEvent.task == pair.task, col(StoredEvent.event_id).in_(ids))
    events = session.exec(found.order_by(col(StoredEvent.occurred_at), StoredEvent.event_id)).all()
    everyone = session.exec(select(func.count()).select_from(StoredVote).where(*on)).one()
    return Behind(votes, everyone - len(votes), events)


def votes_by(session: Session, event: StoredEvent) -> list[Cast]:
    """The votes that this event is behind: it decided them, or they rest on it."""
    together = _together(session, event)
    casts = _decided(session, event.task, together)
    rated = select(StoredRating).where(StoredRating.task == event.task, col(StoredRating.event_id).in_(together))
    ours = [rating for rating in session.exec(rated).all() if event.event_id in (rating.event_id, rating.held_by)]
    return [*(cast for cast in casts if event.event_id in cast.events), *_matches(session, event.task, ours)]


def outcome_of(session: Session, event: StoredEvent, votes: Sequence[Cast]) -> Outcome:
    """What became of the event. `votes` are those that it is behind; of several standings the one that did most counts."""
    outcome = Outcome(event.outcome)
    if outcome is not Outcome.VOTED:
        return outcome
    if event.type == "rating":
        return of_ratings(session, event.task, ratings.by_events(session, event.task, [event.event_id]))[event.event_id]
    return min((cast.standing for cast in votes), key=_BY_WEIGHT.index, default=outcome)


def _decided(session: Session, task: str, event_ids: Iterable[str]) -> list[Cast]:
    """The votes that these events decided."""
    by_key = (StoredVote.event_id, StoredVote.chosen_hash, StoredVote.rejected_hash)
    votes = select(StoredVote).where(StoredVote.task == task, col(StoredVote.event_id).in_(list(event_ids))).order_by(*by_key)
    return [_cast(session, vote) for vote in session.exec(votes).all()]


def _cast(session: Session, vote: StoredVote) -> Cast:
    """Of a voter's votes on two replies the last counts. Looked up one by one: there may be any number of others."""
    same_voter = (StoredVote.task == vote.task, StoredVote.replies == vote.replies, StoredVote.voter == vote.voter)
    by_time = (col(StoredVote.revision).desc(), col(StoredVote.occurred_at).desc(), col(StoredVote.event_id).desc())
    last = session.exec(select(StoredVote).where(*same_voter).order_by(*by_time).limit(1)).one()
    if last.event_id != vote.event_id:
        return Cast(vote, Outcome.SUPERSEDED)
    pair = session.exec(select(Pair.id).where(Pair.task == vote.task, Pair.replies == vote.replies)).first()
    if pair is None:
        return Cast(vote, Outcome.DRAW)
    for_it = Cast(vote, Outcome.PAIRED)
    return for_it if pair == for_it.pair_id else Cast(vote, Outcome.OUTVOTED)


def _together(session: Session, event: StoredEvent) -> set[str]:
    """The event and those that share generations with it, over any number of steps. Without content it shares none."""
    seen: set[str] = set()
    generations: set[str] = set()
    new = {event.event_id}
    while new:
        seen |= new
        here = (StoredEvent.task == event.task, col(StoredEvent.event_id).in_(new))
        bodies = session.exec(select(StoredEvent.body).where(*here)).all()
        reached = {id_ for body in bodies if body for id_ in _generations_of(body)} - generations
        generations |= reached
        naming = (EventGeneration.task == event.task, col(EventGeneration.generation_id).in_(reached))
        new = set(session.exec(select(EventGeneration.event_id).where(*naming)).all()) - seen
    return seen


def _generations_of(body: str) -> set[str]:
    return set(reaches(event_adapter.validate_json(body)))


def _matches(session: Session, task: str, rated: Iterable[StoredRating]) -> list[Cast]:
    """The votes that all ratings of two replies come to, where one of the two is among those rated."""
    replies = {(rating.prompt_hash, rating.reply_hash) for rating in rated}
    ids = {event_id_of(prompt) for prompt, _ in replies}
    return [cast for cast in _decided(session, task, ids) if _sides(cast.vote) & replies]


def _sides(vote: StoredVote) -> set[tuple[str, str]]:
    return {(vote.prompt_hash, vote.chosen_hash), (vote.prompt_hash, vote.rejected_hash)}


def _rating_events(session: Session, pair: Pair, most: int) -> set[str]:
    """Of each person's ratings of a reply the last."""
    replies = [reply_hash(reply) for reply in (pair.chosen, pair.rejected)]
    here = (StoredRating.task == pair.task, StoredRating.prompt_hash == pair.prompt_hash)
    by_time = (col(StoredRating.revision).desc(), col(StoredRating.occurred_at).desc(), col(StoredRating.event_id).desc())
    rated = select(StoredRating).where(*here, col(StoredRating.reply_hash).in_(replies)).order_by(*by_time).limit(most)
    last: dict[tuple[str, str], StoredRating] = {}
    for rating in session.exec(rated).all():
        last.setdefault((rating.reply_hash, rating.voter), rating)
    return {id_ for rating in last.values() for id_ in (rating.event_id, rating.held_by)}
