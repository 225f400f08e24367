"""The plain loop over a function: what its calls take here, one after the other."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from allcores.advisor.measuring import loops, pool_way
from allcores.advisor.measuring.calls import LEAST_PART, LEFT_PART, Calls
from allcores.advisor.measuring.no_answer import TooSlow
from allcores.advisor.model.probes import LEAST_SWITCHES, Timing
from allcores.formatting import seconds_text

if TYPE_CHECKING:
    from allcores.advisor.measuring.in_worker import FirstCalls

#: calls that are timed one by one take at least so many seconds
SINGLE_S = 50e-6


class PlainLoop(NamedTuple):
    """What the loop has shown.

    Attributes:
        timing: What a call takes.
        results: Some results, if they are large.
        remembers: A second call on the same item takes next to nothing.
    """

    timing: Timing
    results: list[Any]
    remembers: bool = False


def measured(calls: Calls, first: FirstCalls) -> PlainLoop:
    """The plain loop, within what is left of the seconds.

    Args:
        calls: Of the function; its `item_s` and `failed` are known from here on.
        first: What the first calls have shown.

    Raises:
        TooSlow: One item takes longer than there is time.
    """
    second = first["second_s"]
    expected = second if second is not None else first["first_s"]
    _check_seconds(calls, expected)
    here = calls.take(1)
    start = perf_counter()
    results: list[Any] = []
    if here:
        try:
            results.append(calls.fn(here[0]))
        except loops.FAILURES:
            pass  # it counts among those that failed, below
    first_here = perf_counter() - start
    # The first call may have loaded something: what the next ones take is seen by making them.
    taken = calls.sample.take(calls.count(min(expected, first_here), least=3, most=400))
    # These two may be the shortest of all: where items are of very different cost, time ends it, and no number.
    total, times = loops.each(calls.fn, [item for _, item in taken], most_s=LEFT_PART * calls.left())
    count = len(times)
    calls.sample.called(index for index, _ in taken[:count])
    knows = second is not None and bool(times) and _knows(calls, second, times)
    if not times:  # there are no more items that may be called
        only = max(first_here if here else first["first_s"], 1e-9)
        calls.item_s = only
        return PlainLoop(Timing(1, only, only), results)
    calls.item_s = max(total.wall_s / count, 1e-9)
    if statistics.median(times) < SINGLE_S:
        size = calls.count(calls.item_s)
        parts = [part for part in (calls.take(size // 3) for _ in range(3)) if part]
        if blocks := [loops.loop(calls.fn, part) for part in parts]:
            count = sum(map(len, parts))  # there may be fewer items than time
            total = loops.Loop(*(sum(values) for values in zip(*(_values(block) for block in blocks), strict=True)))
    calls.item_s = max(total.wall_s / count, 1e-9)
    median = statistics.median(times)
    if knows:  # it must be measured with items that it has not seen
        calls.sample.repeat = False
    spread = statistics.pstdev(times) / statistics.fmean(times) if len(times) > 2 and median >= SINGLE_S else 0.0
    wall_s = _without_load(total, count)
    first_s = max(0.0, first_here - max(times)) if first_here > 3 * median else 0.0
    calls.failed = total.failed
    dropped_s = 0.0
    if first["bytes_out"] > pool_way.LARGE_RESULT and calls.fits(2):
        some = calls.take(calls.count(calls.item_s))
        dropped_s = _without_load(loops.loop(calls.fn, some, kept=False), len(some)) if some else 0.0
    cpu_s, system_s, switches = total.cpu_s / count, total.system_s / count, total.switches / count
    timing = Timing(count, wall_s, cpu_s, system_s, switches, spread, first_s, dropped_s)
    if first["bytes_out"] > pool_way.LARGE_RESULT and calls.fits(2):
        for item in calls.take(calls.count(calls.item_s, most=7)):
            try:
                results.append(calls.fn(item))
            except loops.FAILURES:
                continue
    return PlainLoop(timing, results, knows)


def _check_seconds(calls: Calls, expected: float) -> None:
    if calls.left() < LEAST_PART * calls.budget:
        spent = seconds_text(perf_counter() - calls.began)
        raise TooSlow(f"{spent} were over when the first worker was there: give it more time (budget)")
    if expected > 0.4 * calls.left():
        raise TooSlow(
            f"an item takes {seconds_text(expected)}: too long to measure in {seconds_text(calls.budget)} (budget)"
        )


def _knows(calls: Calls, second: float, times: Sequence[float]) -> bool:
    """Whether an item of the latest that were called takes next to nothing when it is called again.

    The second call on the first item alone does not tell: some items never take their time.
    """
    place = sorted(range(len(times)), key=times.__getitem__)[len(times) // 2]
    if times[place] <= 20e-6 or second >= 0.1 * times[place]:
        return False
    index, item = calls.sample.take_again()[place]
    calls.sample.called([index])
    return loops.each(calls.fn, [item])[1][0] < 0.1 * times[place]


def _without_load(total: loops.Loop, count: int) -> float:
    """Seconds of an item on a core of its own.

    One that gives up its core by itself waits, and that is its time. One that does not, and still has fewer processor
    seconds than passed, was held up by other programs.
    """
    waits = total.switches / count >= LEAST_SWITCHES
    return max((total.wall_s if waits else min(total.wall_s, max(total.cpu_s, 1e-9))) / count, 1e-9)


def _values(block: loops.Loop) -> tuple[float, float, float, int, int, int]:
    return block.wall_s, block.cpu_s, block.system_s, block.switches, block.failed, block.faults
