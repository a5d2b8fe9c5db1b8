"""From a set of events to votes: pure, so that neither order of arrival nor repetition changes what follows.

One module a source; `net` counts the votes on two replies to one prompt into a pair, and `rating` pairs the replies that
were rated one by one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ingest.events import (
    AcceptanceEvent,
    ChoiceEvent,
    EditEvent,
    Event,
    PreferenceEvent,
    RatingEvent,
    RegenerationEvent,
    ScoreEvent,
)
from pairing.rules.chain import from_acceptances, from_chains
from pairing.rules.choice import from_choices
from pairing.rules.edit import from_edits
from pairing.rules.in_force import Rules
from pairing.rules.preference import from_preferences
from pairing.rules.rating import from_ratings
from pairing.rules.score import from_scores
from pairing.rules.votes import Derived, Generated, Replies, Vote

E = TypeVar("E")


def derive(feedback: Sequence[Event], generations: Mapping[str, Generated], rules: Rules) -> Derived:
    """Votes and opinions of the feedback, and the outcome of what is behind none.

    `feedback` holds, with an event, every event that shares a generation with it, over any number of steps; `generations`
    what is known of those, by id.
    """
    replies = Replies(generations)
    of = _ByKind(feedback)
    by_source = [
        from_choices(of(ChoiceEvent), replies, rules.pairing.choice),
        from_edits(of(EditEvent), replies, rules.pairing.min_edit_share),
        from_acceptances(of(AcceptanceEvent), replies),
    ]
    kept = [one for derived in by_source for one in derived.kept]
    by_source.append(from_chains(of(RegenerationEvent), kept, replies, rules.pairing.regeneration))
    by_source.append(from_preferences(of(PreferenceEvent)))
    by_source.append(from_scores(of(ScoreEvent), replies, rules))
    by_source.append(from_ratings(of(RatingEvent), replies))
    return _merged(by_source)


class _ByKind:
    """Events by their class."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events: defaultdict[type[Any], list[Any]] = defaultdict(list)
        for event in events:
            self._events[type(event)].append(event)

    def __call__(self, kind: type[E]) -> list[E]:
        return self._events[kind]


def _merged(parts: Sequence[Derived]) -> Derived:
    """All parts as one. An event has one vote on two texts, however often it met them: of its own source before a chain's."""
    votes: dict[tuple[str, str, str], Vote] = {}
    for vote in (vote for part in parts for vote in part.votes):
        key = vote.key
        own = votes.setdefault(key, vote)
        if own is not vote:
            votes[key] = own._replace(
                events=own.events | vote.events,
                held_by=own.held_by | vote.held_by,
                chosen_adapter=_first_by_name(own.chosen_adapter, vote.chosen_adapter),
                rejected_adapter=_first_by_name(own.rejected_adapter, vote.rejected_adapter),
            )
    outcomes = {id_: outcome for part in parts for id_, outcome in part.outcomes.items()}
    ratings, beaten = [one for part in parts for one in part.ratings], {one for part in parts for one in part.beaten}
    return Derived(list(votes.values()), outcomes, ratings, beaten=beaten)


def _first_by_name(*adapters: str | None) -> str | None:
    return min((adapter for adapter in adapters if adapter is not None), default=None)
