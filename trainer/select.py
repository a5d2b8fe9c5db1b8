"""Selects, purely, what a round trains on."""

import re
import unicodedata
from collections.abc import Sequence

from ingest.settings import TrainingSettings
from trainer.chat import asked
from trainer.manifest import FrozenPair

_GRAM = 5
_NEARLY = 0.9
"""Share of 5-character pieces that two prompts have in common (Jaccard) from which one nearly repeats the other."""


def select_pairs(new: Sequence[FrozenPair], earlier: Sequence[FrozenPair], settings: TrainingSettings) -> list[FrozenPair]:
    """The newest new pairs, and of earlier rounds' newest as many as `replay_share` asks. Both come newest first."""
    room = settings.max_pairs
    replayed = min(len(earlier), int(settings.replay_share * min(room, len(new) / (1 - settings.replay_share))))
    return [*new[: room - replayed], *earlier[:replayed]]


def apart_from(holdout: Sequence[FrozenPair], pairs: Sequence[FrozenPair]) -> list[FrozenPair]:
    """The pairs whose prompt does not nearly repeat a held-out one."""
    held = [_pieces(pair) for pair in {asked(pair.prompt): pair for pair in holdout}.values()]
    return [pair for pair in pairs if not any(_alike(_pieces(pair), other) for other in held)]


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    if min(len(one), len(other)) < _NEARLY * max(len(one), len(other)):
        return False
    return len(one & other) >= _NEARLY * len(one | other)


def _pieces(pair: FrozenPair) -> frozenset[str]:
    text = re.sub(r"\d+", "0", unicodedata.normalize("NFKC", asked(pair.prompt)).casefold())
    text = " ".join(re.findall(r"\w+", text))
    return frozenset(text[start : start + _GRAM] for start in range(max(1, len(text) - _GRAM + 1)))
