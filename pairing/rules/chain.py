"""Regeneration chains: the reply that was kept in the end over the first one thrown away before it, or over each, by setting.

A chain is a connected set of links, over whatever sessions and days, ordered by its links and not by times. An acceptance, a
choice or an edit of any of its replies closes it, whoever says so, and the last of them decides: of a choice the picked reply,
of an edit the text as it was saved is what was kept, even where they make no vote by themselves.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from ingest.events import AcceptanceEvent, RegenerationEvent, ReplyRef
from pairing.outcomes import Outcome
from pairing.rules.votes import Derived, Found, Kept, Replies, Vote, order, voter

Which = Literal["first", "each"]
Chain = list[RegenerationEvent]


def from_acceptances(acceptances: Sequence[AcceptanceEvent], replies: Replies) -> Derived:
    """Replies that were kept as they were: nothing by themselves, but they close chains."""
    derived = Derived()
    for acceptance in acceptances:
        found = replies.find(acceptance.reply)
        if isinstance(found, Outcome):
            derived.outcomes[acceptance.event_id] = found
        else:
            derived.outcomes[acceptance.event_id] = Outcome.NOTHING_REJECTED
            derived.kept.append(Kept(acceptance, acceptance.reply, found.text, found))
    return derived


def from_chains(links: Sequence[RegenerationEvent], kept: Sequence[Kept], replies: Replies, which: Which) -> Derived:
    """Votes of each connected set of links, by the last event that closes it."""
    if not links:
        return Derived()
    derived = Derived(outcomes={link.event_id: broken for link in links if (broken := _broken(link, replies))})
    whole = [link for link in links if link.event_id not in derived.outcomes]
    closings: defaultdict[str, list[Kept]] = defaultdict(list)
    for one in kept:
        closings[one.ref.generation_id].append(one)
    for chain in _chains(whole):
        closing = [one for generation in sorted(_generations(chain)) for one in closings[generation]]
        _settle(chain, closing, replies, which, derived)
    return derived


def _broken(link: RegenerationEvent, replies: Replies) -> Outcome | None:
    """Why a link connects nothing. An end that is not known yet connects: no chain pairs past it."""
    thrown_away, replacement = replies.find(link.reply), replies.generations.get(link.replacement)
    if isinstance(thrown_away, Outcome) and thrown_away is not Outcome.WAITING_FOR_GENERATION:
        return thrown_away
    if replacement is None:
        return None
    if replacement.evaluation:
        return Outcome.EVALUATION
    if isinstance(thrown_away, Found) and thrown_away.generated.prompt_hash != replacement.prompt_hash:
        return Outcome.CHANGED_PROMPT
    return None


def _settle(chain: Chain, closing: Sequence[Kept], replies: Replies, which: Which, derived: Derived) -> None:
    rejected = _in_order(chain)
    last = max(closing, key=lambda one: order(one.event), default=None)
    involved = [link.event_id for link in chain] + [one.event.event_id for one in closing if _is_bare(one)]
    if rejected is None:
        derived.outcomes.update(dict.fromkeys(involved, Outcome.CYCLE))
    elif last is None:
        derived.outcomes.update(dict.fromkeys(involved, Outcome.WAITING_FOR_CLOSING))
    else:
        losers = _losers(rejected, last, replies, which)
        if isinstance(losers, Outcome):
            derived.outcomes.update(dict.fromkeys(involved, losers))
        else:
            behind = frozenset({last.event.event_id, *(link.event_id for link in chain)})
            derived.votes += [_vote(behind, last, loser) for loser in losers]
        derived.outcomes.update({one.event.event_id: Outcome.SUPERSEDED for one in closing if _is_bare(one) and one is not last})


def _is_bare(one: Kept) -> bool:
    """Whether the event says nothing but that a reply was kept; others have outcomes of their own."""
    return isinstance(one.event, AcceptanceEvent)


def _losers(rejected: Sequence[ReplyRef], last: Kept, replies: Replies, which: Which) -> list[Found] | Outcome:
    """What was kept is preferred over these, or why there are none."""
    losers: list[Found] = []
    for ref in rejected:
        found = replies.find(ref)
        if ref == last.ref:
            continue
        if isinstance(found, Outcome):
            return found
        if found.generated.prompt_hash != last.draft.generated.prompt_hash:
            return Outcome.WAITING_FOR_GENERATION  # of one between: links between known prompts that differ are broken
        if found.text != last.text:
            losers.append(found)
            if which == "first":
                break
    if losers:
        return losers
    return Outcome.SAME_TEXT if set(rejected) - {last.ref} else Outcome.NOTHING_REJECTED


def _vote(behind: frozenset[str], last: Kept, loser: Found) -> Vote:
    as_written = last.text == last.draft.text
    return Vote(
        event_id=last.event.event_id,
        voter=voter(last.event, last.ref.generation_id),
        order=order(last.event),
        source="regeneration",
        prompt_hash=loser.generated.prompt_hash,
        chosen=last.text,
        rejected=loser.text,
        chosen_adapter=last.draft.generated.adapter if as_written else None,
        rejected_adapter=loser.generated.adapter,
        events=behind,
        held_by=frozenset({last.draft.generated.event_id, loser.generated.event_id}),
    )


def _generations(chain: Chain) -> set[str]:
    return {id_ for link in chain for id_ in (link.reply.generation_id, link.replacement)}


def _chains(links: Sequence[RegenerationEvent]) -> Iterator[Chain]:
    """The connected sets of links."""
    at: defaultdict[str, list[RegenerationEvent]] = defaultdict(list)
    for link in links:
        at[link.reply.generation_id].append(link)
        at[link.replacement].append(link)
    seen: set[str] = set()
    for start in sorted(at):
        reached = [start] if start not in seen else []
        seen.add(start)
        chain: dict[str, RegenerationEvent] = {}
        while reached:
            for link in at[reached.pop()]:
                chain[link.event_id] = link
                new = {link.reply.generation_id, link.replacement} - seen
                seen |= new
                reached += new
        if chain:
            yield list(chain.values())


def _in_order(chain: Chain) -> list[ReplyRef] | None:
    """The replies thrown away, by their distance from where the chain starts; None if it goes round in a circle."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    before: defaultdict[str, set[str]] = defaultdict(set)
    for link in chain:
        sorter.add(link.replacement, link.reply.generation_id)
        before[link.replacement].add(link.reply.generation_id)
    distance: dict[str, int] = {}
    try:
        for generation in sorter.static_order():
            distance[generation] = 1 + max((distance[earlier] for earlier in before[generation]), default=-1)
    except CycleError:
        return None
    thrown_away = {link.reply for link in chain}
    return sorted(thrown_away, key=lambda ref: (distance[ref.generation_id], ref.generation_id, ref.candidate))
