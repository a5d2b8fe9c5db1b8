"""From a set of events to votes: pure, so that neither order of arrival nor repetition changes what follows.

One module a source; `net` counts the votes on two replies to one prompt into a pair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

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
from ingest.settings import TaskPairingSettings
from pairing.outcomes import Outcome
from pairing.rules.chain import from_acceptances, from_chains
from pairing.rules.choice import from_choices
from pairing.rules.edit import from_edits
from pairing.rules.preference import from_preferences
from pairing.rules.votes import Derived, Generated, Replies, Vote

E = TypeVar("E")


def derive(feedback: Sequence[Event], generations: Mapping[str, Generated], rules: TaskPairingSettings) -> Derived:
    """Votes of the feedback, and the outcome of what is behind none.

    `feedback` holds, with an event, every event that shares a generation with it, over any number of steps; `generations`
    what is known of those, by id.
    """
    replies = Replies(generations)
    by_source = [
        from_choices(_of(feedback, ChoiceEvent), replies),
        from_edits(_of(feedback, EditEvent), replies, rules.min_edit_share),
        from_acceptances(_of(feedback, AcceptanceEvent), replies),
    ]
    kept = [one for derived in by_source for one in derived.kept]
    by_source.append(from_chains(_of(feedback, RegenerationEvent), kept, replies, rules.regeneration))
    by_source.append(from_preferences(_of(feedback, PreferenceEvent)))
    by_source.append(_not_yet(feedback))
    return _merged(by_source)


def _of(feedback: Sequence[Event], kind: type[E]) -> list[E]:
    return [event for event in feedback if isinstance(event, kind)]


def _not_yet(feedback: Sequence[Event]) -> Derived:
    later = (event.event_id for event in feedback if isinstance(event, ScoreEvent | RatingEvent))
    return Derived(outcomes=dict.fromkeys(later, Outcome.NOT_PAIRED_YET))


def _merged(parts: Sequence[Derived]) -> Derived:
    """All parts as one. What a choice or an edit says by itself and by closing a chain is one vote, of its own source."""
    votes: dict[tuple[str, str, str], Vote] = {}
    for vote in (vote for part in parts for vote in part.votes):
        own = votes.get(vote.key, vote)
        votes[vote.key] = replace(own, events=own.events | vote.events, held_by=own.held_by | vote.held_by)
    return Derived(list(votes.values()), {id_: outcome for part in parts for id_, outcome in part.outcomes.items()})
