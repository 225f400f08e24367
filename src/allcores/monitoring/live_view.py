"""The live view: an observer that draws with rich what `Pool.worker_status` and `Pool.statistics` tell."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Hashable
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Any

from allcores.events import MapEnded, MapStarted, PoolEvent, Progress, TaskFailed, TaskRetried
from allcores.limits import check_seconds
from allcores.monitoring.live_lines import Line, MapView, PoolView, panel, plain
from allcores.outcome import Kind
from allcores.progress.bar import keep_from_children, need_rich, standard_error, switching_streams
from allcores.progress.estimate import Estimator
from allcores.system.cores import core_budget, machine_memory
from allcores.system.process_stats import Gauge
from allcores.system.procfs import AVAILABLE
from allcores.system.terminal_text import safe_line
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from rich.console import Console

    from allcores.pool.pool import Pool

#: seconds between two pictures at least
PAUSE_S = 0.2
#: ... and at most, however long it takes to draw one
LONGEST_PAUSE_S = 2.0
#: share of one core that drawing may take
SHARE = 0.008
#: seconds between two looks at the processes' time and memory
LOOK_S = 1.0
#: kinds of failures that are told apart; a program may raise any number
MOST_CAUSES = 50

_WORDS = {Kind.TIMED_OUT: "timed out", Kind.WORKER_LOST: "lost their worker"}


def styled(lines: list[Line]) -> Any:
    """As rich draws it."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis", end="")
    for number, line in enumerate(lines):
        if number:
            text.append("\n")
        for piece, style in line:
            text.append(safe_line(piece), style or None)
    return text


class _Map:
    def __init__(self, event: MapStarted, now_s: float) -> None:
        self.started_s = now_s
        self.estimator = Estimator(now_s)
        self.done = self.failed = 0
        self.total = event.total


class LiveView:
    """An observer that shows a running pool: progress, time left, workers, cores, memory, failures.

        with allcores.Pool(observers=[allcores.LiveView()]) as pool: ...

    In a terminal or a notebook it draws while maps run: a line per map, failures by cause, the cores and the
    memory in use, and a line per worker with what it runs and for how long. Elsewhere (a log file) it writes a
    plain line to standard error now and then.
    The time left comes with the range that holds four of five cases, unless it is narrow. Each pool takes a view
    of its own.

    Args:
        description: What stands before the count.
        workers: Most workers that are shown; the longest-running ones.
        plain_s: Seconds between two plain lines; None for none.
        transient: True leaves nothing on the screen.
        console: A rich Console to draw on instead of standard error.

    Raises:
        ImportError: If rich is not installed.
        UsageError: `plain_s` is no number of seconds above 0.
    """

    sees_work = False

    @hiding
    def __init__(
        self,
        description: str = "items",
        *,
        workers: int = 8,
        plain_s: float | None = 30.0,
        transient: bool = False,
        console: Console | None = None,
    ) -> None:
        need_rich()
        self._description = description
        self._workers = workers
        self._plain_s = None if plain_s is None else check_seconds("plain_s", plain_s, zero=False)
        self._transient = transient
        self._console = standard_error() if console is None else console
        #: True if it draws, False if it writes plain lines
        self.visible = self._console.is_jupyter or (self._console.is_terminal and not self._console.is_dumb_terminal)
        self._lock = threading.RLock()  # guards what events change: they come from any thread
        self._maps: dict[Hashable, _Map] = {}
        self._causes: dict[str, int] = {}
        self._retries = 0
        self._ended: threading.Event | None = None
        self._thread: threading.Thread | None = None
        self._pool: weakref.ref[Pool] | None = None
        self._gauge = Gauge()
        self._looked_s = -LOOK_S
        self._own_s = 0.0
        self._machine: tuple[int, int | None] | None = None

    def attach(self, pool: Pool) -> None:
        """The pool that is shown; a pool does this with each observer that has such a method."""
        self._pool = weakref.ref(pool)

    def __call__(self, event: PoolEvent) -> None:
        """Take one event. What it does not know, it ignores."""
        if isinstance(event, Progress):
            with self._lock:
                found = self._maps.get(event.map_number)
                if found is not None:
                    found.done, found.failed, found.total = event.done, event.failed, event.total
                    found.estimator.observe(monotonic(), event.done)
        elif isinstance(event, TaskFailed):
            error = event.outcome.error
            cause = _WORDS.get(event.outcome.kind) or (type(error).__name__ if error is not None else "unknown")
            with self._lock:
                if cause not in self._causes and len(self._causes) >= MOST_CAUSES:
                    cause = "other"
                self._causes[cause] = self._causes.get(cause, 0) + 1
        elif isinstance(event, TaskRetried):
            with self._lock:
                self._retries += 1
        elif isinstance(event, MapStarted):
            self._begin(event)
        elif isinstance(event, MapEnded):
            self._end(event)

    def close(self) -> None:
        """Stop drawing; what is on the screen stays, unless it is transient."""
        with self._lock:
            self._maps.clear()
            thread, ended = self._stop()
        self._join(thread, ended)

    # --- when it draws ----------------------------------------------------------------------------

    def _begin(self, event: MapStarted) -> None:
        with self._lock:
            self._maps[event.map_number] = _Map(event, monotonic())
            if self._thread is not None or not (self.visible or self._plain_s is not None):
                return
            self._causes.clear()
            self._retries = 0
            if self.visible:
                keep_from_children()
            self._ended = ended = threading.Event()
            target = self._draw if self.visible else self._write
            self._thread = threading.Thread(target=target, args=(ended,), name="allcores-live", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the program is ending: nobody looks any more
                self._thread = None

    def _end(self, event: MapEnded) -> None:
        with self._lock:
            found = self._maps.get(event.map_number)
            if found is None:
                return
            last = self._view_of(found, ended=True, cancelled=event.cancelled)
            del self._maps[event.map_number]
            if self._maps:
                return
            thread, ended = self._stop()
        self._join(thread, ended)
        if self.visible and not self._transient and thread is not None:
            self._print(PoolView([last], causes=dict(self._causes)))

    def _stop(self) -> tuple[threading.Thread | None, threading.Event | None]:
        thread, self._thread = self._thread, None
        return thread, self._ended

    def _join(self, thread: threading.Thread | None, ended: threading.Event | None) -> None:
        if ended is not None:
            ended.set()
        # The garbage collector may end a map on the drawing thread itself.
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # --- what it draws ----------------------------------------------------------------------------

    def _draw(self, ended: threading.Event) -> None:
        from rich.live import Live

        # It erases itself: the last picture, without workers, is printed once it is gone.
        with contextlib.suppress(OSError, ValueError):  # nobody reads the terminal any more
            live = Live(console=self._console, auto_refresh=False, transient=True)
            try:
                with switching_streams():
                    live.start()
                while not ended.wait(self._pause_s()):
                    begun = thread_time()
                    picture = self._picture()
                    if picture is not None:
                        live.update(picture, refresh=True)
                    self._own_s = thread_time() - begun
            finally:
                with switching_streams():
                    live.stop()

    def _pause_s(self) -> float:
        return min(LONGEST_PAUSE_S, max(PAUSE_S, self._own_s / SHARE))

    def _picture(self) -> Any:
        view = self.view()
        if view is None:
            return None
        width, height = self._console.size
        above = len(view.maps) + 3
        return styled(panel(view, width - 1, max(0, min(self._workers, height - above))))

    def _print(self, view: PoolView) -> None:
        width = self._console.size[0]
        with contextlib.suppress(OSError, ValueError):
            for line in panel(view, width - 1, 0):
                self._console.print(styled([line]))

    def _write(self, ended: threading.Event) -> None:
        assert self._plain_s is not None
        while not ended.wait(self._plain_s):
            view = self.view()
            if view is not None:
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(f"allcores: {safe_line(plain(view))}\n")
                    sys.stderr.flush()

    # --- what it knows ----------------------------------------------------------------------------

    def view(self) -> PoolView | None:
        """All that is shown now; None if no map runs."""
        pool = self._pool() if self._pool is not None else None
        workers = pool.worker_status() if pool is not None else []
        statistics = pool.statistics() if pool is not None else None
        item_s = statistics.busy_seconds / statistics.items_done if statistics and statistics.items_done else 0.0
        with self._lock:
            if not self._maps:
                return None
            maps = [self._view_of(each, item_s=item_s, workers=max(1, len(workers))) for each in self._maps.values()]
            view = PoolView(maps, workers, dict(self._causes), self._retries)
        view.budget, view.memory = self._limits()
        view.memory_per_worker = pool.limits.memory_per_worker if pool is not None else None
        self._look([each.pid for each in workers if each.pid is not None])
        view.cores = self._gauge.cores
        view.resident = sum(self._gauge.resident.values())
        if view.resident and statistics is not None:
            view.resident += statistics.block_bytes + statistics.shared_bytes  # which are there once
        view.largest = max((b for pid, b in self._gauge.resident.items() if pid != os.getpid()), default=0)
        return view

    def _view_of(
        self, each: _Map, *, item_s: float = 0.0, workers: int = 1, ended: bool = False, cancelled: bool = False
    ) -> MapView:
        now = monotonic()
        left = None if each.total is None or ended else max(0, each.total - each.done)
        seconds = now - each.started_s
        return MapView(
            self._description,
            each.done,
            each.failed,
            each.total,
            seconds,
            each.done / seconds if seconds > 0 else 0.0,
            None if left is None else each.estimator.estimate(now, left, item_s=item_s, workers=workers),
            ended,
            cancelled,
        )

    def _limits(self) -> tuple[int, int | None]:
        """Cores and bytes that there are: read once, for it takes a walk through the container's settings."""
        if self._machine is None:
            memory = machine_memory()
            self._machine = core_budget().workers, memory.limit or memory.total
        return self._machine

    def _look(self, pids: list[int]) -> None:
        now = monotonic()
        if AVAILABLE and now - self._looked_s >= LOOK_S:
            self._looked_s = now
            self._gauge.look([os.getpid(), *pids], now)
