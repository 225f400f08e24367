"""A library's own way to use all cores beside the loop, in a process of its own that can be ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allcores.advisor.measuring import switches
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model.intervals import ratio_interval
from allcores.advisor.model.probes import Probes
from allcores.advisor.model.verdict import LibraryWay, of_whole_input
from allcores.pool.pool import Pool

#: pairs for a figure, at least
LEAST_PAIRS = 2
#: items that are sent there, at most
MOST_ITEMS = 2_000


def measure(
    fn: Callable[[Any], Any], function: str, sample: Sample, probes: Probes, left_s: float
) -> LibraryWay | None:
    """Run it for some seconds; None if the function has no such library, time was too short, or it failed.

    Args:
        fn: The function.
        function: Its name in code.
        sample: Items, which may be called again.
        probes: What was measured of the function.
        left_s: Seconds that may be used.
    """
    cores = probes.machine.cores
    if probes.travel.problem is not None or not sample.repeat:
        return None
    taken = sample.look(min(MOST_ITEMS, sample.count))
    items = [item for _, item in taken]
    switch = switches.find(fn, items, cores)
    spent_s = probes.start_s + 0.2
    if switch is None or left_s < 2 * spent_s:
        return None
    # Alone it has the threads of all cores, as in a program without workers.
    with Pool(1, name="advice", logs=False) as pool:
        arguments = (fn, items, cores, probes.timing.wall_s, left_s - 1.5 * spent_s)
        try:
            start_s, pairs = pool.call(switches.pairs, arguments, timeout=left_s - 0.5 * spent_s).result()
        except Exception:
            return None  # such as a pipeline that cannot be sent to the library's own processes
    if len(pairs) < LEAST_PAIRS:
        return None
    steady = [alone_s / max(own_s - start_s, 0.1 * own_s, 1e-9) for alone_s, own_s in pairs]
    measured = ratio_interval([of_whole_input(each, probes, start_s) for each in steady])
    return LibraryWay(switch.name, switch.code.format(function=function), measured, switch.whole, cores)
