"""Intervals: of a speed-up that was measured in pairs, and of one that is predicted.

Pairs give ratios; of these the median counts, with the interval between two of the sorted ratios that holds the true
median with the wanted probability whatever their distribution (the interval of the sign test). Bursts of other
programs' work move a mean, and hardly a median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    """The median of measured ratios, and the interval that holds the true median with at least that probability.

    Where there are too few ratios for that (below five, for 0.9) it is from the smallest to the largest, moved outwards
    by half of their distance for each that is missing.

    Args:
        ratios: One or more, above 0.
        confidence: Between 0 and 1.

    Raises:
        ValueError: Without a ratio.
    """
    if not ratios:
        raise ValueError("no pair was measured")
    ordered = sorted(ratios)
    count = len(ordered)
    middle = count // 2
    median = ordered[middle] if count % 2 else math.sqrt(ordered[middle - 1] * ordered[middle])
    rank = _rank(count, confidence)
    if rank is not None:
        return Interval(median, ordered[rank], ordered[count - 1 - rank])
    need = next(number for number in range(count, 100) if _rank(number, confidence) is not None)
    extra = (ordered[-1] - ordered[0]) * 0.5 * (need - count) + (0.1 * median if count == 1 else 0.0)
    return Interval(median, max(0.0, ordered[0] - extra), ordered[-1] + extra)


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


def differs(ratios: Sequence[float]) -> bool:
    """Whether two settings, compared in pairs, are of different speed: their ratio is not 1 with 98 % confidence.

    Fewer than seven pairs cannot show that: then they are not.
    """
    if len(ratios) < 7:
        return False
    interval = ratio_interval(ratios, confidence=0.98)
    if abs(interval.speedup - 1) < LEAST_DIFFERENCE:
        return False
    return interval.low > 1 or interval.high < 1
