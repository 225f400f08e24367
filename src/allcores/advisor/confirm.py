"""The confirmation: settings against the loop, on real items, in rounds.

Each round runs the loop and every setting once, on items of the same number (the same items, where they may be called
again). The order within a round is shuffled, and each second round has the order of the one before reversed, so that
whatever drifts meets all alike. A fixed order alone has made the same program 20 to 40 % slower than itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from allcores.advisor.core_seconds import CoreSeconds, recorded_run
from allcores.advisor.measuring import loops, travel
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model import costs
from allcores.advisor.model.decision import Prediction, Setting
from allcores.advisor.model.intervals import ratio_interval
from allcores.advisor.model.probes import Probes
from allcores.advisor.model.verdict import of_whole_input, start_of
from allcores.pool.pool import Pool

#: rounds that are planned, and the most that are made
ROUNDS, MOST_ROUNDS = 9, 25
#: rounds after which a narrow interval is enough
ENOUGH_ROUNDS = 7
#: half of an interval, as part of the speed-up, that is narrow
NARROW = 0.025
#: chunks for each worker in a block, at least
BLOCK_CHUNKS = 16
#: items of a round at most
MOST_ITEMS = 500_000
#: so many times the start of workers is kept for a run that is recorded from there: its end takes some, too
RECORDING = 1.5
#: part of the seconds that are left which it may take
RECORDING_PART = 0.4
#: seconds of a loop in a round at least, if there are items for it: shorter ones measure the start of a map
LEAST_BLOCK_S = 0.1


@dataclass(slots=True)
class Run:
    """One run of a setting in a round."""

    round: int
    pattern: str
    workers: int
    started_s: float
    seconds: float
    items: int


@dataclass(slots=True)
class Confirmation:
    """What was measured.

    Attributes:
        ratios: Setting -> its speed-ups over the loop, for the whole input, one for each round.
        runs: All runs, in their order.
        hindered: Why there are none, as a sentence; None.
        block: Items of each run.
        core_seconds: Where the seconds of the first setting's workers went in a run from their start; None if there
            was no time.
    """

    ratios: dict[Prediction, list[float]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    hindered: str | None = None
    block: int = 0
    core_seconds: CoreSeconds | None = None


def confirm(
    fn: Callable[[Any], Any],
    sample: Sample,
    probes: Probes,
    settings: list[Prediction],
    *,
    pools: Mapping[bool, Pool],
    shared: Any,
    left: Callable[[], float],
    seed: int = 0,
) -> Confirmation:
    """Run settings against the loop for as long as there is time, and no longer than it takes to be sure.

    Args:
        fn: The function.
        sample: Its items.
        probes: What was measured so far.
        settings: Those with workers; the loop is run in any case.
        pools: Worker processes that are there, by whether they were preloaded.
        shared: What is in every item, for settings that share it.
        left: Seconds that are left.
        seed: Of the order.
    """
    found = Confirmation(ratios={setting: [] for setting in settings})
    item_s = probes.timing.wall_s
    recording_s = RECORDING * start_of(probes, settings[0]) + LEAST_BLOCK_S if settings else 0.0
    if recording_s > RECORDING_PART * left():
        recording_s = 0.0  # a verdict is worth more than a record
    block = _block(sample, probes, settings, left() - recording_s)
    least = max((setting.setting.workers for setting in settings), default=1)
    if block < min(least, sample.count):
        found.hindered = _too_few(sample, item_s, settings, left())
        return found
    found.block = block
    orders = _orders(len(settings) + 1, random.Random(seed))
    with ExitStack() as stack:
        ways: list[Callable[[list[Any]], object]] = [lambda items: loops.call_all(fn, items)]
        for each in settings:
            ways.append(_way(fn, each, block, pools, shared, stack))
        began = perf_counter()
        longest = 0.0
        for number in range(MOST_ROUNDS):
            before = perf_counter()
            if number and left() < 1.15 * longest + (recording_s if number >= ENOUGH_ROUNDS else 0.0):
                break
            seconds = _round(sample, ways, next(orders), block, found, settings, number, began)
            if seconds is None:
                break  # an input that may be called once only has come to its end
            for place, each in enumerate(settings, 1):
                start_s = start_of(probes, each)
                # A block has as many items as workers, or several times that; the whole input may have some over.
                over = costs.last_round(probes, each.setting.workers)
                ratio = of_whole_input(seconds[0] / max(seconds[place], 1e-9) / over, probes, start_s)
                found.ratios[each].append(ratio)
            longest = max(longest, perf_counter() - before)
            if number + 1 >= ENOUGH_ROUNDS and _are_narrow(found):
                break
    if not found.runs or not any(found.ratios.values()):
        found.hindered = _too_few(sample, item_s, settings, left())
    else:
        found.core_seconds = _recorded(fn, sample, probes, settings[0], block, shared, left())
    return found


def _recorded(
    fn: Callable[[Any], Any],
    sample: Sample,
    probes: Probes,
    prediction: Prediction,
    block: int,
    shared: Any,
    left_s: float,
) -> CoreSeconds | None:
    """A run of the first setting from its start, if there is time for one."""
    needed_s = RECORDING * start_of(probes, prediction)
    needed_s += block * probes.timing.wall_s / max(0.2, min(steady(probes, prediction), 64))
    if left_s < 1.15 * needed_s:
        return None
    taken = sample.take(block)
    if len(taken) < block:
        return None
    sample.called(index for index, _ in taken)
    setting = replace(prediction.setting, chunk=_block_chunk(prediction.setting, block))
    return recorded_run(fn, [item for _, item in taken], setting, shared)


def _block(sample: Sample, probes: Probes, settings: list[Prediction], left_s: float) -> int:
    """Items of each run: so many that the rounds that are planned fit into the seconds that are left."""
    item_s = max(probes.timing.wall_s, 1e-9)
    # of a setting whose workers are there: its start is not run again
    each = 1 + sum(1 / max(0.2, min(steady(probes, setting), 64)) for setting in settings)
    wanted = max(left_s * 0.9 / (ROUNDS * each), min(LEAST_BLOCK_S, left_s / 4))
    count = min(MOST_ITEMS, max(1, int(wanted / item_s)))
    least = max((setting.setting.workers for setting in settings), default=1)
    count = max(count, least) if least * item_s * each < left_s else count
    if not sample.repeat:
        rounds = 3 if (sample.left or 0) < 9 * (len(settings) + 1) * count else ROUNDS
        count = min(count, max(1, (sample.left or 0) // ((len(settings) + 1) * rounds)))
    # A number that does not fit the workers leaves some of them without an item at the end.
    return min(count // least * least or count, sample.count)


def steady(probes: Probes, prediction: Prediction) -> float:
    """The predicted speed-up without the start, about."""
    trials = probes.threads if prediction.setting.pattern == "threads" else probes.processes
    found = [trial.speedup for trial in trials if trial.workers == prediction.setting.workers]
    return found[0] if found else prediction.interval.speedup


def _orders(count: int, random_numbers: random.Random) -> Any:
    while True:
        order = list(range(count))
        random_numbers.shuffle(order)
        yield order
        yield order[::-1]


def _round(
    sample: Sample,
    ways: list[Callable[[list[Any]], object]],
    order: list[int],
    block: int,
    found: Confirmation,
    settings: list[Prediction],
    number: int,
    began: float,
) -> list[float] | None:
    """Seconds of each way in one round; None if there are too few items left."""
    if not sample.repeat and (sample.left or 0) < block * len(ways):
        return None
    seconds = [0.0] * len(ways)
    taken = sample.take(block) if sample.repeat else []
    for place in order:
        if not sample.repeat:
            taken = sample.take(block)
        elif sample.copied:
            taken = sample.take_again()
        items = [item for _, item in taken]
        sample.called(index for index, _ in taken)
        start = perf_counter()
        ways[place](items)
        seconds[place] = perf_counter() - start
        pattern, workers = ("serial", 1) if not place else (
            settings[place - 1].setting.pattern, settings[place - 1].setting.workers,
        )  # fmt: skip
        found.runs.append(Run(number, pattern, workers, start - began, seconds[place], len(items)))
    return seconds


def _way(
    fn: Callable[[Any], Any],
    prediction: Prediction,
    block: int,
    pools: Mapping[bool, Pool],
    shared: Any,
    stack: ExitStack,
) -> Callable[[list[Any]], object]:
    """What runs a setting over some items."""
    setting = prediction.setting
    if setting.pattern == "threads":
        pool = stack.enter_context(Pool(setting.workers, backend="threads", name="advice", logs=False))
        pool.map(abs, range(setting.workers))
    else:
        pool = pools[setting.preload]
    chunk = _block_chunk(setting, block)
    if setting.share and shared is not None:
        one = pool.share(shared)
        return lambda items: pool.map(
            fn, [travel.replaced(item, shared, one) for item in items], chunk=chunk, on_error="skip"
        )
    return lambda items: pool.map(fn, items, chunk=chunk, on_error="skip")


def _block_chunk(setting: Setting, block: int) -> int | None:
    """Of a block, a part of the input only: with chunks as long as for all of it, half of its time would be the end."""
    return None if setting.chunk is None else max(1, min(setting.chunk, block // (BLOCK_CHUNKS * setting.workers)))


def _are_narrow(found: Confirmation) -> bool:
    return all(ratio_interval(ratios).half_width < NARROW for ratios in found.ratios.values())


def _too_few(sample: Sample, item_s: float, settings: list[Prediction], left_s: float) -> str:
    workers = max((setting.setting.workers for setting in settings), default=1)
    if not sample.repeat and (sample.left or 0) < workers * (len(settings) + 1):
        return "there are too few items that were not called yet to confirm anything: give it more of them"
    return (
        f"{workers} items at a time take {item_s * workers:.1f} s in a loop and {max(0.0, left_s):.1f} s were left to"
        " confirm what is predicted: give it more time (budget)"
    )
