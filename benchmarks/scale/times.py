"""Times of items: log-normal, by their mean and shape, with what a chunk needs to know of them in closed form."""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from dataclasses import dataclass, field

#: items of a chunk up to which each one is played; of more, the sum and the slowest one are drawn
FEW = 16
#: points of the table from which the wait for the slowest item of a chunk is drawn
POINTS = 256


def _normal_below(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


@dataclass(frozen=True)
class Times:
    """Seconds of an item.

    Args:
        mean_s: Of an item, seconds, > 0.
        sigma: Standard deviation of the logarithm; 0: all items take the same.
    """

    mean_s: float
    sigma: float = 1.0
    _tables: dict[tuple[int, int], tuple[list[float], list[float]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def mu(self) -> float:
        """Mean of the logarithm."""
        return math.log(self.mean_s) - self.sigma**2 / 2

    @property
    def deviation_s(self) -> float:
        """Standard deviation of an item's seconds."""
        return self.mean_s * math.sqrt(math.exp(self.sigma**2) - 1)

    def draw(self, rng: random.Random) -> float:
        """Seconds of one item."""
        return rng.lognormvariate(self.mu, self.sigma) if self.sigma else self.mean_s

    def excess(self, seconds: float) -> float:
        """The mean of what an item takes beyond so many seconds."""
        if seconds <= 0:
            return self.mean_s - seconds
        if not self.sigma:
            return max(0.0, self.mean_s - seconds)
        at = (self.mu - math.log(seconds)) / self.sigma
        return self.mean_s * _normal_below(at + self.sigma) - seconds * _normal_below(at)

    def chunk(self, items: int, cores: int, rng: random.Random) -> tuple[float, float]:
        """Of a chunk on a node: how long all cores have work from it, and how long its slowest item goes on then.

        Items begin one after the other while the cores have work from the chunk. So many of them as are still
        running at its end, or t seconds later, is a number whose mean has a closed form, and nearly a Poisson number.
        """
        if items <= FEW:
            drawn = [self.draw(rng) for _ in range(items)]
            ends = [0.0] * min(cores, items)
            for each in drawn:
                heapq.heapreplace(ends, ends[0] + each)
            work = sum(drawn) / cores
            return work, max(0.0, max(ends) - work)
        mean = items * self.mean_s / cores
        work = max(mean / 10, rng.gauss(mean, self.deviation_s * math.sqrt(items) / cores))
        means, seconds = self._slowest(items, cores)
        # None is running any more with probability exp(-mean).
        wanted = -math.log(1.0 - rng.random())
        return work, seconds[min(bisect_left(means, -wanted), POINTS - 1)]

    def _slowest(self, items: int, cores: int) -> tuple[list[float], list[float]]:
        """Minus the mean number of items that run on, ascending, and the seconds after which that is so."""
        # Chunks of nearly the same size share a table.
        items = round(items, 2 - len(str(items)))
        found = self._tables.get((items, cores))
        if found is None:
            work = items * self.mean_s / cores
            seconds = [0.0] + [self.mean_s * 10 ** (-2 + 5 * at / (POINTS - 2)) for at in range(POINTS - 1)]
            means = [-(items / work) * (self.excess(each) - self.excess(each + work)) for each in seconds]
            found = self._tables[items, cores] = means, seconds
        return found
