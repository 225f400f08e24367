"""Intervals: of a speed-up that was measured in pairs, and of one that is predicted.

Pairs give ratios. What counts is the middle of the means of each two of them (the estimate of Hodges and Lehmann, on
logarithms), with the interval of the signed-rank test (Wilcoxon): a burst of another program's work, which moves a
mean, hardly moves these, and as few pairs say more by them than by their median alone. They hold for ratios that are
spread alike on both sides. Whether two settings differ at all is asked of the sign test, which needs not even that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

#: of the normal distribution: 90 % lie within so many standard deviations
NINETY = 1.645


@dataclass(frozen=True, slots=True)
class Interval:
    """A speed-up, and between what it lies in nine of ten cases.

    Attributes:
        speedup: The best guess; 1.0 is as fast as the loop.
        low: The lower end.
        high: The upper end.
    """

    speedup: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval as part of the speed-up."""
        return (self.high - self.low) / 2 / self.speedup if self.speedup > 0 else 0.0

    def widened(self, part: float) -> Interval:
        """The same with ends that are further out by a part of the speed-up."""
        return Interval(self.speedup, max(0.0, self.low * (1 - part)), self.high * (1 + part))


def spread_interval(speedup: float, log_deviation: float) -> Interval:
    """90 % around a predicted speed-up, whose logarithm has that standard deviation."""
    factor = math.exp(NINETY * log_deviation)
    return Interval(speedup, speedup / factor, speedup * factor)


def ratio_interval(ratios: Sequence[float], *, confidence: float = 0.9) -> Interval:
    """The middle of measured ratios, and the interval that holds the true one with at least that probability.

    Where there are too few ratios for that (below five, for 0.9) it is from the smallest to the largest, moved outwards
    by half of their distance for each that is missing.

    Args:
        ratios: One or more, above 0.
        confidence: Between 0 and 1.

    Raises:
        ValueError: Without a ratio.

    Source:
        Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, 3rd edition, sections 3.2 and 3.3.
    """
    if not ratios:
        raise ValueError("no pair was measured")
    count = len(ratios)
    logs = [math.log(ratio) for ratio in ratios]
    means = sorted((logs[one] + logs[other]) / 2 for one in range(count) for other in range(one, count))
    # The mean of two equal logarithms may be off by the last bit.
    low, high = min(ratios), max(ratios)
    middle = min(max(math.exp(_median(means)), low), high)
    rank = _signed_rank(count, confidence)
    if rank is not None:
        return Interval(middle, min(middle, math.exp(means[rank])), max(middle, math.exp(means[-1 - rank])))
    need = next(number for number in range(count, 100) if _signed_rank(number, confidence) is not None)
    extra = (high - low) * 0.5 * (need - count) + (0.1 * middle if count == 1 else 0.0)
    return Interval(middle, max(0.0, low - extra), high + extra)


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@cache
def _signed_rank(count: int, confidence: float) -> int | None:
    """The last rank from both ends of the sorted means that gives the confidence; None if even the extremes do not.

    How many of the 2**count ways to sign 1, 2, … count have positive ranks of each sum gives the probabilities.
    """
    ways = [1]
    for number in range(1, count + 1):
        longer = [*ways, *([0] * number)]
        for total, each in enumerate(ways):
            longer[total + number] += each
        ways = longer
    below, found = 0, None
    for rank, each in enumerate(ways):
        below += each
        if 1 - 2 * below / 2**count < confidence:
            break
        found = rank
    return found


def _sign_interval(ratios: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """The median, between two of the ratios that hold the true one whatever their distribution."""
    ordered = sorted(ratios)
    rank = _rank(len(ordered), confidence)
    assert rank is not None, "so few ratios are not asked about"
    return math.exp(_median([math.log(each) for each in ordered])), ordered[rank], ordered[-1 - rank]


def _rank(count: int, confidence: float) -> int | None:
    """The largest rank from both ends that still gives the confidence; None if even the extremes do not."""
    below = 0.0
    found = None
    for rank in range((count + 1) // 2):
        below += math.comb(count, rank) / 2.0**count
        if 1 - 2 * below < confidence:
            break
        found = rank
    return found


#: a difference below this part is none, however surely it was measured: layout of memory alone moves a loop by as much
LEAST_DIFFERENCE = 0.02
#: pairs without which no difference can be shown
LEAST_COMPARED = 7


def differs(ratios: Sequence[float]) -> bool:
    """Whether two settings, compared in pairs, are of different speed: their ratio is not 1 with 98 % confidence.

    Fewer than seven pairs cannot show that: then they are not.
    """
    if len(ratios) < LEAST_COMPARED:
        return False
    median, low, high = _sign_interval(ratios, 0.98)
    if abs(median - 1) < LEAST_DIFFERENCE:
        return False
    return low > 1 or high < 1
