"""Choices: the picked reply over each one shown and not picked, or over the one shown first only, by setting.

A tie and "none good" are no vote; they are kept, and replace what the person said before all the same.
"""

from collections.abc import Sequence
from typing import Literal

from ingest.events import ChoiceEvent, ReplyRef
from pairing.outcomes import Outcome
from pairing.rules.votes import Derived, Found, Kept, Replies, Vote, order, person, source_of, voter

Which = Literal["each", "first"]


def from_choices(choices: Sequence[ChoiceEvent], replies: Replies, which: Which) -> Derived:
    """A person's later choice on a generation replaces the earlier ones whole, a tie or "none good" too."""
    derived = Derived()
    last: dict[tuple[str, str | None, str], ChoiceEvent] = {}
    decided = [(choice, _decides(choice)) for choice in choices]
    for choice, keys in decided:
        for key in keys:
            if last.setdefault(key, choice) is not choice and order(last[key]) < order(choice):
                last[key] = choice
    for choice, keys in decided:
        if all([last[key] is choice for key in keys]):
            _count(choice, replies, which, derived)
        else:
            derived.outcomes[choice.event_id] = Outcome.SUPERSEDED
            derived.beaten.update([(choice.event_id, key[2]) for key in keys if last[key] is not choice])
    return derived


def picked_at(choice: ChoiceEvent) -> int | None:
    """The place of the picked reply among those shown, from 0; None for a tie and none good."""
    picked = choice.picked
    if not isinstance(picked, ReplyRef):
        return None
    for place, ref in enumerate(choice.shown):
        if ref.candidate == picked.candidate and ref.generation_id == picked.generation_id:
            return place
    raise ValueError("an event is not valid unless its picked reply was shown")


def _decides(choice: ChoiceEvent) -> set[tuple[str, str | None, str]]:
    """The generations that a person chose on."""
    by, user = person(choice)
    return {(by, user, ref.generation_id) for ref in choice.shown}


def _count(choice: ChoiceEvent, replies: Replies, which: Which, derived: Derived) -> None:
    shown = replies.find_all(choice.shown)
    at = picked_at(choice)
    if isinstance(shown, Outcome):
        derived.outcomes[choice.event_id] = shown
    elif len({reply.generated.prompt_hash for reply in shown}) > 1:
        derived.outcomes[choice.event_id] = Outcome.DIFFERENT_PROMPTS
    elif at is None:
        derived.outcomes[choice.event_id] = Outcome.TIE if choice.picked == "tie" else Outcome.NONE_GOOD
    else:
        picked = shown[at]
        derived.kept.append(Kept(choice, choice.shown[at], picked.text, picked))
        _compare(choice, picked, shown if which == "each" else shown[: min(at, 1)], derived)


def _compare(choice: ChoiceEvent, picked: Found, others: Sequence[Found], derived: Derived) -> None:
    votes = [_vote(choice, picked, other) for other in others if other.text != picked.text]
    derived.votes += votes
    if not votes:
        derived.outcomes[choice.event_id] = Outcome.SAME_TEXT if others else Outcome.PICKED_FIRST


def _vote(choice: ChoiceEvent, picked: Found, other: Found) -> Vote:
    return Vote(
        event_id=choice.event_id,
        voter=voter(choice, choice.shown[0].generation_id),
        order=order(choice),
        source=source_of(choice, "choice"),
        prompt_hash=picked.generated.prompt_hash,
        chosen=picked.text,
        rejected=other.text,
        chosen_adapter=picked.generated.adapter,
        rejected_adapter=other.generated.adapter,
        events=frozenset({choice.event_id}),
        held_by=frozenset({picked.generated.event_id, other.generated.event_id}),
    )
