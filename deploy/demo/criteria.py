"""What a reply of the demo's task should be. People, gate and report judge by the same words."""

import re
from functools import cache

from deploy.demo.subjects import REPORT, TRAFFIC, Subject

_LIMIT = re.compile(r"at most (\d+) words", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_ENDINGS = ("ies", "es", "s", "e", "y")
_LEAST_WORDS = 3
_LONGEST_ENDING = 4
"""Letters. A stem keeps at least as many, so that "cat" does not find "category"."""


def word_limit(prompt_text: str) -> int:
    """The N of "at most N words".

    Raises:
        ValueError: the prompt states no limit.
    """
    found = _LIMIT.search(prompt_text)
    if not found:
        raise ValueError("the prompt does not say 'at most N words'")
    return int(found.group(1))


def words_in(text: str) -> int:
    """Words as a person counts them: what white space parts."""
    return len(text.split())


def about_subject(prompt_text: str, reply_text: str) -> bool:
    """Whether the reply says something about what the prompt asks for: at least three words, one of them of the subject."""
    said = _WORD.findall(reply_text.lower())
    return len(said) >= _LEAST_WORDS and any(_form_of(word, stem) for stem in _stems(prompt_text) for word in said)


@cache
def _stems(prompt_text: str) -> frozenset[str]:
    """Stems of the subject's words; of all longer words of a prompt that asks about something unknown."""
    asked = prompt_text.lower()
    named = [subject for subject in (*TRAFFIC, *REPORT) if re.search(rf"\b{subject.name}\b", asked)]
    words = _longest(named).words if named else [word for word in _WORD.findall(asked) if len(word) > _LONGEST_ENDING]
    return frozenset(_stem(word) for word in words)


def _longest(named: list[Subject]) -> Subject:
    return max(named, key=lambda subject: len(subject.name))


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LONGEST_ENDING:
            return word.removesuffix(ending)
    return word.removesuffix("s")


def _form_of(word: str, stem: str) -> bool:
    if len(stem) < _LONGEST_ENDING:
        return word in (stem, stem + "s", stem + "es", stem + "ing")
    return word.startswith(stem) and len(word) - len(stem) <= _LONGEST_ENDING
