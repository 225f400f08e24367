"""Shapes of the console's pictures, as numbers; templates put them on the page. Stretched, so they hold no text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from allcores.formatting import precise_seconds_text
from allcores.jobs.history import Span
from allcores.jobs.model import State

WIDTH, HEIGHT = 1000, 100
MOST_ROWS = 64
BAD = (State.FAILED, State.TIMED_OUT, State.QUARANTINED)


@dataclass(frozen=True, slots=True)
class Box:
    """A job in a row: where it begins and how wide it is, in the picture's units."""

    x: float
    width: float
    kind: str
    text: str


@dataclass(slots=True)
class Strip:
    """A row of jobs, one after the other.

    Attributes:
        now: What runs in it, in words.
    """

    boxes: list[Box] = field(default_factory=list)
    now: str = ""
    end: float = 0.0


def strips(jobs: Iterable[Span], now: float, span: float) -> list[Strip]:
    """Rows in which jobs do not overlap, as few as there can be: as many as ran at once at most.

    Args:
        jobs: Any; those that ran within the span are drawn.
        now: The right edge.
        span: Seconds to the left of it.
    """
    begin = now - span
    drawn = []
    for job in jobs:
        end = now if job.finished is None else job.finished
        if end >= begin and end >= job.started:
            drawn.append((max(job.started, begin), min(end, now), job))
    found: list[Strip] = []
    for start, end, job in sorted(drawn, key=lambda each: each[0]):
        strip = next((each for each in found if each.end <= start), None)
        if strip is None:
            if len(found) >= MOST_ROWS:
                continue
            strip = Strip()
            found.append(strip)
        strip.end = end
        x = (start - begin) / span * WIDTH
        # The gap that tells one job from the next costs a very short one nothing.
        width = max(1.0, (end - start) / span * WIDTH - 0.6)
        kind = "fill-bad" if job.state in BAD else "fill-idle" if job.state is State.CANCELLED else "fill-good"
        strip.boxes.append(Box(round(x, 1), round(width, 1), kind, f"{job.task}, {precise_seconds_text(end - start)}"))
        if job.finished is None:
            strip.now = job.task
    return found


@dataclass(frozen=True, slots=True)
class Pace:
    """Ended jobs over time: rectangles of all, and of those without success."""

    top: int
    span: float
    columns: int
    all: list[tuple[float, float, float, float]]
    bad: list[tuple[float, float, float, float]]


def pace(all_ended: Sequence[int], bad: Sequence[int], span: float) -> Pace:
    """Columns over a span of time, the oldest first.

    Args:
        all_ended: Jobs in each column.
        bad: Of these, those without success.
        span: Seconds of all columns together.
    """
    top = max(all_ended, default=0)
    return Pace(top, span, len(all_ended), _columns(all_ended, top), _columns(bad, top))


def _columns(counts: Sequence[int], top: int) -> list[tuple[float, float, float, float]]:
    found = []
    width = WIDTH / max(1, len(counts))
    for number, count in enumerate(counts):
        if count:
            height = max(1.5, count / top * HEIGHT)
            found.append((round(number * width, 2), round(width * 0.9, 2), round(HEIGHT - height, 2), round(height, 2)))
    return found


@dataclass(frozen=True, slots=True)
class Cause:
    """Why jobs failed; `part` of the most frequent one, 0 to 100."""

    text: str
    search: str
    count: int
    part: float


def causes(failures: Iterable[tuple[tuple[str, str], int]], most: int = 8) -> list[Cause]:
    """The most frequent ones first.

    Args:
        failures: ((cause, exception), number of jobs).
        most: How many are kept.
    """
    ranked = sorted(failures, key=lambda each: -each[1])[:most]
    top = ranked[0][1] if ranked else 1
    found = []
    for (cause, kind), count in ranked:
        text = kind if cause == "exception" else f"{kind} ({cause})" if kind and kind != cause else cause
        found.append(Cause(text or cause, kind or cause, count, round(100 * count / top, 2)))
    return found
