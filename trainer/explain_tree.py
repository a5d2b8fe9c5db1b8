"""What was found of an id, as a tree on the screen. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.markup import escape
from rich.tree import Tree

from ingest.printing import in_short
from trainer.explain import AdapterFound, EventBehind, EventFound, Found, LetterFound, PairFound, Trained, VoteOn, WithdrawnPair

_ID = 12
"""Shown of a long id."""
_IN_A_LINE = 20
_LINES = 100


def as_tree(found: Found) -> Tree:
    """What a person reads first."""
    match found:
        case EventFound():
            return _event(found)
        case PairFound():
            return _pair(found)
        case WithdrawnPair():
            return _withdrawn(found)
        case AdapterFound():
            return _adapter(found)
        case LetterFound():
            return _letter(found)


def _event(found: EventFound) -> Tree:
    tree = Tree(f"[bold]{found.type} {escape(found.event_id)}[/bold], task {found.task}, {_who(found)}, {_at(found.occurred_at)}")
    tree.add(f"{found.outcome}: {found.meaning}")
    for vote in found.votes:
        tree.add(_vote("", vote))
    for vote in found.holds_for:
        tree.add(_vote("it holds a reply of a ", vote))
    if found.holds_for_left_out:
        tree.add(f"and replies of {found.holds_for_left_out:,} more votes")
    shown = {vote.pair_id for vote in (*found.votes, *found.holds_for)}
    for once in (once for once in found.in_rounds if once.pair_id not in shown):
        tree.add(_with(Tree(f"it was behind pair {once.pair_id[:_ID]} before"), _trained(once.trained)))
    if found.in_rounds_left_out:
        tree.add(f"{found.in_rounds_left_out:,} more pairs that it was behind were in rounds")
    return tree


def _who(found: EventFound) -> str:
    if found.written_by:
        return f"written by {escape(found.written_by)}"
    return {"user": "by a user", "expert": "by an expert", "criterion": "by a criterion"}.get(
        found.by or "", "its content is gone"
    )


def _vote(part: str, vote: VoteOn) -> Tree:
    state = "stands" if vote.stands else "does not stand"
    tree = Tree(f"{part}vote by {vote.source}, {vote.standing}; pair {vote.pair_id[:_ID]} {state}")
    said_by = "all ratings of the two replies" if vote.source == "rating" else _some((vote.event_id, *vote.rests_on))
    tree.add(f"said by: {said_by}")
    if vote.held_by:
        tree.add(f"replies held by: {_some(vote.held_by)}")
    return _with(tree, _trained(vote.trained))


def _pair(found: PairFound) -> Tree:
    tree = Tree(f"[bold]pair {found.id}[/bold], task {found.task}, by {found.source}, {found.split}")
    tree.add(f"prompt: {escape(in_short(found.prompt))}")
    for name, reply, adapters in (
        ("chosen", found.chosen, found.chosen_adapters),
        ("rejected", found.rejected, found.rejected_adapters),
    ):
        tree.add(f"{name}, by {escape(', '.join(adapters)) or 'a person'}: {escape(in_short(reply))}")
    weighed = f"weight {found.weight}, assumed share of wrong labels {found.wrong_share:g}"
    tree.add(f"{found.votes_for} votes for it, {found.votes_against} against; {weighed}")
    behind = tree.add("events behind it" + (f" ({found.votes_left_out} more votes left out)" if found.votes_left_out else ""))
    _with(behind, map(_behind, found.events))
    return _with(tree, _trained(found.trained))


def _withdrawn(found: WithdrawnPair) -> Tree:
    tree = Tree(f"[bold]pair {found.id}[/bold]: withdrawn since; votes, settings or an erasure changed what it came from")
    behind = _with(tree.add("events that were behind it"), map(_behind, found.events[:_LINES]))
    if len(found.events) > _LINES:
        behind.add(f"and {len(found.events) - _LINES:,} more")
    return _with(tree, _trained(found.trained))


def _behind(event: EventBehind) -> str:
    return f"{event.type} {escape(event.event_id)}, {_at(event.occurred_at)}"


def _adapter(found: AdapterFound) -> Tree:
    sealed = f"sealed {_at(found.sealed_at)}" if found.sealed_at else "never sealed"
    tree = Tree(f"[bold]{found.name}[/bold], task {found.task}: its round {found.state}; {sealed}")
    if found.tainted_at:
        tree.add(f"tainted {_at(found.tainted_at)}: it rests on what an erased user wrote, and never answers again")
    for why in found.why:
        tree.add(escape(why))
    tree.add(f"trained on top of {', then '.join(found.parents)}")
    for split, by_source in found.pairs.items():
        tree.add(f"{split}: {', '.join(f'{count} {source}' for source, count in by_source.items())}")
    for pair in found.shown:
        source = f"by {pair.source}" if pair.source else "withdrawn since"
        tree.add(f"{pair.split} pair {pair.id[:_ID]}, {source}, events {_some(pair.events)}")
    return tree


def _letter(found: LetterFound) -> Tree:
    event = f", event {escape(found.event_id)}" if found.event_id else ""
    tree = Tree(f"[bold]dead letter {found.id[:_ID]}[/bold]{event}, {_at(found.received_at)}")
    tree.add(f"{found.reason}: {found.meaning}")
    tree.add(escape(found.detail))
    return tree


def _trained(trained: Iterable[Trained]) -> list[str]:
    return [
        f"{'trained on' if one.split == 'train' else 'judged by'} in round {one.adapter} ({one.state})"
        + (f", which made adapter {one.adapter}" if one.sealed else "")
        + (", tainted" if one.tainted else "")
        for one in trained
    ]


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _IN_A_LINE:,} more" if len(ids) > _IN_A_LINE else ""
    return escape(", ".join(ids[:_IN_A_LINE])) + more


def _with(tree: Tree, lines: Iterable[str]) -> Tree:
    for line in lines:
        tree.add(line)
    return tree


def _at(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"
