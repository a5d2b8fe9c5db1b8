"""What stands behind a pair, and what an event is behind: votes, ratings and events, as they are stored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from ingest.events import event_adapter
from pairing import ballots, ratings
from pairing.ballots import Ballot
from pairing.held import reaches
from pairing.identity import reply_hash
from pairing.outcomes import Outcome
from pairing.ratings import Rating, sides
from pairing.rows import select_by
from pairing.rules.rating import event_id_of
from pairing.short_keys import equal, hashed
from pairing.standing import against_others, of_events, of_ratings, pairs_among
from pairing.tables import EventGeneration, Pair, StoredEvent, StoredRating, StoredVote


@dataclass(frozen=True, slots=True)
class Cast:
    """A stored vote, and how it stands."""

    vote: Ballot
    standing: Outcome

    @property
    def events(self) -> list[str]:
        """The event that decided it, and the others behind it. All ratings of two replies decide as one event."""
        return [self.vote.event_id, *sorted(self.vote.behind - {self.vote.event_id})]


@dataclass(frozen=True, slots=True)
class Part:
    """The votes that an event is behind: those that it says, alone or with others, and those whose replies it only holds."""

    says: Sequence[Cast]
    holds: Sequence[Cast]
    """The last first."""
    holds_left_out: int


@dataclass(frozen=True, slots=True)
class Behind:
    """Votes on the two replies of a pair, the last first, and the events behind those that count."""

    votes: Sequence[Cast]
    votes_left_out: int
    events: Sequence[StoredEvent]


def of_pair(session: Session, pair: Pair, most: int) -> Behind:
    """What stands behind the pair, as `standing.behind` has it, but so many votes, and so many ratings, at most."""
    on = (StoredVote.task == pair.task, equal(hashed, (col(StoredVote.replies), pair.replies)))
    last = select(StoredVote).where(*on).order_by(col(StoredVote.occurred_at).desc(), StoredVote.event_id).limit(most)
    votes = [_cast(session, _ballot(vote)) for vote in session.exec(last).all()]
    ids = {id_ for cast in votes if cast.standing is not Outcome.SUPERSEDED for id_ in cast.events}
    if event_id_of(pair.prompt_hash) in ids:
        ids |= _rating_events(session, pair, most)
    found = select(StoredEvent).where(StoredEvent.task == pair.task, col(StoredEvent.event_id).in_(ids))
    events = session.exec(found.order_by(col(StoredEvent.occurred_at), StoredEvent.event_id)).all()
    everyone = session.exec(select(func.count()).select_from(StoredVote).where(*on)).one()
    return Behind(votes, everyone - len(votes), events)


def part_of(session: Session, event: StoredEvent, most: int) -> Part:
    """The votes that this event is behind, and how: so many at most of those whose replies it only holds."""
    together = _together(session, event)
    found = [vote for vote in ballots.by_events(session, event.task, together) if event.event_id in vote.behind]
    rated = ratings.by_events(session, event.task, together)
    own = _matches(session, event.task, (one for one in rated if one.event_id == event.event_id))
    held = _matches(session, event.task, (one for one in rated if one.held_by == event.event_id))
    says = {*(vote for vote in found if event.event_id in vote.says), *own}
    holds = sorted(_in_order({*found, *held} - says), key=lambda one: one.occurred_at, reverse=True)
    shown = [_cast(session, vote) for vote in holds[:most]]
    return Part([_cast(session, vote) for vote in _in_order(says)], shown, len(holds) - len(shown))


def outcome_of(session: Session, event: StoredEvent, says: Iterable[Cast]) -> Outcome:
    """What became of the event, which says these votes."""
    outcome = Outcome(event.outcome)
    if outcome is not Outcome.VOTED:
        return outcome
    if event.type == "rating":
        return of_ratings(session, event.task, ratings.by_events(session, event.task, [event.event_id]))[event.event_id]
    return of_events({cast.vote: cast.standing for cast in says}).get(event.event_id, outcome)


def _in_order(votes: Iterable[Ballot]) -> list[Ballot]:
    return sorted(votes, key=lambda one: (one.event_id, one.chosen_hash, one.rejected_hash))


def _ballot(vote: StoredVote) -> Ballot:
    return Ballot(*(getattr(vote, name) for name in Ballot._fields))


def _cast(session: Session, vote: Ballot) -> Cast:
    """Of a voter's votes on two replies the last counts. Looked up one by one: there may be any number of others."""
    same_replies = equal(hashed, (col(StoredVote.replies), vote.replies))
    same_voter = (StoredVote.task == vote.task, same_replies, StoredVote.voter == vote.voter)
    by_time = (col(StoredVote.revision).desc(), col(StoredVote.occurred_at).desc(), col(StoredVote.event_id).desc())
    last = session.exec(select(StoredVote).where(*same_voter).order_by(*by_time).limit(1)).one()
    if last.event_id != vote.event_id:
        return Cast(vote, Outcome.SUPERSEDED)
    return Cast(vote, against_others(vote, pairs_among(session, {vote.speaks_for, vote.speaks_against})))


def _together(session: Session, event: StoredEvent) -> set[str]:
    """The event and those that share generations with it, over any number of steps. Without content it shares none."""
    seen: set[str] = set()
    generations: set[str] = set()
    new = {event.event_id}
    while new:
        seen |= new
        bodies = select_by(session, StoredEvent, ("body",), ("task", "event_id"), [(event.task, id_) for id_ in new])
        reached = {id_ for (body,) in bodies if body for id_ in reaches(event_adapter.validate_json(body))} - generations
        generations |= reached
        keys = [(event.task, id_) for id_ in reached]
        new = {row[0] for row in select_by(session, EventGeneration, ("event_id",), ("task", "generation_id"), keys)} - seen
    return seen


def _matches(session: Session, task: str, rated: Iterable[Rating]) -> list[Ballot]:
    """The votes that all ratings of two replies come to, where one of the two is among those rated."""
    replies = {rating.reply for rating in rated}
    found = ballots.by_events(session, task, {event_id_of(prompt) for prompt, _ in replies})
    return [vote for vote in found if replies & {*sides(vote)}]


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
