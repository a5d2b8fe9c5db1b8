"""How the simulated people judge: they want a reply that keeps its limit and says something, not the shortest one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.demo.criteria import about_subject, word_limit, words_in

_LEAST_SENTENCE_SHARE = 0.5
_SENTENCE_END = re.compile(r"[^\W\d]{2}[)\"*]*[.!?][)\"*]*$")
"""Not the number of a list's item."""
_CANNOT_END = re.compile(
    r"(an?|and|are|as|at|be|but|by|can|for|from|has|have|in|is|it|of|on|or|such|than|that|the|their|they|to|which|with|\W*|\d+\.)"
    r"[,;:-]*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of the model, as the app shows it."""

    text: str
    cut_off: bool = False
    """The token limit ended it, not the model."""


def over_limit(prompt: str, reply: Reply) -> bool:
    """A reply that was cut off counts as over: nobody knows how long it would have become."""
    return reply.cut_off or words_in(reply.text) > word_limit(prompt)


def is_good(prompt: str, reply: Reply) -> bool:
    return not over_limit(prompt, reply) and about_subject(prompt, reply.text)


def pick(prompt: str, replies: Sequence[Reply]) -> int | None:
    """Index of the first good reply that is not the shortest of several, or None where none is good.

    Who always took the longest would teach the model to write up to the limit, and past it.
    """
    good = [index for index, reply in enumerate(replies) if is_good(prompt, reply)]
    if len(good) > 1:
        good.remove(min(good, key=lambda index: words_in(replies[index].text)))
    return good[0] if good else None


def shorten(text: str, limit: int) -> str:
    """The draft cut to at most `limit` words: after its last whole sentence where that keeps half of them, else after a word."""
    kept = text.split()[:limit]
    ends = [count for count, word in enumerate(kept, start=1) if _SENTENCE_END.search(word)]
    if ends and ends[-1] >= limit * _LEAST_SENTENCE_SHARE:
        return " ".join(kept[: ends[-1]])
    while len(kept) > 1 and _CANNOT_END.fullmatch(kept[-1]):
        kept.pop()
    return " ".join(kept).rstrip(" ,;:-.") + "."
