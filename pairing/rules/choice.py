"""Choices: the picked reply over each one shown and not picked."""

from collections import defaultdict
from collections.abc import Sequence

from ingest.events import ChoiceEvent, ReplyRef
from pairing.outcomes import Outcome
from pairing.rules.votes import WEIGHT, Derived, Found, Kept, Replies, Vote, order, person, voter


def from_choices(choices: Sequence[ChoiceEvent], replies: Replies) -> Derived:
    """A person's later choice on a generation replaces the earlier ones whole, a tie or "none good" too."""
    derived = Derived()
    decided: defaultdict[tuple[str, str | None], set[str]] = defaultdict(set)
    for choice in sorted(choices, key=order, reverse=True):
        generations = {ref.generation_id for ref in choice.shown}
        if decided[person(choice)] & generations:
            derived.outcomes[choice.event_id] = Outcome.SUPERSEDED
        else:
            _count(choice, replies, derived)
        decided[person(choice)] |= generations
    return derived


def _count(choice: ChoiceEvent, replies: Replies, derived: Derived) -> None:
    shown = replies.find_all(choice.shown)
    if isinstance(shown, Outcome):
        derived.outcomes[choice.event_id] = shown
    elif len({reply.generated.prompt_hash for reply in shown}) > 1:
        derived.outcomes[choice.event_id] = Outcome.DIFFERENT_PROMPTS
    elif not isinstance(choice.picked, ReplyRef):
        derived.outcomes[choice.event_id] = Outcome.TIE if choice.picked == "tie" else Outcome.NONE_GOOD
    else:
        picked = shown[choice.shown.index(choice.picked)]
        derived.kept.append(Kept(choice, choice.picked, picked.text, picked))
        derived.outcomes[choice.event_id] = Outcome.SAME_TEXT
        derived.votes += {vote.key: vote for vote in _votes(choice, picked, shown)}.values()


def _votes(choice: ChoiceEvent, picked: Found, shown: Sequence[Found]) -> list[Vote]:
    return [
        Vote(
            event_id=choice.event_id,
            voter=voter(choice, choice.shown[0].generation_id),
            order=order(choice),
            source="choice",
            weight=WEIGHT,
            prompt_hash=picked.generated.prompt_hash,
            chosen=picked.text,
            rejected=other.text,
            chosen_adapter=picked.generated.adapter,
            rejected_adapter=other.generated.adapter,
            events=frozenset({choice.event_id}),
            held_by=frozenset({picked.generated.event_id, other.generated.event_id}),
        )
        for other in shown
        if other.text != picked.text
    ]
