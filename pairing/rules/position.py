"""Position bias: whether people pick what stands first on the screen more often than they would pick it anywhere else."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

_Z = 1.96
"""Standard deviations to either side of the middle of a normal distribution that hold 95 % of it."""


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How often the reply shown first was picked. Shares lie between 0 and 1."""

    choices: int  # with a picked reply
    first: float  # share of them that picked the first place
    expected: float  # that share if places did not matter: the mean of 1 / replies shown
    low: float  # 95 % confidence interval of `first`
    high: float

    @property
    def is_plain(self) -> bool:
        """Whether chance alone rarely does this."""
        return not self.low <= self.expected <= self.high


def position_bias(picks: Mapping[tuple[int, int], int]) -> PositionBias | None:
    """Estimate from numbers of choices by (replies shown, place of the picked one, from 0); None without any choice.

    It holds where an app shows the replies in an order of its own, and not the best one first. The interval is Wilson's, which
    few choices and shares near 0 or 1 do not break; over several numbers of replies shown it errs to the wide side.
    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22, 1927.
    """
    total = sum(picks.values())
    if not total:
        return None
    first = sum(count for (_, place), count in picks.items() if place == 0)
    expected = math.fsum(count / shown for (shown, _), count in picks.items()) / total
    low, high = _wilson(first, total)
    return PositionBias(total, first / total, expected, low, high)


def _wilson(hits: int, total: int) -> tuple[float, float]:
    share, spread = hits / total, _Z**2 / total
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(middle - half, 0.0), min(middle + half, 1.0)
