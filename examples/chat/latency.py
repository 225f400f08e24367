"""How long visitors wait: quantiles, and two ways of doing the same measured in turns."""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

#: waits that are kept
MOST = 2_000
#: messages that one way answers before it is the other's turn
TURN = 12


class Latencies:
    """Waits in milliseconds, the latest of them. Any thread may add one."""

    def __init__(self) -> None:
        self._waits: deque[float] = deque(maxlen=MOST)
        self._lock = threading.Lock()

    def add(self, ms: float) -> None:
        """Note a wait."""
        with self._lock:
            self._waits.append(ms)

    def __len__(self) -> int:
        return len(self._waits)

    def quantile(self, part: float) -> float:
        """The wait that `part` (0 to 1) of them do not exceed, ms; NaN if there is none."""
        with self._lock:
            waits = sorted(self._waits)
        return waits[min(len(waits) - 1, math.ceil(part * len(waits)) - 1)] if waits else math.nan


def race(
    ways: Mapping[str, Callable[[str], object]], messages: Sequence[str], *, at_a_time: int, seed: int = 0
) -> dict[str, Latencies]:
    """Answer all messages each way, some at a time, in turns of shuffled order.

    Args:
        ways: What answers a message, by name.
        messages: What is asked.
        at_a_time: Visitors, each of whom sends the next message when the last one is answered.
        seed: Of the order.

    Returns:
        The waits, by the way's name.
    """
    found = {name: Latencies() for name in ways}
    chance = random.Random(seed)

    def timed(name: str, message: str) -> None:
        begun = perf_counter()
        ways[name](message)
        found[name].add((perf_counter() - begun) * 1e3)

    with ThreadPoolExecutor(at_a_time) as visitors:
        for name in ways:
            ways[name](messages[0])  # the first one pays for what is loaded late
        for first in range(0, len(messages), TURN):
            order = list(ways)
            chance.shuffle(order)
            for name in order:
                list(visitors.map(lambda message, name=name: timed(name, message), messages[first : first + TURN]))
    return found
