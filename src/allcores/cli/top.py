"""`allcores top`: the pools that run on this machine, from another terminal."""

from __future__ import annotations

import struct
import sys
import time
from collections import deque
from dataclasses import asdict
from typing import Any

import click

from allcores.cli.exits import CommandError, Exit
from allcores.cli.output import Seconds, say, shortened, write_json
from allcores.cli.output import show as show_text
from allcores.errors import NotSupported
from allcores.limits import FOREVER_S
from allcores.monitoring import other_pools
from allcores.monitoring.live_lines import Line
from allcores.monitoring.top_view import PoolRows, WorkerRow, as_text, may_draw, overview, show
from allcores.system import procfs
from allcores.system.process_stats import Gauge
from allcores.system.terminal_text import safe_line

#: seconds between two looks for new pools: it lists the descriptors of every process
FIND_S = 3.0
#: seconds between the two looks of a single snapshot, for what is measured per second
SNAPSHOT_S = 0.3
#: looks over which the pace is taken: one alone is mostly chance where items take long
PACE_LOOKS = 10
#: width of a snapshot that is not for a terminal
PLAIN_WIDTH = 120


class Top:
    """What was seen of the pools so far."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._places: list[other_pools.Place] = []
        #: what was said of boards that cannot be read: a process may have many of them
        self._said: set[str] = set()
        self._found_s = -FIND_S
        self._gauge = Gauge()
        #: identity of a board -> when it was read, and items done then; the last PACE_LOOKS times
        self._before: dict[tuple[int, int], deque[tuple[float, int]]] = {}
        #: the last that was seen of each
        self.last: dict[tuple[int, int], PoolRows] = {}
        self.hidden = 0

    def look(self) -> list[PoolRows]:
        """All pools now."""
        now = time.monotonic()
        if now - self._found_s >= FIND_S:
            self._found_s = now
            self._places, self.hidden = other_pools.find(self._pid)
        seen = [(place, pool) for place in self._places if (pool := self._read(place)) is not None]
        pids = [pool.pid for _, pool in seen]
        self._gauge.look(pids + [each.pid for _, pool in seen for each in pool.workers if each.pid], now)
        rows = []
        for place, pool in seen:
            before = self._before.setdefault(place.identity, deque(maxlen=PACE_LOOKS))
            pace = (pool.done - before[0][1]) / (now - before[0][0]) if before and now > before[0][0] else None
            before.append((now, pool.done))
            rows.append(self._rows(pool, pace))
            self.last[place.identity] = rows[-1]
        return rows

    def _read(self, place: other_pools.Place) -> other_pools.PoolSeen | None:
        """What a board says; one that cannot be read is told of, once, and takes nothing from the others."""
        try:
            return other_pools.read(place)
        except NotSupported as error:
            why = str(error)
        except (OSError, OverflowError, ValueError, struct.error) as error:
            why = f"The status board of process {place.pid} is damaged ({error}): it is not shown."
        if why not in self._said:
            self._said.add(why)
            say(why)
        return None

    def _rows(self, pool: other_pools.PoolSeen, pace: float | None) -> PoolRows:
        gauge = self._gauge
        known = gauge.cores is not None
        workers = [
            WorkerRow(
                each.worker,
                each.pid,
                each.state,
                each.seconds,
                each.index,
                each.count,
                each.done,
                gauge.each.get(each.pid or 0, 0.0) if known else None,
                gauge.resident.get(each.pid or 0, 0),
            )
            for each in pool.workers
        ]
        return PoolRows(
            pid=pool.pid,
            name=safe_line(pool.name),
            command=_command(pool.pid),
            size=pool.size,
            seconds=pool.seconds,
            done=pool.done,
            failed=pool.failed,
            retries=pool.retries,
            map_done=pool.map_done,
            map_total=pool.map_total,
            pace=pace,
            cores=gauge.each.get(pool.pid, 0.0) + sum(each.cores or 0.0 for each in workers) if known else None,
            resident=gauge.resident.get(pool.pid, 0) + sum(each.resident for each in workers),
            memory_per_worker=pool.memory_per_worker,
            workers=workers,
        )


def _command(pid: int) -> str:
    return safe_line(shortened(procfs.command(pid), 200))


@click.command("top")
@click.argument("pid", type=int, required=False)
@click.option("--once", is_flag=True, help="Show once, and end.")
@click.option("--json", is_flag=True, help="One snapshot as JSON on standard output.")
@click.option(
    "--interval",
    type=Seconds(min=0.2, max=FOREVER_S),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
def command(**given: Any) -> int:
    """Show the pools that run on this machine: their workers, what these run and for how long.

    All pools of yours (as root: of all users), or those of process PID. The pools do not notice: it reads their
    status boards. It ends when they have ended, or with Ctrl-C. Linux only.
    """
    return _top(**given)


def _top(*, pid: int | None, once: bool, json: bool, interval: float) -> int:
    top = Top(pid)
    try:
        pools = top.look()
        if not pools and not json:
            raise CommandError(_nothing(pid, top.hidden), Exit.NO_POOL)
        if once or json or not sys.stdout.isatty() or not may_draw():
            if pools:
                time.sleep(SNAPSHOT_S)
                pools = top.look() or pools
            if json:
                write_json({"pools": [asdict(pool) for pool in pools]})
            else:
                show_text(as_text(overview(pools, PLAIN_WIDTH, None)))
            return Exit.OK

        def look(width: int, height: int) -> list[Line] | None:
            pools = top.look()
            return overview(pools, width, height) if pools else None

        show(look, interval)
    except NotSupported as error:
        raise CommandError(str(error)) from None
    except ImportError as error:
        raise CommandError(f"{error}; or use --once or --json") from None
    for last in top.last.values():
        if not _runs(top, last):
            say(f"pool {last.name!r} of process {last.pid} has ended: {last.done:,} items done when last seen")
    return Exit.OK


def _runs(top: Top, last: PoolRows) -> bool:
    return any(each.pid == last.pid and each.name == last.name for each in top.look())


def _nothing(pid: int | None, hidden: int) -> str:
    if pid is None:
        sentence = "no pool of worker processes runs under your user"
        return sentence + (f"; {hidden} of your processes may not be looked into (ptrace rules)" if hidden else "")
    if not procfs.exists(pid):
        return f"there is no process {pid}"
    if hidden:
        return f"process {pid} may not be looked into: it is another user's, or protected"
    return f"process {pid} has no pool of worker processes"
