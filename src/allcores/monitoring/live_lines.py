"""What a live view shows, as lines of styled text: pure, so that it is made and tested without a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from allcores.formatting import clock_text, items_text, pace_text, size_text
from allcores.progress.estimate import Estimate, eta_text

if TYPE_CHECKING:
    from allcores.pool.worker_status import WorkerStatus

#: pieces of one line, each with its style in rich's words
Line = list[tuple[str, str]]

BAR_CELLS = 24
#: causes of failures that are named
MOST_CAUSES = 4
#: what runs shorter than this is not worth reading: its text would only flicker
READABLE_S = 0.5
#: a step that takes longer is shown in another colour
LONG_S = 10.0


@dataclass(slots=True)
class MapView:
    """One map that runs, or has just ended.

    Attributes:
        done: Items that have an outcome.
        failed: Of these, not ok.
        total: Items of the input, None if unknown.
        seconds: Since it began.
    """

    description: str
    done: int
    failed: int
    total: int | None
    seconds: float
    pace: float
    estimate: Estimate | None = None
    ended: bool = False
    cancelled: bool = False


@dataclass(slots=True)
class PoolView:
    """What is known of a pool.

    Attributes:
        causes: Failures by name.
        cores: In use now, None if that is not known.
        budget: Cores that it may use.
        resident: Bytes of all processes, and what they share.
        largest: Bytes of the largest worker, what it shares apart.
        memory: Bytes that all may have, None if that is not known.
        memory_per_worker: Bytes that a worker may have, None if that is not limited.
    """

    maps: list[MapView]
    workers: list[WorkerStatus] = field(default_factory=list)
    causes: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    cores: float | None = None
    budget: int = 1
    resident: int = 0
    largest: int = 0
    memory: int | None = None
    memory_per_worker: int | None = None


def panel(view: PoolView, width: int, workers: int) -> list[Line]:
    """All lines of a live view.

    Args:
        view: What is shown.
        width: Cells of a line.
        workers: Most workers that are shown.
    """
    found = [_map_line(each, width) for each in view.maps]
    trouble = failures_text(view)
    if trouble:
        found.append([("  ", ""), (trouble, "red")])
    means = resources(view)
    if means:
        found.append([("  ", ""), *means])
    found += worker_lines(view.workers, width, workers)
    return found


def _map_line(each: MapView, width: int) -> Line:
    share = each.done / each.total if each.total else None
    line: Line = [(f"{each.description} ", "bold")]
    count = f"{each.done:,}" if each.total is None else f"{each.done:,} of {each.total:,}"
    parts = [count]
    if share is not None:
        parts.append(f"{int(share * 100)} %")
    if each.pace:
        parts.append(pace_text(each.pace))
    parts.append(clock_text(each.seconds))
    if each.cancelled:
        parts.append("stopped")
    elif not each.ended and each.total is not None:
        parts.append(eta_text(each.estimate) + " left" if each.estimate is not None else "…")
    text = " · ".join(parts)
    room = width - len(each.description) - len(text) - 4
    if share is not None and room >= 8:
        cells = min(BAR_CELLS, room)
        full = round(cells * min(1.0, share))
        line += [("━" * full, "green" if each.ended else "cyan"), ("─" * (cells - full), "dim"), (" ", "")]
    return [*line, (text, "")]


def failures_text(view: PoolView) -> str:
    """As in "3 failed: 2 ValueError, 1 timed out · 4 retries", or nothing. Causes are known once outcomes are read."""
    failed = sum(each.failed for each in view.maps)
    parts = []
    if failed:
        causes = sorted(view.causes.items(), key=lambda cause: -cause[1])
        named = [f"{count:,} {cause}" for cause, count in causes[:MOST_CAUSES]]
        if len(causes) > MOST_CAUSES:
            named.append(f"{len(causes) - MOST_CAUSES} other causes")
        parts.append(f"{failed:,} failed" + (f": {', '.join(named)}" if named else ""))
    if view.retries:
        parts.append("1 retry" if view.retries == 1 else f"{view.retries:,} retries")
    return " · ".join(parts)


def resources(view: PoolView) -> Line:
    """Cores in use against the budget, memory against its limits."""
    line: Line = []
    if view.cores is not None:
        line += [("cores ", "dim"), (f"{view.cores:.1f} of {view.budget}", "")]
    if view.resident:
        memory = size_text(view.resident)
        if view.memory is not None:
            memory += f" of {size_text(view.memory)}"
        line += [(" · memory " if line else "memory ", "dim"), (memory, "")]
        if view.largest:
            limit, near = view.memory_per_worker, False
            text = f"largest worker {size_text(view.largest)}"
            if limit is not None:
                text += f" of {size_text(limit)}"
                near = view.largest > 0.9 * limit
            line += [(" · ", "dim"), (text, "yellow" if near else "")]
    return line


def worker_lines(workers: Sequence[WorkerStatus], width: int, most: int) -> list[Line]:
    """A line per worker; where there are too many, those whose step takes longest, and how many do what."""
    if most <= 0 or not workers:
        return []
    shown = list(workers)
    rest: list[WorkerStatus] = []
    if len(shown) > most:
        # One line is for the rest. Busy ones first, the longest at the top.
        shown.sort(key=lambda worker: (worker.state == "idle", -worker.seconds, worker.worker))
        shown, rest = shown[: most - 1], shown[most - 1 :]
    digits = max(len(str(worker.worker)) for worker in shown)
    counts = max(len(f"{worker.done:,}") for worker in shown)
    lines = [_worker_line(worker, width, digits, counts) for worker in shown]
    if rest:
        lines.append([(f"  … {len(rest):,} more workers: {_states(rest)}", "dim")])
    return lines


def _worker_line(worker: WorkerStatus, width: int, digits: int, counts: int) -> Line:
    line: Line = [(f"  worker {worker.worker:>{digits}} ", "dim"), (f"{worker.done:>{counts},} done  ", "dim")]
    if worker.state == "idle":
        whose = "" if worker.actor is None else f": {worker.actor}"
        return [*line, (f"{'':>7}  idle{whose}", "dim")]
    if worker.state != "running":
        return [*line, (f"{clock_text(worker.seconds):>7}  ", ""), (worker.state, "yellow")]
    if worker.seconds < READABLE_S:
        text = items_text(worker.index, worker.batch) if worker.index is not None else worker.text
        return [*line, (f"{'':>7}  {text}", "dim")]
    text = worker.text + (f" (attempt {worker.attempt})" if worker.attempt > 1 else "")
    room = max(8, width - sum(len(piece) for piece, _ in line) - 10)
    text = text if len(text) <= room else text[: room - 1] + "…"
    return [*line, (f"{clock_text(worker.seconds):>7}  ", "yellow" if worker.seconds >= LONG_S else "cyan"), (text, "")]


def _states(workers: Iterable[WorkerStatus]) -> str:
    counts: dict[str, int] = {}
    for worker in workers:
        counts[worker.state] = counts.get(worker.state, 0) + 1
    return ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items(), key=lambda each: -each[1]))


def plain(view: PoolView) -> str:
    """The same in one line, for a log."""
    parts = ["".join(text for text, _ in _map_line(each, 0)) for each in view.maps]
    trouble = failures_text(view)
    if trouble:
        parts.append(trouble)
    longest = max(view.workers, key=lambda worker: worker.seconds, default=None)
    if longest is not None and longest.state == "running" and longest.seconds >= LONG_S:
        parts.append(f"longest: {longest.text} for {clock_text(longest.seconds)}")
    return " · ".join(parts)
