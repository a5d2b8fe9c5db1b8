"""Whether a gain is more than luck. Pure and seeded: the same values give the same answer."""

import math
import random
from collections.abc import Sequence
from itertools import product
from statistics import fmean

_MOST_EXACT = 12
_DRAWS = 10_000


def chance_of_no_gain(gains: Sequence[float]) -> float:
    """How likely a mean this high is if each gain could as well have been a loss.

    One gain a prompt: replies to one prompt are alike, and prompts are not. Fisher's randomisation test on pairs, one-sided:
    it holds its level with the few prompts that are held out, where the bootstrap and the t-test promise too much.
    Source: Dror et al., The Hitchhiker's Guide to Testing Statistical Significance in NLP, ACL 2018, section 3.2.
    """
    if not gains:
        return 1.0
    least = sum(gains) - 1e-9
    if len(gains) <= _MOST_EXACT:
        flips = product((1, -1), repeat=len(gains))
        return fmean(_flipped(gains, signs) >= least for signs in flips)
    draw = random.Random(0)
    as_high = sum(_flipped(gains, draw.choices((1, -1), k=len(gains))) >= least for _ in range(_DRAWS))
    return (as_high + 1) / (_DRAWS + 1)  # the gains as they are count as one draw


def least_values(alpha: float) -> int:
    """How many gains it takes at least, so that gains throughout are not called chance at this level."""
    return math.ceil(-math.log2(alpha))


def _flipped(gains: Sequence[float], signs: Sequence[int]) -> float:
    return sum(gain * sign for gain, sign in zip(gains, signs, strict=True))
