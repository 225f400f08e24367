"""How long it will still take, and how sure that is: from what was measured, with no clock of its own.

What is done is cut into blocks of time. Their mean says how long an item takes; how much they differ says
how far off that may be, both because the mean is not known well yet and because what comes will differ, too.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

#: shortest block, s: below it, a block says more of the moment than of the work
BLOCK_S = 0.25
#: blocks that are kept; when there are more, neighbours are joined
MOST_BLOCKS = 32
#: blocks after which one counts half: work that becomes slower is followed
HALF_LIFE = 10.0
#: with fewer blocks nothing is known of how they differ: half as long to twice as long
FEW = 3
#: standard deviations to each side that hold four of five outcomes
WIDTH = 1.28
#: a range narrower than this share of its middle is not worth showing
NARROW = 0.25


class Estimate(NamedTuple):
    """Seconds that are left: most likely, and the range that holds four of five cases."""

    middle_s: float
    low_s: float
    high_s: float


class Estimator:
    """Fed with what is done and when, it says what is left. Times are seconds from any fixed point."""

    def __init__(self, now_s: float, done: int = 0) -> None:
        self._started_s = self._block_began_s = self._last_s = now_s
        self._at_start = self._block_from = self._done = done
        self._block_s = BLOCK_S
        #: (seconds, items), oldest first
        self._blocks: deque[tuple[float, int]] = deque()

    def observe(self, now_s: float, done: int) -> None:
        """So many items are done now."""
        self._done, self._last_s = max(done, self._done), max(now_s, self._last_s)
        seconds, items = self._last_s - self._block_began_s, self._done - self._block_from
        # A block without items would say that one takes for ever: it stays open until something is done.
        if seconds < self._block_s or not items:
            return
        self._blocks.append((seconds, items))
        self._block_began_s, self._block_from = self._last_s, self._done
        if len(self._blocks) > MOST_BLOCKS:
            pairs = list(self._blocks)
            joined = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(pairs[::2], pairs[1::2], strict=False)]
            if len(pairs) % 2:
                joined.append(pairs[-1])
            self._blocks = deque(joined)
            self._block_s *= 2

    @property
    def pace(self) -> float:
        """Items per second so far, 0 if nothing is known."""
        seconds = self._last_s - self._started_s
        return (self._done - self._at_start) / seconds if seconds > 0 else 0.0

    def estimate(self, now_s: float, left: int, *, item_s: float = 0.0, workers: int = 1) -> Estimate | None:
        """What `left` items will take; None as long as nothing is done.

        Args:
            now_s: The time now, in seconds.
            left: Items that have no outcome yet.
            workers: How many workers share them.
            item_s: Seconds that one item keeps a worker busy. At the end some of the workers have nothing left to do
                while others finish, which no pace of the past shows.
        """
        if left <= 0:
            return Estimate(0.0, 0.0, 0.0)
        # What is open counts as well: if nothing is done for long, the pace is lower than it was.
        blocks = [*self._blocks, (max(0.0, now_s - self._block_began_s), self._done - self._block_from)]
        weights = [0.5 ** ((len(blocks) - 1 - age) / HALF_LIFE) for age in range(len(blocks))]
        items = sum(weight * block[1] for weight, block in zip(weights, blocks, strict=True))
        seconds = sum(weight * block[0] for weight, block in zip(weights, blocks, strict=True))
        if not items or seconds <= 0:
            return None
        each_s = seconds / items
        tail_s = item_s / 2 if workers > 1 else 0.0
        middle_s = left * each_s + tail_s
        closed = self._blocks
        if len(closed) < FEW:
            return Estimate(middle_s, middle_s / 2, middle_s * 2)
        count = sum(weights[:-1]) ** 2 / sum(weight * weight for weight in weights[:-1])
        pairs = list(zip(weights, closed, strict=False))
        weight = sum(w for w, _ in pairs)
        spread = sum(w * (s - each_s * n) ** 2 for w, (s, n) in pairs) / weight * count / max(1.0, count - 1)
        size = sum(w * n for w, (_, n) in pairs) / weight
        # Blocks to come will differ as those that were; and the mean is off by what so few blocks leave open.
        to_come = left / size
        deviation_s = math.sqrt(spread * to_come * (1 + to_come / count))
        recent = list(closed)[-max(FEW, len(closed) // 3) :]
        drift_s = abs(sum(s for s, _ in recent) / sum(n for _, n in recent) - each_s) * left
        side_s = WIDTH * (1 + 2 / len(closed)) * math.hypot(deviation_s, drift_s)
        return Estimate(middle_s, max(0.0, middle_s - tail_s - side_s), middle_s + side_s + tail_s)


_UNITS = ((90.0, 1.0, "s"), (90 * 60.0, 60.0, "min"), (36 * 3600.0, 3600.0, "h"), (math.inf, 86_400.0, "days"))


def eta_text(estimate: Estimate) -> str:
    """As people say it: "about 3 min (2–5)"; without the range if that is narrow."""
    _, unit_s, unit = next(each for each in _UNITS if estimate.middle_s < each[0])

    def number(seconds: float) -> str:
        value = seconds / unit_s
        text = f"{value:.1f}" if unit in ("h", "days") and value < 10 else f"{value:.0f}"
        return text.removesuffix(".0")

    middle = "1" if unit == "s" and estimate.middle_s < 1 else number(estimate.middle_s)
    low, high = number(estimate.low_s), number(estimate.high_s)
    if estimate.high_s - estimate.low_s < NARROW * estimate.middle_s or low == high or estimate.middle_s < 1:
        return f"about {middle} {unit}"
    return f"about {middle} {unit} ({low}–{high})"
