"""The rules of pairing once more, plain and slow: the whole history at once, written from the design and not from the code.

What tests compare with: whatever the order, the batches, the workers and the crashes, the tables hold what this says.
"""

import difflib
import hashlib
import hmac
import json
import operator
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ingest.events import (
    AcceptanceEvent,
    ChoiceEvent,
    EditEvent,
    ErasureEvent,
    Event,
    GenerationEvent,
    PreferenceEvent,
    RatingEvent,
    RegenerationEvent,
    ReplyRef,
    ScoreEvent,
    canonical,
)
from ingest.settings import CriterionSettings, HoldoutSettings, Settings, TaskSettings
from tests.standins.plain_story import NoReply, Reply, Story, Vote, asked_of, ids, last_of_each, order, said, sha256, voter_of

SOURCES = ("expert", "edit", "preference", "choice", "criterion", "regeneration", "rating")
"""A pair is named after the first of these that voted for it."""
CONTENT = ("task", "prompt", "tools", "chosen", "rejected")
"""What makes a pair this one and no other."""
STANDINGS = ("paired", "draw", "outvoted", "superseded")
"""An event of several votes is known by the first of these that any of them has."""


def everything(events: Iterable[Event], settings: Settings) -> dict[str, Any]:
    """All that follows from the set of events: pairs and unpaired examples by content, outcomes by task and event_id, and
    dead letters by id."""
    sent = list(events)
    erased = {(event.task, event.user) for event in sent if isinstance(event, ErasureEvent)}
    bodies: defaultdict[tuple[str, str], dict[str, Event]] = defaultdict(dict)
    for event in sent:
        bodies[event.task, event.event_id][sha256(canonical(event))] = event
    found: dict[str, Any] = {"pairs": {}, "examples": {}, "outcomes": {}, "dead": {}}
    counting: defaultdict[str, list[Event]] = defaultdict(list)
    for (task, event_id), same_id in bodies.items():
        # An erased body takes its id with it, and so does an erasure.
        applied = any(isinstance(one, ErasureEvent) for one in same_id.values())
        living = sorted(hash_ for hash_, one in same_id.items() if (task, one.user) not in erased)
        if applied or len(living) < len(same_id):
            found["outcomes"][task, event_id] = "applied" if applied else "erased"
        else:
            counting[task].append(same_id[living.pop(0)])
        found["dead"] |= dict.fromkeys(living, "conflicting-body")
    for task, of_task in counting.items():
        story = _of_task(of_task, task, settings)
        found["pairs"] |= {(task, *key): pair for key, pair in _pairs(story).items()}
        found["outcomes"] |= {(task, event_id): outcome for event_id, outcome in story.outcomes.items()}
        found["examples"] |= {(task, *key): label for key, label in story.examples.items()}
    return found


def _of_task(events: Sequence[Event], task: str, settings: Settings) -> Story:
    story = Story(events, settings.tasks.get(task, TaskSettings()), settings.holdout)
    for event in story.of(GenerationEvent):
        story.reason([event], "evaluation" if event.purpose == "evaluation" else "recorded")
    if task not in settings.tasks:
        story.reason(events, "unknown-task")
        return story
    for rule in (_preferences, _choices, _edits, _chains, _scores, _ratings):
        rule(story)
    return story


def _preferences(story: Story) -> None:
    for event in story.of(PreferenceEvent):
        chosen, rejected = (Reply(asked_of(event), said(one, event.prompt), "", None) for one in (event.chosen, event.rejected))
        if chosen.text == rejected.text:
            story.reason([event], "same-text")
        else:
            story.vote(event, event.event_id, "preference", chosen, rejected)


def _choices(story: Story) -> None:
    for event in story.choices.values():
        try:
            shown = story.shown(event)
        except NoReply as why:
            story.reason([event], str(why))
            continue
        if isinstance(event.picked, str):
            story.reason([event], {"tie": "tie", "none": "none-good"}[event.picked])
            continue
        picked = shown[event.shown.index(event.picked)]
        others = shown if story.task.pairing.choice == "each" else shown[:1]
        if story.task.pairing.choice == "first" and event.picked == event.shown[0]:
            story.reason([event], "picked-first")
        for other in others:
            if other.text != picked.text:
                story.vote(event, event.shown[0].generation_id, _source(event, "choice"), picked, other)
            elif all(one.text == picked.text for one in others):
                story.reason([event], "same-text")
    story.reason((one for one in story.of(ChoiceEvent) if one.event_id not in story.choices), "superseded")


def _edits(story: Story) -> None:
    for event, ref in story.edits.values():
        try:
            draft, saved = story.reply(ref), story.saved(event, ref)
        except NoReply as why:
            story.reason([event], str(why))
            continue
        lacking = _lacks_substance(draft.text, saved.text, story.task.pairing.min_edit_share)
        if lacking:
            story.reason([event], lacking)
        else:
            story.vote(event, event.reply.generation_id, _source(event, "edit"), saved, draft)
    story.reason((one for one in story.of(EditEvent) if one.event_id not in story.edits), "superseded")


def _chains(story: Story) -> None:
    """A chain is a set of links that hang together. A link between two prompts, or to what is no reply, is none."""
    links: list[RegenerationEvent] = []
    for event in story.of(RegenerationEvent):
        broken = _broken(story, event)
        if broken:
            story.reason([event], broken)
        else:
            links.append(event)
    for chain in _connected(links):
        _chain(story, chain)
    for accepted in story.of(AcceptanceEvent):
        try:
            story.reply(accepted.reply)
            story.reason([accepted], "nothing-rejected")
        except NoReply as why:
            story.reason([accepted], str(why))


def _broken(story: Story, link: RegenerationEvent) -> str | None:
    """Why a regeneration links nothing. While one of its generations has not come, nothing speaks against it."""
    asked = []
    for ref in (link.reply, ReplyRef(generation_id=link.replacement)):
        try:
            asked.append(story.reply(ref).asked)
        except NoReply as why:
            if str(why) != "waiting-for-generation":
                return str(why)
    return "changed-prompt" if len(set(asked)) > 1 else None


def _chain(story: Story, links: list[RegenerationEvent]) -> None:
    members = {id_ for link in links for id_ in _ends(link)}
    closings = [closing for id_ in members for closing in story.closings.get(id_, ())]
    accepting = [closing.event for closing in closings if isinstance(closing.event, AcceptanceEvent)]
    steps = _steps(links)
    if steps is None:
        return story.reason([*links, *accepting], "cycle")
    if not closings:
        return story.reason(links, "waiting-for-closing")
    last = max(closings, key=lambda closing: order(closing.event))
    story.reason((event for event in accepting if event is not last.event), "superseded")
    thrown_away = sorted({link.reply for link in links} - {last.ref}, key=lambda one: (steps[one.generation_id], *_name(one)))
    others: list[Reply] = []
    for one in thrown_away:
        try:
            reply = story.reply(one)
        except NoReply as why:
            return story.reason([*links, *accepting], str(why))
        if reply.asked != last.kept.asked:  # and so is one between, or the chain would end there
            return story.reason([*links, *accepting], "waiting-for-generation")
        others += [reply] if reply.text != last.kept.text else []
        if others and story.task.pairing.regeneration == "first":
            break
    for other in others:
        story.vote(last.event, last.ref.generation_id, "regeneration", last.kept, other, also=links)
    return story.reason([*links, *accepting], "same-text" if thrown_away else "nothing-rejected")


def _scores(story: Story) -> None:
    """Within one generation the highest reply over the lowest, as the criteria of the settings put them."""
    of_generation: defaultdict[str, list[ScoreEvent]] = defaultdict(list)
    for event in story.of(ScoreEvent):
        try:
            story.reply(event.reply)
        except NoReply as why:
            story.reason([event], str(why))
            continue
        if event.criterion in {criterion.name for criterion in story.task.criteria}:
            of_generation[event.reply.generation_id].append(event)
        else:
            story.reason([event], "unknown-criterion")
    for scores in of_generation.values():
        _scored(story, scores)


def _scored(story: Story, scores: list[ScoreEvent]) -> None:
    lasting = last_of_each(scores, lambda score: (score.reply.candidate, score.criterion))
    story.reason((score for score in scores if score not in lasting), "superseded")
    used = [one for one in story.task.criteria if any(score.criterion == one.name for score in lasting)]
    table = {(score.reply.candidate, score.criterion): score for score in lasting}
    candidates = sorted({candidate for candidate, _ in table if all((candidate, one.name) in table for one in used)})
    whole = {candidate: [table[candidate, one.name] for one in used] for candidate in candidates}
    ends = (_by_weight if story.task.pairing.criteria == "weighted" else _in_turn)(whole, used) if len(whole) > 1 else None
    for high, low in [ends] if ends else []:
        deciding, chosen, rejected = [*whole[high], *whole[low]], *(story.reply(whole[end][0].reply) for end in (high, low))
        if chosen.text == rejected.text:
            story.reason(deciding, "same-text")
        else:
            story.vote(max(deciding, key=order), "", "criterion", chosen, rejected, also=deciding, voter="criteria")
    if len(whole) > 1:
        story.reason((score for of in whole.values() for score in of), "between" if ends else "small-margin")
    story.reason((score for score in lasting if score.reply.candidate not in whole or len(whole) < 2), "waiting-for-score")


def _by_weight(whole: dict[int, list[ScoreEvent]], used: Sequence[CriterionSettings]) -> tuple[int, int] | None:
    weights = [Fraction(str(one.weight)) for one in used]
    sums = {one: sum(map(operator.mul, map(_value, scores), weights)) for one, scores in whole.items()}
    needed = sum(map(operator.mul, (Fraction(str(one.min_margin)) for one in used), weights))
    high, low = max(sums, key=lambda one: sums[one]), min(sums, key=lambda one: sums[one])  # of equals the first
    return (high, low) if 0 < sums[high] - sums[low] >= needed else None


def _in_turn(whole: dict[int, list[ScoreEvent]], used: Sequence[CriterionSettings]) -> tuple[int, int] | None:
    for place, criterion in enumerate(used):
        rest = {one: [*map(_value, scores[place:])] for one, scores in whole.items()}
        high, low = max(rest, key=lambda one: rest[one]), min(rest, key=lambda one: rest[one])
        if 0 < rest[high][0] - rest[low][0] >= Fraction(str(criterion.min_margin)):
            return high, low
    return None


def _value(score: ScoreEvent) -> Fraction:
    return Fraction(str(score.value))


@dataclass(frozen=True)
class Opinion:
    """A person's thumb on a reply."""

    event: RatingEvent
    reply: Reply

    @property
    def up(self) -> bool:
        return self.event.thumb == "up"


def _ratings(story: Story) -> None:
    """The best liked reply to a prompt over the least liked one, the second over the second, and so on, up to a limit."""
    opinions: list[Opinion] = []
    for event in story.of(RatingEvent):
        try:
            opinions.append(Opinion(event, story.reply(event.reply)))
        except NoReply as why:
            story.reason([event], str(why))
    lasting = last_of_each(
        opinions,
        lambda one: (one.reply.asked, one.reply.text, voter_of(one.event, one.event.reply.generation_id)),
        lambda one: order(one.event),
    )
    story.reason((one.event for one in opinions if one not in lasting), "superseded")
    for asked in {one.reply.asked for one in lasting}:
        of_prompt = [one for one in opinions if one.reply.asked == asked]
        _rated(story, [one for one in of_prompt if one in lasting], frozenset(one.reply for one in of_prompt))


def _rated(story: Story, opinions: list[Opinion], met: frozenset[Reply]) -> None:
    """Each person's last opinion of each reply to one prompt. `met`: where they met those replies, the earlier times too."""
    nets: defaultdict[str, int] = defaultdict(int)
    for one in opinions:
        nets[one.reply.text] += 1 if one.up else -1
    by_net = sorted((text for text in nets if nets[text]), key=lambda text: (nets[text], sha256(text.encode())))
    liked, disliked = [text for text in reversed(by_net) if nets[text] > 0], [text for text in by_net if nets[text] < 0]
    matches = list(zip(liked, disliked, strict=False))[: story.task.pairing.rating_pairs_per_prompt]
    for match in matches:
        behind = [one for one in opinions if one.reply.text in match]
        chosen, rejected = (next(one.reply for one in behind if one.reply.text == text) for text in match)
        agreeing = [one.event for one in behind if one.up == (one.reply.text == chosen.text)]
        story.said[f"ratings of {chosen.asked}", chosen.text, rejected.text] = Vote(
            voter="ratings",
            order=(),
            source="rating",
            chosen=chosen,
            rejected=rejected,
            says=ids(agreeing),
            behind=ids(one.event for one in behind) | {one.reply.held_by for one in behind},
            compared=met,
        )
    asked = opinions[0].reply.asked
    alone = nets.keys() - {text for match in matches for text in match}
    story.examples |= {(asked.prompt, asked.tools, text): nets[text] > 0 for text in alone if nets[text]}
    story.reason((one.event for one in opinions if not nets[one.reply.text]), "draw")
    story.reason((one.event for one in opinions if one.up != (nets[one.reply.text] > 0)), "outvoted")
    story.reason((one.event for one in opinions), "unpaired-example")  # unless a vote says more


def _pairs(story: Story) -> dict[Any, Any]:
    """Of each two replies that were voted on, the one that the votes prefer. A voter's last vote counts."""
    votes: defaultdict[Any, list[Vote]] = defaultdict(list)
    for vote in story.votes:
        votes[vote.replies].append(vote)
    pairs = {}
    standings: defaultdict[str, set[str]] = defaultdict(set)
    for cast in votes.values():
        counted = last_of_each(cast, lambda vote: vote.voter, by=lambda vote: vote.order)
        margin = sum(_weight(story, vote, cast[0].chosen.text) for vote in counted)
        ahead = cast[0] if margin > 0 else next((vote for vote in cast if vote.chosen.text != cast[0].chosen.text), cast[0])
        for vote in cast:
            won = "draw" if margin == 0 else "paired" if vote.chosen.text == ahead.chosen.text else "outvoted"
            for event_id in vote.says:
                standings[event_id].add(won if vote in counted else "superseded")
        if margin:
            pairs[_content(ahead)] = _pair(story, ahead, cast, counted, abs(margin))
    story.outcomes |= {event_id: min(standing, key=STANDINGS.index) for event_id, standing in standings.items()}
    return pairs


def _content(vote: Vote) -> tuple[str, str | None, str, str]:
    return vote.chosen.asked.prompt, vote.chosen.asked.tools, vote.chosen.text, vote.rejected.text


def _pair(story: Story, ahead: Vote, cast: Sequence[Vote], counted: Sequence[Vote], weight: int) -> dict[str, Any]:
    winning = [vote for vote in counted if vote.chosen.text == ahead.chosen.text]
    source = min((vote.source for vote in winning), key=SOURCES.index)
    return {
        "source": source,
        "votes_for": len(winning),
        "votes_against": len(counted) - len(winning),
        "weight": weight,
        "wrong_share": getattr(story.task.pairing.sources, source).wrong_share,
        "split": _split(ahead.chosen.asked.prompt, story.holdout),
        "chosen_adapters": sorted({name for vote in cast if (name := vote.adapter(ahead.chosen.text))}),
        "rejected_adapters": sorted({name for vote in cast if (name := vote.adapter(ahead.rejected.text))}),
        "events": sorted({event_id for vote in counted for event_id in vote.behind}),
    }


def _weight(story: Story, vote: Vote, for_text: str) -> int:
    weight: int = getattr(story.task.pairing.sources, vote.source).weight
    return weight if vote.chosen.text == for_text else -weight


def _source(event: ChoiceEvent | EditEvent, own: str) -> str:
    """What experts and criteria say is a source of its own."""
    return own if event.by == "user" else event.by


def _ends(link: RegenerationEvent) -> set[str]:
    return {link.reply.generation_id, link.replacement}


def _name(ref: ReplyRef) -> tuple[str, int]:
    return ref.generation_id, ref.candidate


def _connected(links: Iterable[RegenerationEvent]) -> list[list[RegenerationEvent]]:
    chains: dict[str, list[RegenerationEvent]] = {}  # by each generation that is in it
    for link in links:
        touching = {id(chain): chain for end in _ends(link) if (chain := chains.get(end))}
        chain = [link, *(other for one in touching.values() for other in one)]
        chains |= {end: chain for other in chain for end in _ends(other)}
    return list({id(chain): chain for chain in chains.values()}.values())


def _steps(links: Iterable[RegenerationEvent]) -> dict[str, int] | None:
    """How far each generation of a chain is from where that starts, by the longest way; None in a circle."""
    before: defaultdict[str, set[str]] = defaultdict(set)
    for link in links:
        before[link.replacement].add(link.reply.generation_id)
        before[link.reply.generation_id] |= set()
    steps: dict[str, int] = {}
    while ready := [id_ for id_ in before if id_ not in steps and before[id_] <= steps.keys()]:
        steps |= {id_: 1 + max((steps[earlier] for earlier in before[id_]), default=-1) for id_ in ready}
    return steps if len(steps) == len(before) else None


def _lacks_substance(draft: str, saved: str, least_share: float) -> str | None:
    """Texts in tests are either far apart or nearly the same: how the share is counted does not matter for them."""
    was, now = ("".join(re.findall(r"\w", _words(json.loads(text)))) for text in (draft, saved))
    if was == now:
        return "unchanged-edit"
    changed = 1 - difflib.SequenceMatcher(None, was, now, autojunk=False).ratio()
    return "small-edit" if changed < least_share else None


def _words(reply: Any) -> str:
    words: str = reply if isinstance(reply, str) else reply["content"]
    return words


def _split(prompt: str, holdout: HoldoutSettings) -> str:
    """Prompts in tests are ASCII: folding them needs no tables."""
    asked = json.loads(prompt)
    opening = asked if isinstance(asked, str) else next(one["content"] for one in asked if one["role"] == "user")
    folded = re.sub("[0-9]+", "0", " ".join(opening.lower().split()))
    assert holdout.key
    digest = hmac.new(holdout.key.get_secret_value().encode(), folded.encode(), hashlib.sha256).digest()
    return "holdout" if int.from_bytes(digest[:8], "big") / 2**64 < holdout.share else "train"
