"""Edits: the text as it was last saved over the model's draft, unless nothing of substance changed.

The draft is the reply that the first edit started from: an edit of an edit belongs to the draft of that one, whichever
`reply` it names itself, and whoever made the earlier one. Its `edit_of` must name an edit of the same generation: while
there is none of that name it waits, and the edits of it wait with it.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from ingest.events import EditEvent, ReplyRef
from pairing.identity import reply_json
from pairing.outcomes import Outcome
from pairing.rules.votes import Derived, Found, Kept, Replies, Vote, order, person, source_of, voter

_MOST_COMPARED = 2_000
"""Characters between the first and the last change that are compared one by one: it takes quadratic time."""


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
    saved = reply_json(edit.saved, draft.generated.as_messages)
    derived.kept.append(Kept(edit, ref, saved, draft))
    reason = lacks_substance(draft.text, saved, min_share)
    if reason:
        derived.outcomes[edit.event_id] = reason
    else:
        derived.votes.append(_vote(edit, saved, draft))


def _vote(edit: EditEvent, saved: str, draft: Found) -> Vote:
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
    return "".join(c for c in text if unicodedata.category(c)[0] not in "ZPC")


def _is_small(one: str, other: str, min_share: float) -> bool:
    """Whether a smaller share than this changed, of the longer of the two."""
    longest = max(len(one), len(other))
    allowed = min_share * longest
    if longest - (Counter(one) & Counter(other)).total() >= allowed:  # at least so much changed
        return False
    one, other = _between(one, other)
    between = max(len(one), len(other))
    if between > _MOST_COMPARED:
        return False
    same = sum(block.size for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks())
    return between - same < allowed


def _between(one: str, other: str) -> tuple[str, str]:
    """Both without what they begin and end with alike."""
    start = _alike(one, other)
    one, other = one[start:], other[start:]
    end = _alike(one[::-1], other[::-1])
    return one[: len(one) - end], other[: len(other) - end]


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    differs = (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differs, min(len(one), len(other)))
