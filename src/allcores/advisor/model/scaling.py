"""Gunther's universal scalability law, fitted to what was measured with several numbers of workers.

    X(p) = g p / (1 + s (p-1) + k p (p-1))        items a second with p workers
    p / X(p) = a + b (p-1) + c p (p-1)            linear in a = 1/g, b = s/g, c = k/g, all of them 0 or more

s: contention, what one does at a time; k: coherence, what all have to tell each other. Three unknown numbers need three
numbers of workers. Source: Gunther, *Guerrilla Capacity Planning*, chapters 4 to 6.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

#: numbers of workers without which nothing is extrapolated
LEAST_COUNTS = 3


@dataclass(frozen=True, slots=True)
class Scaling:
    """How items a second grow with workers.

    Attributes:
        one: Items a second of one worker.
        contention: s.
        coherence: k.
        off: The largest part by which a measured rate is off the fitted one.
    """

    one: float
    contention: float
    coherence: float
    off: float

    def rate(self, workers: int) -> float:
        """Items a second with so many workers."""
        slower = 1 + self.contention * (workers - 1) + self.coherence * workers * (workers - 1)
        return self.one * workers / slower

    @property
    def most_useful(self) -> int | None:
        """Workers beyond which it becomes slower; None if there is no such number."""
        if self.coherence <= 0:
            return None
        return max(1, round(math.sqrt(max(0.0, 1 - self.contention) / self.coherence)))


def fit(rates: Mapping[int, float]) -> Scaling | None:
    """The law through measured rates, by least squares; None for fewer than three numbers of workers.

    Args:
        rates: Workers -> items a second.
    """
    points = [(workers, rate) for workers, rate in sorted(rates.items()) if workers >= 1 and rate > 0]
    if len(points) < LEAST_COUNTS:
        return None
    # In units of the first rate, so that numbers are near 1.
    unit = points[0][1]
    rows = [((1.0, workers - 1.0, workers * (workers - 1.0)), workers * unit / rate) for workers, rate in points]
    best: tuple[float, tuple[float, float, float]] | None = None
    # None of the three may be negative: of all subsets that are not forced to 0, the one with the least error.
    for used in ((0, 1, 2), (0, 1), (0, 2), (0,)):
        solved = _least_squares([[row[place] for place in used] for row, _ in rows], [wanted for _, wanted in rows])
        if solved is None or solved[0] <= 0 or any(value < 0 for value in solved):
            continue
        full = [0.0, 0.0, 0.0]
        for place, value in zip(used, solved, strict=True):
            full[place] = value
        error = math.fsum(
            ((math.fsum(x * value for x, value in zip(row, full, strict=True)) - wanted) / wanted) ** 2
            for row, wanted in rows
        )
        if best is None or error < best[0] - 1e-15:
            best = error, (full[0], full[1], full[2])
    if best is None:
        return None
    a, b, c = best[1]
    found = Scaling(unit / a, b / a, c / a, 0.0)
    off = max(abs(found.rate(workers) / rate - 1) for workers, rate in points)
    return Scaling(found.one, found.contention, found.coherence, off)


def _least_squares(rows: list[list[float]], wanted: list[float]) -> list[float] | None:
    """By the normal equations, each row divided by what is wanted, as rates are off by parts; None if singular."""
    rows = [[x / y for x in row] for row, y in zip(rows, wanted, strict=True)]
    size = len(rows[0])
    left = [[math.fsum(row[i] * row[j] for row in rows) for j in range(size)] for i in range(size)]
    right = [math.fsum(row[i] for row in rows) for i in range(size)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(left[row][column]))
        if abs(left[pivot][column]) < 1e-12:
            return None
        left[column], left[pivot] = left[pivot], left[column]
        right[column], right[pivot] = right[pivot], right[column]
        for row in range(size):
            if row != column:
                factor = left[row][column] / left[column][column]
                right[row] -= factor * right[column]
                for each in range(column, size):
                    left[row][each] -= factor * left[column][each]
    return [right[row] / left[row][row] for row in range(size)]


def further(counts: Mapping[int, float]) -> tuple[int, ...]:
    """Numbers of workers that a fit is asked about: twice and four times the most that was measured."""
    most = max(itertools.chain(counts, (1,)))
    return 2 * most, 4 * most
