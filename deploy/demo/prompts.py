"""How the demo's prompts are worded, and how many words they allow."""

import random
from collections.abc import Iterator
from itertools import product

from deploy.demo.subjects import Subject

TASK = "summarise-short"
LIMITS = range(6, 21)
"""Words."""

_ASKING = (
    "tell me about {subject}",
    "describe {subject}",
    "explain {subject} to a child",
    "write about {subject}",
    "summarise {subject}",
    "give me the main facts about {subject}",
    "say what people should know about {subject}",
    "teach me about {subject}",
    "introduce {subject} to a beginner",
    "explain why people care about {subject}",
)
_LIMITING = (
    "In at most {limit} words, {asking}.",
    "{Asking} in at most {limit} words.",
    "{Asking}. Use at most {limit} words.",
    "{Asking}. Answer in at most {limit} words.",
    "{Asking}. Your answer should have at most {limit} words.",
    "{Asking}. Keep it to at most {limit} words.",
    "Please {asking} in at most {limit} words.",
    "{Asking}, please. Write at most {limit} words.",
)


def phrasings(subject: Subject, limit: int) -> Iterator[str]:
    """Every wording of a prompt, always in the same order."""
    for limiting, asking in product(_LIMITING, _ASKING):
        yield _worded(limiting, asking, subject, limit)


def any_prompt(subject: Subject, chance: random.Random) -> str:
    """A wording and a limit by chance."""
    return _worded(chance.choice(_LIMITING), chance.choice(_ASKING), subject, chance.choice(LIMITS))


def _worded(limiting: str, asking: str, subject: Subject, limit: int) -> str:
    asked = asking.format(subject=subject.name)
    return limiting.format(asking=asked, Asking=asked[0].upper() + asked[1:], limit=limit)
