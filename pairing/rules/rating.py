"""Ratings: the replies to a prompt that people like over those that they do not like. Never across prompts.

A person's last rating of a reply's text counts, in whichever generation they met it; without a `user`, whoever got the
generation is one person. A reply with more thumbs up than down is liked, with more down than up disliked. The best liked
reply of a prompt is paired with the least liked one, the second with the second, up to the task's rating_pairs_per_prompt;
what is liked or disliked and finds no counterpart stays an unpaired example (TRL's `prompt`, `completion`, `label`).

Ratings meet over all generations of a prompt, so that what they come to is read off the stored ones: these functions
decide, the caller keeps count.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from ingest.events import RatingEvent
from pairing.identity import Text
from pairing.outcomes import Outcome
from pairing.rules.votes import Derived, Opinion, Order, Replies, Vote, order, voter

VOTER = "ratings"
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rated:
    """A reply to one prompt, by the ratings that count."""

    reply: Text
    net: int  # thumbs up less thumbs down
    adapter: str | None  # that wrote it, as `written_by` says; of several the first by name


def from_ratings(ratings: Sequence[RatingEvent], replies: Replies) -> Derived:
    """An opinion each. Which of them count, and for how much, other generations decide too."""
    derived = Derived()
    for rating in ratings:
        found = replies.find(rating.reply)
        if isinstance(found, Outcome):
            derived.outcomes[rating.event_id] = found
        else:
            generated = found.generated
            derived.ratings.append(
                Opinion(
                    event_id=rating.event_id,
                    voter=voter(rating, rating.reply.generation_id),
                    order=order(rating),
                    prompt_hash=generated.prompt_hash,
                    reply=found.text,
                    up=rating.thumb == "up",
                    adapter=generated.adapter,
                    held_by=generated.event_id,
                )
            )
    return derived


class Voiced(Protocol):
    """An opinion, or one as it is stored."""

    @property
    def prompt_hash(self) -> str: ...

    @property
    def reply(self) -> Hashable: ...

    @property
    def voter(self) -> str: ...

    @property
    def order(self) -> Order: ...


V = TypeVar("V", bound=Voiced)


def counting(opinions: Iterable[V]) -> list[V]:
    """Of each person's opinions of a reply to a prompt the last."""
    last: dict[tuple[str, Hashable, str], V] = {}
    for opinion in opinions:
        key = opinion.prompt_hash, opinion.reply, opinion.voter
        last[key] = max(last.get(key, opinion), opinion, key=lambda one: one.order)
    return list(last.values())


def matched(ups: Sequence[Rated], downs: Sequence[Rated], most: int) -> list[tuple[Rated, Rated]]:
    """Liked and disliked replies of one prompt, one to one, at most `most` pairs.

    `ups` are its replies with net > 0 by (net, reply_hash) from the greatest down, `downs` those with net < 0 from the least
    up, so that one index serves both: the first `most` of either are enough.
    """
    return list(zip(ups[:most], downs[:most], strict=False))


def event_id_of(prompt_hash: str) -> str:
    """What stands for the event of a prompt's matches. No event's own id can be it: those have no control characters."""
    return f"\x1fratings:{prompt_hash}"


def vote_of(prompt_hash: str, liked: Rated, disliked: Rated) -> Vote:
    """The vote of a match: of all people who rated, and therefore one.

    It names no events: they are the ratings of the two replies that count, however many. No other vote on the two replies
    is of this voter, so that it needs no time of its own either.
    """
    event_id = event_id_of(prompt_hash)
    return Vote(
        event_id=event_id,
        voter=VOTER,
        order=(-1, _NEVER, event_id),
        source="rating",
        prompt_hash=prompt_hash,
        chosen=liked.reply,
        rejected=disliked.reply,
        chosen_adapter=liked.adapter,
        rejected_adapter=disliked.adapter,
        events=frozenset(),
        held_by=frozenset(),
    )


def standing(up: bool, net: int, of_match: Outcome | None) -> Outcome:
    """What became of a rating that counts, by the net of its reply and by how the vote of its match stands, if it has one."""
    if net == 0:
        return Outcome.DRAW
    if up != (net > 0):
        return Outcome.OUTVOTED
    return of_match or Outcome.UNPAIRED_EXAMPLE
