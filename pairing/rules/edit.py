"""Edits: the text as it was last saved over the model's draft, unless nothing of substance changed.

The draft is the reply that the first edit started from: an edit of an edit belongs to the draft of that one, whichever
`reply` it names itself, and whoever made the earlier one. Its `edit_of` must name an edit of the same generation: while
there is none of that name it waits, and the edits of it wait with it.
"""

import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from ingest.events import EditEvent, ReplyRef
from pairing.identity import Text, text_of
from pairing.outcomes import Outcome
from pairing.rules.votes import Derived, Found, Kept, Replies, Vote, order, person, source_of, voter

_MOST_COMPARED = 20_000
"""Letters between the first and the last change that are compared one by one: it takes quadratic time, here up to 0.1 s."""


def from_edits(edits: Sequence[EditEvent], replies: Replies, min_share: float) -> Derived:
    """Of one person's edits of one draft the last counts. A user and an expert are two persons."""
    derived = Derived()
    drafts = _drafts(edits)
    last: dict[tuple[ReplyRef, tuple[str, str | None]], EditEvent] = {}
    for edit in edits:
        draft = drafts[edit.event_id]
        if isinstance(draft, Outcome):
            derived.outcomes[edit.event_id] = draft
        else:
            key = draft, person(edit)
            derived.outcomes[edit.event_id] = Outcome.SUPERSEDED
            last[key] = max(last.get(key, edit), edit, key=order)
    for (draft, _), edit in last.items():
        _count(edit, draft, replies, min_share, derived)
    direct = [edit for edit in edits if edit.edit_of is None]
    derived.beaten.update((one.event_id, one.reply.generation_id) for one in direct if last[one.reply, person(one)] is not one)
    return derived


def _drafts(edits: Sequence[EditEvent]) -> Mapping[str, ReplyRef | Outcome]:
    """By edit, the draft that it belongs to, or why there is none."""
    drafts: dict[str, ReplyRef | Outcome] = {edit.event_id: edit.reply for edit in edits if edit.edit_of is None}
    if len(drafts) == len(edits):
        return drafts
    by_id = {edit.event_id: edit for edit in edits}
    for edit in edits:
        at, seen = edit, set[str]()
        while at.event_id not in drafts and at.event_id not in seen:
            seen.add(at.event_id)
            earlier = by_id.get(at.edit_of or "")
            if earlier is None or earlier.reply.generation_id != at.reply.generation_id:
                drafts[at.event_id] = Outcome.WAITING_FOR_EDIT
            else:
                at = earlier
        drafts.update(dict.fromkeys(seen, drafts.get(at.event_id, Outcome.CYCLE)))
    return drafts


def _count(edit: EditEvent, ref: ReplyRef, replies: Replies, min_share: float, derived: Derived) -> None:
    draft = replies.find(ref)
    if isinstance(draft, Outcome):
        derived.outcomes[edit.event_id] = draft
        return
    saved = text_of(edit.saved, draft.generated.as_messages)
    derived.kept.append(Kept(edit, ref, saved, draft))
    reason = lacks_substance(draft.text.json, saved.json, min_share)
    if reason:
        derived.outcomes[edit.event_id] = reason
    else:
        derived.votes.append(_vote(edit, saved, draft))


def _vote(edit: EditEvent, saved: Text, draft: Found) -> Vote:
    return Vote(
        event_id=edit.event_id,
        voter=voter(edit, edit.reply.generation_id),
        order=order(edit),
        source=source_of(edit, "edit"),
        prompt_hash=draft.generated.prompt_hash,
        chosen=saved,
        rejected=draft.text,
        chosen_adapter=None,
        rejected_adapter=draft.generated.adapter,
        events=frozenset({edit.event_id}),
        held_by=frozenset({draft.generated.event_id}),
    )


def lacks_substance(draft: str, saved: str, min_share: float) -> Outcome | None:
    """Why an edit makes no pair, if it makes none. Both replies are canonical JSON."""
    before, after = _plain(draft), _plain(saved)
    if before is None or after is None:
        return Outcome.UNCHANGED_EDIT if draft == saved else None
    one, other = _letters(before), _letters(after)
    if one == other:
        return Outcome.UNCHANGED_EDIT
    return Outcome.SMALL_EDIT if _is_small(one, other, min_share) else None


def _plain(reply: str) -> str | None:
    """Text of a reply, or None if it has tool calls, of which every character counts."""
    value = json.loads(reply)
    if isinstance(value, str):
        return value
    content = value.get("content") or ""
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    return None if value.get("tool_calls") else text


def _letters(text: str) -> str:
    """Without white space, control characters and punctuation; symbols and case stay."""
    return text.translate(_dropped)


class _Dropped(dict[int, int | None]):
    """By code point, None for what goes. Found once and kept, but for the million rare ones, which could fill the memory."""

    def __missing__(self, code: int) -> int | None:
        stays = None if unicodedata.category(chr(code))[0] in "ZPC" else code
        if code < 0x10000:
            self[code] = stays
        return stays


_dropped = _Dropped()


def _is_small(one: str, other: str, min_share: float) -> bool:
    """Whether a smaller share than this changed, of the longer of the two."""
    allowed = min_share * max(len(one), len(other))
    if abs(len(one) - len(other)) >= allowed:  # at least so much changed
        return False
    one, other = _between(one, other)
    between = max(len(one), len(other))
    if between < allowed:
        return True
    if between > _MOST_COMPARED or between - (Counter(one) & Counter(other)).total() >= allowed:
        return False
    return between - _common(one, other) < allowed


def _common(one: str, other: str) -> int:
    """The most letters that stand in both in the same order: the length of their longest common subsequence.

    Source: Hyyrö, Bit-Parallel LCS-length Computation Revisited, AWOCA 2004. One bit a letter of `one`; those at 0 count.
    """
    places: defaultdict[str, int] = defaultdict(int)
    for index, letter in enumerate(one):
        places[letter] |= 1 << index
    every = bits = (1 << len(one)) - 1
    for letter in other:
        met = bits & places[letter]
        bits = ((bits + met) | (bits - met)) & every
    return len(one) - bits.bit_count()


def _between(one: str, other: str) -> tuple[str, str]:
    """Both without what they begin and end with alike."""
    start = _alike(one, other)
    one, other = one[start:], other[start:]
    end = _alike(one[::-1], other[::-1])
    return one[: len(one) - end], other[: len(other) - end]


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    alike, differs = 0, min(len(one), len(other)) + 1
    while differs - alike > 1:
        middle = (alike + differs) // 2
        if one[alike:middle] == other[alike:middle]:
            alike = middle
        else:
            differs = middle
    return alike
