"""Shapes of the report's charts, as numbers and SVG paths; the templates put them on the page.

Pictures are stretched to the page's width, so they hold no text: labels are HTML. Their size does not grow with
the run: what is too much to be drawn one by one is drawn as one path per lane, a column per fraction of the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from allcores.formatting import axis_text, precise_seconds_text
from allcores.timeline.aggregates import bucket_ns
from allcores.timeline.breakdown import Breakdown
from allcores.timeline.file import SEVERAL
from allcores.timeline.reader import Lane, Recording, Span

#: width and height of a picture, in its own units
WIDTH, HEIGHT = 1000, 100
#: spans that are drawn one by one, at most, all lanes together
MOST_SPANS = 1_200
#: columns of all lanes together, and of one, if they are too many
MOST_CELLS, MOST_COLUMNS = 24_000, 500
#: lanes that are drawn
MOST_LANES = 256
#: bars of the histogram
MOST_BARS = 24


@dataclass(slots=True)
class Box:
    """A rectangle with a text that is shown when it is pointed at; x and width in the picture's units."""

    x: float
    width: float
    filled: float
    text: str


@dataclass(slots=True)
class Strip:
    """A lane as it is drawn.

    Attributes:
        boxes: Spans one by one; or paths: function, and work outside of it on top.
    """

    number: int
    summary: str
    boxes: list[Box] = field(default_factory=list)
    function: str = ""
    transport: str = ""
    starts: list[Box] = field(default_factory=list)
    marks: list[tuple[float, str, str]] = field(default_factory=list)
    items: int = 0
    failed: int = 0
    busy: float = 0.0
    occupied: float = 0.0
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram or a Pareto chart.

    Attributes:
        part: Of the longest bar, 0 to 100.
    """

    label: str
    count: int
    part: float


def strips(recording: Recording, summed: Breakdown) -> list[Strip]:
    """The lanes."""
    lanes = [lane for _, lane in sorted(recording.lanes.items())][:MOST_LANES]
    one_by_one = sum(len(lane.spans) for lane in lanes) <= MOST_SPANS
    columns = max(60, min(MOST_COLUMNS, MOST_CELLS // max(1, len(lanes))))
    drawn = {lane.number: _strip(lane, summed, columns, one_by_one) for lane in lanes}
    seen: set[tuple[int | None, str, int]] = set()
    for mark in recording.marks:
        x = _x(mark.time, summed)
        if mark.lane in drawn and mark.what != "retry" and (key := (mark.lane, mark.what, round(x / 6))) not in seen:
            seen.add(key)
            # The pool's own end is no event.
            if mark.time <= summed.begin + summed.seconds:
                drawn[mark.lane].marks.append((round(x, 1), "ended" if mark.what == "ended" else "failed", mark.text))
    return list(drawn.values())


def _strip(lane: Lane, summed: Breakdown, columns: int, one_by_one: bool) -> Strip:
    items, failed = sum(span.items for span in lane.spans), sum(span.failed for span in lane.spans)
    busy, occupied = sum(span.busy for span in lane.spans), sum(span.occupied for span in lane.spans)
    share = 100 * busy / summed.seconds
    name = f"Lane {lane.number}" if lane.actor is None else f"Lane {lane.number}, {lane.actor}"
    summary = f"{name}: {items:,} items, {busy:.3g} s in the function, {share:.0f} % of the time"
    strip = Strip(
        lane.number, summary, items=items, failed=failed, busy=busy, occupied=occupied,
        workers=max(len(lane.seats), len({span.worker for span in lane.spans})),
    )  # fmt: skip
    for seat in lane.seats:
        begin, end = _x(seat.since, summed), _x(seat.ready, summed)
        if end - begin > 0.05 and len(strip.starts) < 200:
            text = f"start-up of worker {seat.worker}: {seat.ready - seat.since:.3g} s"
            strip.starts.append(Box(round(begin, 1), round(end - begin, 2), 0, text))
    if one_by_one:
        strip.boxes = [_box(span, summed) for span in lane.spans]
        return strip
    filled, used = [0.0] * columns, [0.0] * columns
    width = summed.seconds / columns
    for span in lane.spans:
        _lay(filled, summed.begin, width, span.begin, span.end, span.busy)
        _lay(used, summed.begin, width, span.begin, span.end, span.occupied)
    low = [min(1.0, value / width) for value in filled]
    high = [min(1.0, max(value / width, one)) for value, one in zip(used, low, strict=True)]
    strip.function = _columns([0.0] * columns, low)
    strip.transport = _columns(low, high)
    return strip


def _box(span: Span, summed: Breakdown) -> Box:
    begin, end = _x(span.begin, summed), _x(span.end, summed)
    failed = f", {span.failed} failed" if span.failed else ""
    seconds = span.end - span.begin
    whose = "several maps" if span.map_number == SEVERAL else f"map {span.map_number}"
    text = (
        f"{span.items:,} item{'s' * (span.items != 1)}{failed}, {whose}, worker {span.worker}: "
        f"{precise_seconds_text(seconds)}, of these {precise_seconds_text(span.busy)} in the function"
    )
    width = max(0.2, end - begin)
    # As tall as the part of it that was not idle or on the way.
    return Box(round(begin, 2), round(width, 2), round(HEIGHT * min(1.0, span.busy / max(1e-9, seconds)), 1), text)


def _x(time: float, summed: Breakdown) -> float:
    return max(0.0, min(float(WIDTH), WIDTH * (time - summed.begin) / summed.seconds))


def _lay(cells: list[float], begin: float, width: float, start: float, end: float, amount: float) -> None:
    """Spread an amount over the cells from start to end."""
    first, last = (start - begin) / width, (end - begin) / width
    length = max(1e-9, last - first)
    position = max(0.0, first)
    while position < last and int(position) < len(cells):
        until = min(last, int(position) + 1.0)
        cells[int(position)] += amount * (until - position) / length
        position = until


def _columns(low: Sequence[float], high: Sequence[float]) -> str:
    """A path of columns from low to high (parts of the height); equal neighbours are one."""
    parts: list[str] = []
    step = WIDTH / len(high)
    start = 0
    for number in range(1, len(high) + 1):
        one = (round(low[start], 2), round(high[start], 2))
        if number < len(high) and (round(low[number], 2), round(high[number], 2)) == one:
            continue
        if one[1] > one[0]:
            x, width = round(start * step, 1), round((number - start) * step, 1)
            top, bottom = round(HEIGHT * (1 - one[1])), round(HEIGHT * (1 - one[0]))
            parts.append(f"M{x:g} {bottom}V{top}h{width:g}V{bottom}z")
        start = number
    return "".join(parts)


def area(values: Sequence[float], top: float) -> str:
    """A filled step curve of values over the whole width; `top` is at the upper edge."""
    step = WIDTH / max(1, len(values))
    parts = [f"M0 {HEIGHT}"]
    for number, value in enumerate(values):
        y = round(HEIGHT * (1 - min(1.0, value / top if top > 0 else 0.0)), 1)
        parts.append(f"V{y:g}H{round((number + 1) * step, 1):g}")
    return "".join(parts) + f"V{HEIGHT}z"


def line(points: Iterable[tuple[float, float]], summed: Breakdown, top: float) -> str:
    """A line through (time, value) points."""
    parts = [
        f"{_x(time, summed):.1f} {HEIGHT * (1 - min(1.0, value / top if top > 0 else 0.0)):.1f}"
        for time, value in points
    ]
    return "M" + "L".join(parts) if len(parts) > 1 else ""


def bars(histogram: dict[int, int]) -> list[Bar]:
    """Item times, from the shortest to the longest bucket that has any."""
    if not histogram:
        return []
    low, high = min(histogram), max(histogram)
    step = 1
    while (high // step) - (low // step) + 1 > MOST_BARS:
        step += 1
    sums: dict[int, int] = dict.fromkeys(range(low // step, high // step + 1), 0)
    for bucket, count in histogram.items():
        sums[bucket // step] += count
    most = max(sums.values())
    found = []
    for group, count in sums.items():
        begin, end = bucket_ns(group * step)[0], bucket_ns(group * step + step - 1)[1]
        label = f"{precise_seconds_text(begin / 1e9)} – {precise_seconds_text(end / 1e9)}"
        found.append(Bar(label, count, round(100 * count / most, 2)))
    return found


def ticks(seconds: float, most: int = 6) -> list[tuple[float, str]]:
    """Places (percent) and labels of a time axis."""
    if seconds <= 0:
        return []
    raw = seconds / most
    magnitude = 10.0 ** math.floor(math.log10(raw))
    steps = [magnitude * factor for factor in (1, 2, 5, 10)]
    if raw > 10:
        steps = [15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400]
    step = next((each for each in steps if each >= raw), raw)
    found = []
    number = 0
    while number * step <= seconds * 1.0001:
        # The last one would stand beyond the edge.
        if number * step <= seconds * 0.97:
            found.append((round(100 * number * step / seconds, 2), axis_text(number * step)))
        number += 1
    return found
