"""Scores: of one generation, the reply that the criteria put highest over the one that they put lowest.

Of the scores of one criterion for one reply the last counts, whoever sent it. The criteria that count are those that the
settings name and that scored any reply of the generation; a reply is compared once each of those has scored it. All of
them together are one voter, so that the same two replies, met again in another generation, are one vote.

Values are added and compared as the decimals that they are written as: 0.3 is over 0.2 by 0.1 and not by a little less,
nothing overflows, and sums have one result.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

from ingest.events import ScoreEvent
from pairing.outcomes import Outcome
from pairing.rules.in_force import Criterion, Rules
from pairing.rules.votes import Derived, Found, Replies, Vote, order

VOTER = "criteria"
_SUMS = Context(prec=100)
"""Digits far beyond those of sums of sensible scores; where they do not do, the order of the settings makes one result."""
Values = Mapping[int, Sequence[Decimal]]
"""By candidate, a value a criterion."""


def from_scores(scores: Sequence[ScoreEvent], replies: Replies, rules: Rules) -> Derived:
    """At most one vote a generation."""
    derived = Derived()
    known = {criterion.name for criterion in rules.criteria}
    by_generation: defaultdict[str, list[ScoreEvent]] = defaultdict(list)
    for score in scores:
        found = replies.find(score.reply)
        if isinstance(found, Outcome):
            derived.outcomes[score.event_id] = found
        elif score.criterion not in known:
            derived.outcomes[score.event_id] = Outcome.UNKNOWN_CRITERION
        else:
            by_generation[score.reply.generation_id].append(score)
    for of_one in by_generation.values():
        _settle(of_one, replies, rules, derived)
    return derived


def _settle(scores: Sequence[ScoreEvent], replies: Replies, rules: Rules, derived: Derived) -> None:
    last = {(score.reply.candidate, score.criterion): score for score in sorted(scores, key=order)}
    _explain(scores, Outcome.SUPERSEDED, derived)
    _explain(last.values(), Outcome.WAITING_FOR_SCORE, derived)
    used = [criterion for criterion in rules.criteria if any(name == criterion.name for _, name in last)]
    whole = {
        candidate: [last[candidate, criterion.name] for criterion in used]
        for candidate in sorted({candidate for candidate, _ in last})
        if all((candidate, criterion.name) in last for criterion in used)
    }
    if len(whole) < 2:
        return
    values = {candidate: [Decimal(repr(score.value)) for score in of_one] for candidate, of_one in whole.items()}
    ends = by_weight(values, used) if rules.pairing.criteria == "weighted" else in_turn(values, used)
    for of_one in whole.values():
        _explain(of_one, Outcome.BETWEEN if ends else Outcome.SMALL_MARGIN, derived)
    if ends:
        _compare(whole[ends[0]], whole[ends[1]], replies, derived)


def by_weight(values: Values, criteria: Sequence[Criterion]) -> tuple[int, int] | None:
    """The candidates with the highest and the lowest weighted sum; None: they differ by less than the weighted min_margins."""
    weights = [criterion.weight for criterion in criteria]
    sums = {candidate: _weighted(of_one, weights) for candidate, of_one in values.items()}
    highest, lowest = _ends(sums)
    needed = _weighted([criterion.min_margin for criterion in criteria], weights)
    return (highest, lowest) if _reaches(sums[highest], sums[lowest], needed) else None


def in_turn(values: Values, criteria: Sequence[Criterion]) -> tuple[int, int] | None:
    """The candidates that the first criterion puts highest and lowest whose min_margin they reach; None: they reach none.

    Where it puts several there, the criteria after it tell them apart.
    """
    for place, criterion in enumerate(criteria):
        highest, lowest = _ends({candidate: of_one[place:] for candidate, of_one in values.items()})
        if _reaches(values[highest][place], values[lowest][place], criterion.min_margin):
            return highest, lowest
    return None


def _ends(ranked: Mapping[int, Any]) -> tuple[int, int]:
    """The candidates with the highest and the lowest rank; of several the one with the smaller number."""
    ordered = sorted(ranked)
    return max(ordered, key=ranked.__getitem__), min(ordered, key=ranked.__getitem__)


def _weighted(values: Sequence[Decimal], weights: Sequence[Decimal]) -> Decimal:
    total = Decimal(0)
    for value, weight in zip(values, weights, strict=True):
        total = _SUMS.fma(value, weight, total)
    return total


def _reaches(highest: Decimal, lowest: Decimal, needed: Decimal) -> bool:
    return highest > lowest and _SUMS.subtract(highest, lowest) >= needed


def _compare(high: Sequence[ScoreEvent], low: Sequence[ScoreEvent], replies: Replies, derived: Derived) -> None:
    """Add the vote for one reply over the other, by all scores of both that count."""
    chosen, rejected = replies.find(high[0].reply), replies.find(low[0].reply)
    assert isinstance(chosen, Found)
    assert isinstance(rejected, Found)
    if chosen.text == rejected.text:
        _explain([*high, *low], Outcome.SAME_TEXT, derived)
    else:
        derived.votes.append(_vote([*high, *low], chosen, rejected))


def _vote(scores: Sequence[ScoreEvent], chosen: Found, rejected: Found) -> Vote:
    last = max(map(order, scores))
    return Vote(
        event_id=last[-1],
        voter=VOTER,
        order=last,
        source="criterion",
        prompt_hash=chosen.generated.prompt_hash,
        chosen=chosen.text,
        rejected=rejected.text,
        chosen_adapter=chosen.generated.adapter,
        rejected_adapter=rejected.generated.adapter,
        events=frozenset(score.event_id for score in scores),
        held_by=frozenset({chosen.generated.event_id}),
    )


def _explain(scores: Iterable[ScoreEvent], outcome: Outcome, derived: Derived) -> None:
    derived.outcomes.update({score.event_id: outcome for score in scores})
