"""Preferences: ready pairs, as they are."""

from collections.abc import Sequence

from ingest.events import PreferenceEvent
from pairing.identity import prompt_hash, prompt_json, text_of, tools_json
from pairing.outcomes import Outcome
from pairing.rules.votes import Derived, Vote, order, voter


def from_preferences(preferences: Sequence[PreferenceEvent]) -> Derived:
    """One vote each; without a `user`, each is a voter of its own."""
    votes = {preference.event_id: _vote(preference) for preference in preferences}
    same = {event_id: Outcome.SAME_TEXT for event_id, vote in votes.items() if vote.chosen == vote.rejected}
    return Derived([vote for event_id, vote in votes.items() if event_id not in same], same)


def _vote(preference: PreferenceEvent) -> Vote:
    as_messages = not isinstance(preference.prompt, str)
    return Vote(
        event_id=preference.event_id,
        voter=voter(preference, preference.event_id),
        order=order(preference),
        source="preference",
        prompt_hash=prompt_hash(prompt_json(preference.prompt), tools_json(preference.tools)),
        chosen=text_of(preference.chosen, as_messages),
        rejected=text_of(preference.rejected, as_messages),
        chosen_adapter=None,
        rejected_adapter=None,
        events=frozenset({preference.event_id}),
        held_by=frozenset(),
    )
