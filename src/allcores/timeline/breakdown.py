"""Where the time of the workers went, and one sentence on what kept them from doing more.

The run is cut into bins. In each, a worker's time is in the function, on the way (work that it has, but not in the
function), starting, or idle. Idle time gets its reason from what the reading thread did in that bin, and from
whether there was input left at all.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

from allcores.timeline.reader import MapFacts, Recording

#: bins of a run; more shows shorter changes and makes the report larger
BINS = 300


#: processor seconds of a shorter run say little: they are sampled, and counted in hundredths
LONG_ENOUGH_S = 2.0


@dataclass(frozen=True, slots=True)
class Use:
    """A part of the workers' time.

    Attributes:
        key: Short, stable.
        title: For people.
        meaning: For people.
        seconds: Of all workers.
    """

    key: str
    title: str
    meaning: str
    seconds: float


#: key, title, meaning; in the order in which they are drawn
USES = (
    ("function", "Function", "in the function that was called"),
    (
        "transport",
        "Pickling and transport",
        "with work, outside of the function: unpickling, pickling, pipes, waiting for the parent to see a report",
    ),
    ("start", "Start-up", "until a worker was ready: its start and setup, also of replacements"),
    ("input", "Waiting for input", "idle, while the parent waited for the input's next item"),
    ("parent", "Waiting for the parent", "idle, while the parent pickled items or did other things"),
    ("held", "Held back", "idle, since results waited for an earlier one, or to be read"),
    ("tail", "Idle at the end", "idle, when there was no input left"),
    ("none", "No map", "idle, while no map was open"),
    ("unstarted", "Cores without a worker", "cores of the budget for which there was no worker"),
)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The sum of a run.

    Attributes:
        begin: The pool's opening.
        seconds: From there to the end of its last work.
        uses: Where the time went, largest meaning first as in USES; those with nothing are left out.
        available: Seconds of all workers and of cores without one.
        efficiency: Seconds in the function as part of the core budget's seconds, or of the workers' if they are more;
            `whose` says which.
        cpu: Processor seconds of workers, None if unknown.
        unseen: What they may have used besides, between the last sample of each and its end.
        items: Attempts.
        failed: Attempts.
        rates: Items per second, by bin of `width` seconds.
        limit: The sentence.
    """

    begin: float
    seconds: float
    width: float
    uses: list[Use]
    available: float
    efficiency: float
    cpu: float | None
    items: int
    failed: int
    rates: list[float]
    failures: list[float]
    limit: str
    whose: str
    unseen: float = 0.0

    @property
    def busy(self) -> float:
        """Seconds in the function."""
        return next((use.seconds for use in self.uses if use.key == "function"), 0.0)


class _Bins:
    """Amounts over time."""

    def __init__(self, begin: float, width: float, count: int) -> None:
        self.begin, self.width = begin, width
        self.values = [0.0] * count

    def spread(self, begin: float, end: float, amount: float) -> None:
        """Add `amount`, evenly from begin to end; what lies outside is cut off."""
        last = len(self.values) - 1
        first_at, last_at = (begin - self.begin) / self.width, (end - self.begin) / self.width
        if last_at <= 0 or first_at > last:
            if first_at > last and first_at <= last + 1.000001:
                self.values[last] += amount
            return
        if last_at - first_at < 1e-9:
            self.values[min(last, max(0, int(first_at)))] += amount
            return
        share = amount / (last_at - first_at)
        position = max(0.0, first_at)
        while position < last_at:
            number = int(position)
            if number > last:
                return
            until = min(last_at, number + 1.0)
            self.values[number] += share * (until - position)
            position = until

    def cover(self, intervals: Iterable[tuple[float, float]]) -> None:
        """Add the seconds that the union of the intervals has in each bin."""
        until = float("-inf")
        for begin, end in sorted(intervals):
            if end > until:
                self.spread(max(begin, until), end, end - max(begin, until))
                until = end


def breakdown(recording: Recording) -> Breakdown:
    """Add up a recording."""
    begin = recording.begin
    spans = [span for lane in recording.lanes.values() for span in lane.spans]
    ends = [span.end for span in spans] + [
        one_map.end for one_map in recording.maps.values() if one_map.end is not None
    ]
    # A run that was cut off is looked at up to its last sign of life; what comes after the last map is nobody's.
    end = max([recording.end if not recording.complete or not ends else max(ends), begin + 1e-6])
    seconds = end - begin
    width = seconds / BINS

    def bins() -> _Bins:
        return _Bins(begin, width, BINS)

    occupied, busy, starting, items, failures, there = bins(), bins(), bins(), bins(), bins(), bins()
    for lane in recording.lanes.values():
        for span in lane.spans:
            occupied.spread(span.begin, span.end, span.occupied)
            busy.spread(span.begin, span.end, span.busy)
            items.spread(span.begin, span.end, span.items)
            failures.spread(span.begin, span.end, span.failed)
        for seat in lane.seats:
            starting.spread(seat.since, min(seat.ready, end), max(0.0, min(seat.ready, end) - seat.since))
        stays = [(begin, end)] if lane.number <= recording.workers else _stays(recording, lane.number, end)
        there.cover(stays)
        if lane.number <= recording.workers and not lane.seats and lane.spans and recording.backend != "serial":
            starting.spread(begin, lane.spans[0].begin, lane.spans[0].begin - begin)

    maps = list(recording.maps.values())
    opened, fed = bins(), bins()
    opened.cover(
        _open(
            maps,
            spans_end=end,
            calls=[(span.begin, span.end) for span in spans if span.map_number not in recording.maps],
        )
    )
    fed.cover((one_map.begin, one_map.input_end or one_map.end or end) for one_map in maps)
    pull, pack, held = bins(), bins(), bins()
    for read in recording.reads:
        for kept, amount in ((pull, read.pull), (pack, read.pack), (held, read.held)):
            kept.spread(read.begin, read.end, amount)

    sums = dict.fromkeys((use[0] for use in USES), 0.0)
    sums["function"] = sum(busy.values)
    sums["transport"] = max(0.0, sum(occupied.values) - sums["function"])
    sums["start"] = sum(starting.values)
    sums["unstarted"] = max(0, recording.cores - recording.workers) * seconds
    for number in range(BINS):
        idle = there.values[number] - occupied.values[number] - starting.values[number]
        if idle <= 0:
            continue
        open_part = min(1.0, opened.values[number] / width)
        fed_part = min(open_part, fed.values[number] / width)
        sums["none"] += idle * (1 - open_part)
        sums["tail"] += idle * (open_part - fed_part)
        reading = fed_part * width
        reasons = [pull.values[number], held.values[number]]
        # The rest of the reading thread's time is its own: pickling, handing over, and what its caller does.
        reasons.append(max(pack.values[number], reading - sum(reasons)))
        total = sum(reasons) or 1.0
        for key, reason in zip(("input", "held", "parent"), reasons, strict=True):
            sums[key] += idle * fed_part * reason / total

    uses = [Use(key, title, meaning, sums[key]) for key, title, meaning in USES if sums[key] > 1e-6]
    available = sum(use.seconds for use in uses)
    # More workers than cores are there to wait for something: then what they could have done counts.
    efficiency = sums["function"] / (max(recording.cores, recording.workers) * seconds)
    cpu = recording.memory[-1].cpu if recording.memory and recording.memory[-1].cpu > 0 else None
    unseen = 0.0 if cpu is None else _unseen(recording)
    return Breakdown(
        begin,
        seconds,
        width,
        uses,
        available,
        efficiency,
        cpu,
        recording.counts.get("attempts", 0),
        recording.counts.get("failed", 0),
        [value / width for value in items.values],
        [value / width for value in failures.values],
        _limit(recording, sums, available, None if cpu is None else cpu + unseen, seconds),
        "workers'" if recording.workers > recording.cores else "core budget's",
        unseen,
    )


def _unseen(recording: Recording) -> float:
    """Seconds between the last sample of each worker and its end: workers that live shortly are seen in part."""
    times = [sample.time for sample in recording.memory]
    found, number = 0.0, 0
    for lane in recording.lanes.values():
        ready = {seat.worker: seat.ready for seat in lane.seats}
        for time, worker, _ in lane.gone:
            before = bisect.bisect_right(times, time)
            last = max(times[before - 1] if before else recording.begin, ready.get(worker, recording.begin))
            found += max(0.0, time - last)
            number += 1
    # Of very many only the first have rows.
    return found * max(1.0, recording.counts.get("workers_ended", 0) / number) if number else 0.0


def _stays(recording: Recording, number: int, end: float) -> list[tuple[float, float]]:
    """When there was a worker on a lane beyond the pool's size."""
    lane = recording.lanes[number]
    ended = {worker: time for time, worker, _ in lane.gone}
    return [(seat.ready, min(end, ended.get(seat.worker, end))) for seat in lane.seats if seat.ready < end]


def _open(maps: list[MapFacts], *, spans_end: float, calls: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """When anything was asked of the pool: maps that were open, and submitted calls that ran."""
    return [(one_map.begin, one_map.end if one_map.end is not None else spans_end) for one_map in maps] + calls


#: what follows "Most of the rest, so and so many percent, was "
_LIMITS = {
    "transport": "pickling and transport: send less per item, share large data, or give each call more to do.",
    "input": "waiting for the input, which is too slow for so many workers.",
    "parent": (
        "waiting for the parent, which pickles items and reads results: give each call more to do, or do less between "
        "two results."
    ),
    "held": (
        "held back by results that waited for an earlier one or to be read: try an unordered stream, or read faster."
    ),
    "start": "start-up: keep the pool for longer, or make its setup lighter.",
    "unstarted": "cores without a worker: give the pool more.",
    "none": "between maps, when nothing was asked of the pool.",
}


def _limit(recording: Recording, sums: dict[str, float], available: float, cpu: float | None, seconds: float) -> str:
    """What kept the cores from doing more, in one sentence."""
    busy = sums["function"]
    if not available or not (busy or recording.counts.get("attempts")):
        return "Nothing was run."
    worst = max((key for key in sums if key != "function"), key=lambda key: sums[key])
    if cpu is not None and seconds > LONG_ENOUGH_S and cpu < 0.6 * busy and busy - cpu > sums[worst]:
        used = f"{100 * cpu / busy:.0f} %"
        if recording.workers > recording.cores:
            return (
                f"The function had a processor for {used} of its time only: it waits for something, or "
                f"{recording.workers} workers share {recording.cores} cores."
            )
        return (
            f"The function had a processor for {used} of its time only: if it waits for a disk or a network, more "
            "workers would help; if other programs take the cores, they would not."
        )
    if busy >= 0.9 * available:
        return f"Nothing to speak of stood in the way: {100 * busy / available:.0f} % of the workers' time was work."
    begin = f"Most of the rest, {100 * sums[worst] / available:.0f} %, was "
    if worst != "tail":
        return begin + _LIMITS[worst]
    slow = recording.slowest[0] if recording.slowest else None
    which = f" (the slowest: item {slow.first}, {slow.seconds:.3g} s)" if slow is not None and slow.items == 1 else ""
    return f"{begin}idle time at the end, behind the last items{which}: put long items first."
