"""Ratings as they are stored, how they add up by reply, and which liked and disliked replies of a prompt are matched."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlmodel import Session

from pairing import ballots
from pairing.ballots import Ballot
from pairing.identity import Text
from pairing.rows import delete_by, first_of, insert_all, select_by, update_by
from pairing.rules.rating import Rated, event_id_of, matched, vote_of
from pairing.rules.votes import Opinion, Order, Vote
from pairing.tables import RatedReply, StoredRating

_UPS = "AND net > 0 ORDER BY net DESC, reply_hash DESC LIMIT {most}"
_DOWNS = "AND net < 0 ORDER BY net, reply_hash LIMIT {most}"
_RATED = ("prompt_hash", "reply_hash", "reply", "net", "adapter")
_REPLY = ("task", "prompt_hash", "reply_hash")
_VOTER = ("prompt_hash", "reply_hash", "voter")
_SUMS = ("ups", "downs", "net", "adapter")


class Rating(NamedTuple):
    """A row of StoredRating, column by column."""

    task: str
    event_id: str
    prompt_hash: str
    reply_hash: str
    voter: str
    revision: int
    occurred_at: datetime
    up: bool
    adapter: str | None
    held_by: str

    @property
    def reply(self) -> tuple[str, str]:
        """The reply to its prompt."""
        return self.prompt_hash, self.reply_hash

    @property
    def order(self) -> Order:
        return self.revision, self.occurred_at, self.event_id


class Matches(NamedTuple):
    """The votes of matched replies: as they are stored, and as they are now."""

    stored: Sequence[Ballot]
    derived: Sequence[Vote]


def by_events(session: Session, task: str, event_ids: Collection[str]) -> list[Rating]:
    """The stored ratings that are these events."""
    return _found(session, ("task", "event_id"), [(task, id_) for id_ in event_ids])


def of_replies(session: Session, task: str, replies: Collection[tuple[str, str]]) -> list[Rating]:
    """All stored ratings of these replies to their prompts."""
    return _found(session, _REPLY, [(task, *reply) for reply in replies])


def write(session: Session, task: str, stored: Collection[Rating], opinions: Sequence[Opinion], most: int) -> Matches:
    """Make the opinions stand where the stored ratings do; returns what then follows for the prompts that they are about."""
    derived = {_rating(task, opinion): opinion.reply.json for opinion in opinions}
    gone, come = set(stored) - derived.keys(), derived.keys() - set(stored)
    count = _counted(session, task, gone, come)
    delete_by(session, StoredRating, ("task", "event_id"), [(task, rating.event_id) for rating in gone])
    insert_all(session, StoredRating, Rating._fields, come)
    _write_replies(session, task, count, {rating.reply: text for rating, text in derived.items()}, gone, come)
    return _match(session, task, {rating.prompt_hash for rating in (*stored, *derived)}, most)


def _rating(task: str, opinion: Opinion) -> Rating:
    revision, occurred_at, event_id = opinion.order
    of_reply = opinion.prompt_hash, opinion.reply.hash, opinion.voter
    return Rating(task, event_id, *of_reply, revision, occurred_at, opinion.up, opinion.adapter, opinion.held_by)


def _found(session: Session, keys: Sequence[str], values: Collection[Sequence[str]]) -> list[Rating]:
    rows = select_by(session, StoredRating, Rating._fields, keys, values)
    return list(map(_rating_of, rows))


def _rating_of(row: Sequence[Any]) -> Rating:
    return Rating(*row)._replace(up=bool(row[7]))


def _counted(
    session: Session, task: str, gone: Collection[Rating], come: Collection[Rating]
) -> Mapping[tuple[str, str], tuple[int, int]]:
    """By reply that ratings come to or go from, how many more thumbs up and down count. Of each person the last counts."""
    losing, gaining = ({(*rating.reply, rating.voter) for rating in some} for some in (gone, come))
    said = ballots.said_before(session, StoredRating, Rating._fields, task, _VOTER, losing, gaining)
    had, new = _by_voter(map(_rating_of, said)), _by_voter(come)
    more: defaultdict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for key in losing | gaining:
        before = had.get(key, ())
        after = [*(rating for rating in before if rating not in gone), *new.get(key, ())]
        ups, downs = more[key[:2]]
        for rating, step in ((_last(before), -1), (_last(after), 1)):
            if rating:
                ups, downs = (ups + step, downs) if rating.up else (ups, downs + step)
        more[key[:2]] = ups, downs
    return more


def _by_voter(ratings: Iterable[Rating]) -> dict[tuple[str, str, str], list[Rating]]:
    found: defaultdict[tuple[str, str, str], list[Rating]] = defaultdict(list)
    for rating in ratings:
        found[*rating.reply, rating.voter].append(rating)
    return found


def _last(ratings: Sequence[Rating]) -> Rating | None:
    return max(ratings, key=lambda rating: rating.order, default=None)


def _write_replies(
    session: Session,
    task: str,
    more: Mapping[tuple[str, str], tuple[int, int]],
    texts: Mapping[tuple[str, str], str],
    gone: Collection[Rating],
    come: Collection[Rating],
) -> None:
    """Keep the sums of each reply; one without any rating goes."""
    keys = [(task, *reply) for reply in more]
    rows = select_by(session, RatedReply, (*_RATED[:3], "ups", "downs", "adapter"), _REPLY, keys)
    kept = {(row[0], row[1]): row[2:] for row in rows}
    shrunk = {rating.reply for rating in gone}
    adapters = _adapters((*of_replies(session, task, shrunk), *come))
    new, changed, empty = [], [], []
    for reply, (ups, downs) in more.items():
        text, had_ups, had_downs, had_adapter = kept.get(reply, (texts.get(reply), 0, 0, None))
        ups, downs = had_ups + ups, had_downs + downs
        wrote = adapters[reply] | ({had_adapter} if had_adapter and reply not in shrunk else set())
        sums = (ups, downs, ups - downs, min(wrote, default=None))
        if reply not in kept:
            new.append((task, *reply, *sums, text, False))
        elif ups or downs:
            changed.append((task, *reply, *sums))
        else:
            empty.append((task, *reply))
    insert_all(session, RatedReply, (*_REPLY, *_SUMS, "reply", "paired"), new)
    update_by(session, RatedReply, _REPLY, _SUMS, changed)
    delete_by(session, RatedReply, _REPLY, empty)


def _adapters(ratings: Iterable[Rating]) -> defaultdict[tuple[str, str], set[str]]:
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for rating in ratings:
        if rating.adapter is not None:
            found[rating.reply].add(rating.adapter)
    return found


def _match(session: Session, task: str, prompts: Collection[str], most: int) -> Matches:
    """The matches of each prompt, and the replies that stand in one marked so."""
    keys = [(task, prompt) for prompt in prompts]
    ups, downs = (_by_prompt(session, keys, tail.format(most=most)) for tail in (_UPS, _DOWNS))
    votes = [
        vote_of(prompt, liked, disliked)
        for prompt in prompts
        for liked, disliked in matched(ups.get(prompt, ()), downs.get(prompt, ()), most)
    ]
    stored = ballots.by_events(session, task, {event_id_of(prompt) for prompt in prompts})
    before = {side for vote in stored for side in sides(vote)}
    after = {side for vote in votes for side in sides(ballots.ballot_of(task, vote))}
    flags = [(task, *side, True) for side in after - before] + [(task, *side, False) for side in before - after]
    update_by(session, RatedReply, _REPLY, ("paired",), flags)
    return Matches(stored, votes)


def _by_prompt(session: Session, keys: Collection[tuple[str, str]], tail: str) -> dict[str, list[Rated]]:
    found: defaultdict[str, list[Rated]] = defaultdict(list)
    for prompt, hashed, reply, net, adapter in first_of(session, RatedReply, _RATED, ("task", "prompt_hash"), keys, tail):
        found[prompt].append(Rated(Text(reply, hashed), net, adapter))
    return found


def sides(vote: Ballot) -> tuple[tuple[str, str], tuple[str, str]]:
    """The two replies of a match, each to its prompt."""
    return (vote.prompt_hash, vote.chosen_hash), (vote.prompt_hash, vote.rejected_hash)
