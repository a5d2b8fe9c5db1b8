"""Which prompts nearly repeat another one. Pure.

Words count by how rare they are among all prompts at hand, so that two prompts of one template about two things differ, and
two wordings of one question with another number or another comma do not.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

Words = frozenset[str]
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+")
_LIKENESS = 0.9
"""Weighted Jaccard index from which on a prompt counts as a repetition."""


def near_repeats(prompts: Iterable[str], of: Iterable[str]) -> set[str]:
    """Those prompts that nearly repeat one of the others."""
    words = {prompt: words_of(prompt) for prompt in prompts}
    others = {words_of(prompt) for prompt in of}
    rarity = _rarity([*words.values(), *others])
    index: dict[str, list[Words]] = defaultdict(list)
    for other in others:
        for word in other:
            index[word].append(other)
    return {prompt for prompt, said in words.items() if said in others or _repeats(said, index, rarity)}


def words_of(prompt: str) -> Words:
    """The words of a prompt whatever their case, order, width and punctuation; every number is the same word."""
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    return frozenset(_WORD.findall(_NUMBER.sub("0", folded)))


def _rarity(sets: Sequence[Words]) -> Mapping[str, float]:
    """Inverse document frequency; a word of every prompt weighs nothing."""
    count = Counter(word for words in sets for word in words)
    return {word: math.log(len(sets) / seen) for word, seen in count.items()}


def _repeats(words: Words, index: Mapping[str, list[Words]], rarity: Mapping[str, float]) -> bool:
    candidates = {other for word in _prefix(words, rarity) for other in index.get(word, ())}
    return any(_likeness(words, other, rarity) >= _LIKENESS for other in candidates)


def _prefix(words: Words, rarity: Mapping[str, float]) -> list[str]:
    """The rarest words: a set alike enough shares one of them (prefix filtering, Chaudhuri et al., ICDE 2006)."""
    ordered = sorted(words, key=lambda word: (-rarity[word], word))
    spare = (1 - _LIKENESS) * sum(rarity[word] for word in words)
    prefix, weight = [], 0.0
    for word in ordered:
        prefix.append(word)
        weight += rarity[word]
        if weight > spare:
            break
    return prefix


def _likeness(one: Words, other: Words, rarity: Mapping[str, float]) -> float:
    shared = sum(rarity[word] for word in one & other)
    everything = sum(rarity[word] for word in one | other)
    return shared / everything if everything else 0.0
