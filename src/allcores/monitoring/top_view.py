"""What `allcores top` shows, as lines of styled text, and the screen that shows them again and again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from allcores.formatting import clock_text, counted, items_text, pace_text, percent_text, size_text
from allcores.monitoring.live_lines import LONG_S, Line
from allcores.monitoring.live_view import styled
from allcores.progress.bar import need_rich

#: lines of the screen that are not for workers
MARGIN = 2
#: what a worker does, in words; {} is the item
_STATES = {
    "setup": "in its setup function",
    "loading": "unpickling {}",
    "running": "running {}",
    "sealing": "storing the result of {}",
}


@dataclass(slots=True)
class WorkerRow:
    """One worker.

    Attributes:
        index: Of the item that runs, or the first of a batch; None for a call, or nothing.
        count: Items of the batch that runs, else 1.
        cores: In use, None if unknown.
        resident: Bytes.
    """

    worker: int
    pid: int | None
    state: str
    seconds: float
    index: int | None
    count: int
    done: int
    cores: float | None
    resident: int


@dataclass(slots=True)
class PoolRows:
    """One pool.

    Attributes:
        pace: Items per second since the last look, None at the first.
    """

    pid: int
    name: str
    command: str
    size: int
    seconds: float
    done: int
    failed: int
    retries: int
    map_done: int
    map_total: int | None
    pace: float | None
    cores: float | None
    resident: int
    memory_per_worker: int | None
    workers: list[WorkerRow] = field(default_factory=list)


def overview(pools: Sequence[PoolRows], width: int, height: int | None) -> list[Line]:
    """All pools.

    Args:
        pools: What is known of each.
        width: Cells of a line.
        height: Lines that there are; None for as many as it takes.
    """
    lines: list[Line] = []
    room = None if height is None else max(1, (height - MARGIN) // max(1, len(pools)) - 4)
    for number, pool in enumerate(pools):
        if number:
            lines.append([])
        lines += _pool(pool, width, room)
    return lines


def _pool(pool: PoolRows, width: int, room: int | None) -> list[Line]:
    busy = sum(1 for each in pool.workers if each.state not in ("idle", "starting"))
    head: Line = [(pool.name, "bold"), (f" · process {pool.pid}", "")]
    if pool.command:
        left = max(10, width - len(pool.name) - len(str(pool.pid)) - 16)
        command = pool.command if len(pool.command) <= left else pool.command[: left - 1] + "…"
        head.append((f" · {command}", "dim"))
    parts = [f"open for {clock_text(pool.seconds)}", f"{counted(pool.done, 'item')} done"]
    if pool.failed:
        parts.append(f"{pool.failed:,} failed")
    if pool.retries:
        parts.append("1 retry" if pool.retries == 1 else f"{pool.retries:,} retries")
    if pool.pace:
        parts.append(pace_text(pool.pace))
    elif pool.pace is not None and pool.done and pool.seconds:
        # Nothing was finished between the looks, as with long items: that is no pace of zero.
        parts.append(f"{pace_text(pool.done / pool.seconds)} so far")
    if busy and pool.map_total:
        share = percent_text(100 * pool.map_done / pool.map_total)
        parts.append(f"its maps: {pool.map_done:,} of {counted(pool.map_total, 'item')} ({share})")
    means = [f"{busy} of {counted(len(pool.workers), 'worker')} busy"]
    if pool.cores is not None:
        means.append(f"{pool.cores:.1f} cores")
    means.append(f"memory {size_text(pool.resident)}")
    if pool.memory_per_worker:
        means.append(f"limit {size_text(pool.memory_per_worker)} per worker")
    lines: list[Line] = [head, [("  " + " · ".join(parts), "")], [("  " + " · ".join(means), "")]]
    shown = list(pool.workers)
    rest = 0
    if room is not None and len(shown) > room:
        shown.sort(key=lambda each: (each.state == "idle", -each.seconds, each.worker))
        rest = len(shown) - max(0, room - 1)
        shown = shown[: max(0, room - 1)]
    if shown:
        columns = ("worker", "pid", "items done", "cores", "memory", "for", "state")
        cells = [columns, *(_cells(each) for each in shown)]
        widths = [max(len(row[column]) for row in cells) for column in range(6)]
        for row, each in zip(cells, [None, *shown], strict=True):
            text = "  " + "  ".join(f"{cell:>{size}}" for cell, size in zip(row, widths, strict=False)) + "  " + row[6]
            quiet = each is None or each.state == "idle"
            lines.append([(text, "dim" if quiet else "yellow" if each is not None and each.seconds >= LONG_S else "")])
    if rest:
        lines.append([(f"  … {rest} more workers", "dim")])
    return lines


def _cells(each: WorkerRow) -> tuple[str, ...]:
    item = "a call" if each.index is None else items_text(each.index, each.count)
    return (
        str(each.worker),
        str(each.pid or ""),
        f"{each.done:,}",
        "" if each.cores is None else f"{each.cores:.2f}",
        size_text(each.resident) if each.resident else "",
        clock_text(each.seconds) if each.state != "idle" else "",
        _STATES.get(each.state, each.state).format(item),
    )


def as_text(lines: list[Line]) -> str:
    """Without styles."""
    return "\n".join("".join(piece for piece, _ in line) for line in lines)


def may_draw() -> bool:
    """Whether standard output is a terminal that can show a picture again and again: a dumb one has no way back.

    Raises:
        ImportError: If rich is not installed.
    """
    need_rich()
    from rich.console import Console

    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


def show(look: Callable[[int, int], list[Line] | None], interval_s: float) -> None:
    """Draw on standard output what `look(width, height)` gives, until it gives None, or Ctrl-C.

    Raises:
        ImportError: If rich is not installed.
    """
    need_rich()
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=console, auto_refresh=False, transient=False) as live,
    ):
        while (lines := look(console.size[0] - 1, console.size[1])) is not None:
            live.update(styled(lines), refresh=True)
            time.sleep(interval_s)
