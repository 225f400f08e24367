"""What to do: each pattern's prediction, and the table that chooses. The first row that fits counts.

Nothing here knows the name of a function; libraries are known by what they offer, and what was measured decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from allcores.advisor.model import costs
from allcores.advisor.model.intervals import Interval, spread_interval
from allcores.advisor.model.memory import room_for
from allcores.advisor.model.probes import Probes, Trial
from allcores.formatting import precise_seconds_text, seconds_text, size_text

#: a speed-up below this is not worth what a second process brings along
WORTH = 1.15
#: CPU seconds per second from which on a function has threads of its own
OWN_THREADS = 1.3
#: seconds that another thread comes late, from which on the function holds the interpreter's lock
HOLDS_S = 0.002
#: speed-up of a trial from which on threads are as good as processes
THREADS_PAY = 1.6
#: and below which a trial shows no gain
NO_GAIN = 1.3
#: threads for a function that waits, at most
MOST_WAITING = 32
#: of the first choice's speed-up, from which on another pattern is confirmed beside it, however sure both are
CLOSE = 0.8
#: a first call that takes this many seconds longer is a load
LOAD_S = 0.1
#: bytes of one object in every item from which on it is shared
SHARE_BYTES = 64 << 10
#: standard deviation of the logarithm of predicted over measured speed-ups, on a quiet machine
MODEL_DEVIATION = 0.055
#: of the deviation between the three pairs of a trial, what the middle of them has, and what is measured afterwards
TRIAL_PART = 0.8
#: of a start of workers, of the way of items, and of what the kernel takes of a function's seconds: how far these parts
#: are off when the whole input is run
START_PART, WAY_PART, KERNEL_PART = 0.2, 0.15, 0.25
#: of the logarithm of what threads were spared of page faults: another process may be spared all of it, or nothing
SPARED_PART = 0.3
#: the same of what waits for a device or another program: a sleep alone takes what it says
DEVICE_DEVIATION = 0.2


@dataclass(frozen=True, slots=True)
class Setting:
    """How to run it.

    Attributes:
        pattern: "serial", "threads", "processes" or "library".
        workers: How many; 1 in a loop.
        chunk: Items that travel together; None where nothing travels, or where chunks size themselves.
        share: What is in every item is shared once.
        preload: The first call is made once, before the workers are forked.
    """

    pattern: str
    workers: int = 1
    chunk: int | None = None
    share: bool = False
    preload: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a setting is predicted to do.

    Attributes:
        setting: Which.
        interval: The speed-up over the loop, and 90 %.
        seconds: Of the whole input; infinite if that has no known length.
        limit: What holds it up, as a clause.
    """

    setting: Setting
    interval: Interval
    seconds: float
    limit: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be confirmed.

    Attributes:
        kind: What kind of work it is: "python", "released", "waiting", "device", "threaded" or "memory".
        predictions: Of each pattern that can be used, the best first.
        chosen: The first choice.
        second: The runner-up, None if there is only the loop.
        reasons: Sentences, each with its figures.
        impossible: Pattern -> why it cannot be used.
        certain: It is so small, or so structural, that load on the machine cannot change it.
    """

    kind: str
    predictions: tuple[Prediction, ...]
    chosen: Prediction
    second: Prediction | None
    reasons: tuple[str, ...]
    impossible: dict[str, str]
    certain: bool = False


def kind_of(probes: Probes) -> str:
    """The kind of work, from CPU seconds, switches, the late thread and the trials."""
    timing = probes.timing
    busy = timing.cpu_s / timing.wall_s if timing.wall_s > 0 else 1.0
    two_threads = speedup_of(probes.threads, 2)
    two_processes = speedup_of(probes.processes, 2)
    if busy > OWN_THREADS:
        return "threaded"
    if timing.waits:
        return "device" if two_threads is not None and two_threads < NO_GAIN else "waiting"
    if probes.late_s is not None and probes.late_s >= HOLDS_S:
        return "python"
    if two_threads is not None and two_threads >= THREADS_PAY:
        return "released"
    quiet = probes.machine.others < costs.BUSY_PART * probes.machine.cores  # else other programs may be the limit
    if quiet and two_threads is not None and two_processes is not None and max(two_threads, two_processes) < NO_GAIN:
        return "memory"
    return "python"


def speedup_of(trials: Iterable[Trial], workers: int) -> float | None:
    """Of the trial with so many workers; None if there was none."""
    return next((trial.speedup for trial in trials if trial.workers == workers), None)


def decide(probes: Probes) -> Decision:
    """The pattern to use, with how sure it is, and why."""
    kind = kind_of(probes)
    impossible = _impossible(probes, kind)
    reasons = [_kind_reason(probes, kind)]
    predictions = [_serial(probes, kind)]
    if "threads" not in impossible:
        predictions += _threads(probes, kind)
    if "processes" not in impossible:
        predictions += _processes(probes, kind, reasons)
    loop, *others = predictions
    others.sort(key=lambda each: -each.interval.speedup)
    best = others[0] if others else None
    if best is not None and best.setting.pattern == "processes":
        best = _rather_threads(others, best, reasons)
        others = [best, *(each for each in others if each is not best)]
    certain = _is_certain(probes, others)
    if best is None or best.interval.speedup < WORTH:
        chosen, second = loop, best
    else:
        chosen, second = best, _second(loop, others)
    return Decision(kind, (loop, *others), chosen, second, tuple(reasons), impossible, certain)


def _second(loop: Prediction, others: list[Prediction]) -> Prediction:
    """What is compared with the first choice besides the loop: the best of another pattern that may be as quick."""
    first = others[0]
    for each in others[1:]:
        close = each.interval.speedup > CLOSE * first.interval.speedup
        if each.setting.pattern != first.setting.pattern and (close or each.interval.high > first.interval.low):
            return each
    return loop


def _rather_threads(others: list[Prediction], best: Prediction, reasons: list[str]) -> Prediction:
    """Threads, where they come within a hair of processes: nothing is pickled, and there is one copy of everything."""
    for each in others:
        if each.setting.pattern == "threads" and each.interval.speedup >= 0.97 * best.interval.speedup:
            reasons.append("threads are as fast as processes here, and copy nothing")
            return each
    return best


def _impossible(probes: Probes, kind: str) -> dict[str, str]:
    found = {}
    if probes.travel.problem is not None:
        found["processes"] = probes.travel.problem
    elif probes.machine.cores < 2 and kind != "waiting":
        found["processes"] = "there is one core"
    preload = _preloads(probes)
    if "processes" not in found and room_for(probes, preload=preload) < 2:
        found["processes"] = (
            f"a worker takes {size_text(_own(probes, preload))} to itself, and"
            f" {size_text(probes.machine.memory or 0)} are available"
        )
    # as fast as a trial lets threads be: pairs that are far apart prove nothing against them
    reached = max((_at_most(trial) for trial in probes.threads if trial.workers == 2), default=0.0)
    holds = probes.late_s is not None and probes.late_s >= HOLDS_S
    # a trial on a busy machine proves nothing; that another thread came late does
    busy = probes.machine.others >= costs.BUSY_PART * probes.machine.cores
    # as slow as a trial lets threads be
    surely = max((_at_least(probes, trial) for trial in probes.threads if trial.workers == 2), default=0.0)
    if kind == "threaded" and surely < THREADS_PAY:
        # A trial may go well, and the next run take a third longer: both spin while they wait for a core. Not so where
        # the library's own threads do nothing but spin: then two of the function's are twice as fast, time and again.
        found["threads"] = "the function has threads of its own, with which they would compete for the cores"
    if kind == "python" and (reached < WORTH or (holds and (busy or reached < NO_GAIN))):
        found["threads"] = _holds(probes)
    return found


def _at_most(trial: Trial) -> float:
    """The upper end of what a trial says."""
    return spread_interval(trial.speedup, TRIAL_PART * min(0.3, trial.deviation)).high


def _at_least(probes: Probes, trial: Trial) -> float:
    """The lower end of what a trial with threads says; all of its deviation counts, for this is to be a proof."""
    return spread_interval(costs.reached_by(probes, trial), min(0.3, trial.deviation)).low


def _holds(probes: Probes) -> str:
    two = speedup_of(probes.threads, 2)
    trial = "" if two is None else f"; two threads were {two:.2f} times as fast as one"
    if probes.late_s is None or probes.late_s < HOLDS_S:
        return f"the function gives up the interpreter's lock in pieces that are too small{trial}"
    in_c = probes.late_s > 0.012 and probes.machine.others < 0.2
    call = " in one call of C code" if in_c else ""
    late = precise_seconds_text(probes.late_s)
    return f"the function holds the interpreter's lock{call} (another thread came {late} late){trial}"


def _seconds(probes: Probes, seconds: float) -> float:
    return math.inf if probes.items is None else seconds


def _serial(probes: Probes, kind: str) -> Prediction:
    seconds = costs.loop_seconds(probes)
    limit = {"threaded": "its own threads", "device": "the device", "memory": "memory"}.get(kind, "one core")
    pattern = "library" if kind == "threaded" else "serial"
    return Prediction(Setting(pattern), Interval(1.0, 1.0, 1.0), _seconds(probes, seconds), limit)


def deviation(
    probes: Probes, pattern: str = "processes", cost: costs.Cost | None = None, start_part: float = 0.0
) -> float:
    """Of the logarithm of a predicted speed-up: each source of error by itself, as they are independent.

    Args:
        probes: What was measured.
        pattern: "threads" or "processes".
        cost: Of processes, for what their start and the way have a part in; None without.
        start_part: Of threads, the part of the seconds that is their start.
    """
    timing = probes.timing
    trials = probes.threads if pattern == "threads" else probes.processes
    trial = max((each.deviation for each in trials), default=0.0)
    sources = [
        MODEL_DEVIATION,
        min(0.3, timing.spread / math.sqrt(max(1, timing.items))),
        0.5 * probes.machine.others / max(1, probes.machine.cores),
        TRIAL_PART * min(0.3, trial),
    ]
    if not timing.waits:
        # Page faults of large objects: what they take depends on what the allocator has kept, in each process anew.
        sources.append(KERNEL_PART * min(1.0, timing.system_s / max(timing.wall_s, 1e-9)))
    elif not probes.traits.sleeps:
        sources.append(DEVICE_DEVIATION)
    if pattern == "threads":
        sources.append(SPARED_PART * max((math.log(costs.spared(probes, each)) for each in trials), default=0.0))
    if cost is not None:
        way = cost.transport_in + cost.transport_out + cost.dispatch + cost.worker_transport
        sources.append(WAY_PART * way / max(way + cost.work, 1e-12))
        start_part = cost.start / max(cost.seconds, 1e-12)
    sources.append(START_PART * start_part)
    return math.hypot(*sources)


def _threads(probes: Probes, kind: str) -> list[Prediction]:
    if not probes.threads:
        return []
    numbers = [min(probes.machine.cores, 64)]
    if kind == "waiting":
        numbers = [trial.workers for trial in probes.threads if trial.workers > 1]
    best: Prediction | None = None
    for workers in numbers:
        if workers < 2:
            continue
        seconds = costs.threads_seconds(probes, workers)
        assert seconds is not None
        start_part = costs.threads_start(probes, workers) / max(seconds, 1e-12)
        spread = deviation(probes, "threads", start_part=start_part)
        interval = spread_interval(costs.loop_seconds(probes) / seconds, spread)
        limit = "waiting" if kind == "waiting" else "the cores"
        found = Prediction(Setting("threads", workers), interval, _seconds(probes, seconds), limit)
        if best is None or interval.speedup > 1.05 * best.interval.speedup:
            best = found
    return [] if best is None else [best]


def _processes(probes: Probes, kind: str, reasons: list[str]) -> list[Prediction]:
    preload = _preloads(probes)
    workers = min(max(2, probes.machine.cores), room_for(probes, preload=preload), max(1, costs.count_of(probes)))
    if workers < 2:
        return []
    if workers < probes.machine.cores and workers < costs.count_of(probes):
        reasons.append(
            f"{workers} workers, for each takes {size_text(_own(probes, preload))} to itself of the"
            f" {size_text(probes.machine.memory or 0)} that are available"
        )
    share = probes.travel.common_bytes >= SHARE_BYTES
    chunk = costs.chunk_for(probes, workers)
    cost = costs.processes_cost(probes, workers, chunk=chunk, preload=preload, share=share)
    interval = spread_interval(costs.loop_seconds(probes) / max(cost.seconds, 1e-12), deviation(probes, cost=cost))
    limit = {"parent": _way(probes), "workers": "the workers", "cores": "the cores"}[cost.limit]
    if cost.transport_in + cost.transport_out + cost.worker_transport > 0.3 * cost.work:
        limit = _way(probes)
    if cost.start > cost.seconds / 2:
        limit = "their start"
    setting = Setting("processes", workers, chunk, share, preload)
    return [Prediction(setting, interval, _seconds(probes, cost.seconds), limit)]


def _preloads(probes: Probes) -> bool:
    """Whether the first call is made before workers are forked."""
    loads = probes.timing.first_s >= max(LOAD_S, 10 * probes.timing.wall_s)
    # A library that starts threads while it loads cannot be forked: then each worker loads it, after the first has.
    return loads and probes.warm_start_s is not None and probes.warm_start_s < probes.start_s


def _own(probes: Probes, preload: bool) -> int:
    """What a worker has to itself."""
    return probes.warm_worker_bytes if preload and probes.warm_worker_bytes > 0 else probes.worker_bytes


def _way(probes: Probes) -> str:
    travel = probes.travel
    if travel.way_out_s > travel.way_in_s:
        return f"results, {size_text(round(travel.bytes_out))} each, on their way back"
    return f"items, {size_text(round(travel.bytes_in))} each, on their way to workers"


def _is_certain(probes: Probes, others: list[Prediction]) -> bool:
    """Whether a loop is right whatever the machine does meanwhile: even at their best workers would not be worth it."""
    return all(costs.at_best(probes, each.setting.workers, each.setting.pattern) < WORTH for each in others)


def _kind_reason(probes: Probes, kind: str) -> str:
    timing = probes.timing
    item = precise_seconds_text(timing.wall_s)
    busy = timing.cpu_s / timing.wall_s if timing.wall_s > 0 else 1.0
    if kind == "threaded":
        return f"an item takes {item} on {busy:.1f} cores: the function has threads of its own"
    if kind == "waiting":
        return f"an item takes {item}, of which it computes {100 * busy:.0f} %: it waits"
    if kind == "device":
        return f"an item takes {item} and mostly waits, and two at a time wait as long: the device is the limit"
    if kind == "memory":
        return f"an item takes {item}, and two at a time are no faster, in threads or processes: memory is the limit"
    if kind == "released":
        return f"an item takes {item} and gives up the interpreter's lock while it computes"
    computes = f"an item takes {item} and computes {100 * min(1.0, busy):.0f} % of it"
    holds = probes.late_s is not None and probes.late_s >= HOLDS_S
    return f"{computes} with the interpreter's lock" if holds else computes


def needed(probes: Probes, decision: Decision) -> str | None:
    """For "don't": how large the input must be, or how slow an item, for workers to be worth it. None if never."""
    others = [each for each in decision.predictions if each.setting.workers > 1]
    if not others:
        return None
    best = others[0].setting
    item_s = probes.timing.wall_s
    if best.pattern == "threads":
        return None
    cost = costs.processes_cost(_endless(probes), best.workers, chunk=None, preload=best.preload, share=best.share)
    steady = costs.MANY * item_s / cost.seconds if cost.seconds else 0.0
    start = probes.start_s if probes.warm_start_s is None else min(probes.start_s, probes.warm_start_s)
    count = costs.least_items(start, item_s, steady, WORTH)
    if count is not None:
        have = "" if probes.items is None else f"; there are {probes.items:,}"
        if probes.items is None or count > probes.items:
            return f"it pays from about {_rounded(count):,} items on ({seconds_text(count * item_s)} of work){have}"
    if decision.kind in ("memory", "device", "threaded"):
        return None
    least = costs.least_item_seconds(probes, best.workers, WORTH)
    if least is not None and least > item_s:
        return f"it would pay if an item took {precise_seconds_text(least)} or more, not {precise_seconds_text(item_s)}"
    return None


def _endless(probes: Probes) -> Probes:
    return replace(probes, items=None, start_s=0.0, warm_start_s=None)


def _rounded(count: int) -> int:
    """Two digits that count: more would be claimed than is known."""
    digits = max(0, len(str(count)) - 2)
    unit: int = 10**digits
    return -(-count // unit) * unit
