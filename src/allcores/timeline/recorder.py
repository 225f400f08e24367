"""The observer that records a pool's timeline.

It costs a few microseconds per report of a worker and nothing per item. What it keeps is bounded: spans of a lane
are merged up to a resolution that grows with the run, and once it has grown those of different maps as well; all else
is counted.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from types import TracebackType
from typing import Any

from allcores.errors import UsageError
from allcores.events import (
    InputRead,
    MapEnded,
    MapStarted,
    PoolEnded,
    PoolEvent,
    PoolOpened,
    TaskFailed,
    TaskRetried,
    WorkerEnded,
    WorkerStarted,
    WorkReported,
)
from allcores.system.clock import NANO, monotonic_ns
from allcores.system.cores import core_budget
from allcores.system.tracebacks import hiding
from allcores.timeline.aggregates import Aggregates, name_of
from allcores.timeline.file import FORMAT, SEVERAL, VERSION, Lines, rows_of
from allcores.timeline.lanes import Lane, Lanes
from allcores.timeline.reader import Recording
from allcores.timeline.sampling import Sampler

#: spans and gaps of a lane shorter than this are merged, ns; smaller shows more and costs more
FINEST_NS = 2_000_000
#: ... and, all lanes together, those shorter than this fraction of the time so far
PARTS = 16_000
#: rows on failures, retries, workers and flows, each; later ones are only counted
MOST_ROWS = 1_000
#: counts (histogram, slowest, causes) are written this often at first, ns, and whenever the run is a tenth longer
TOTALS_NS = 2_000_000_000
#: what was recorded is written at least this often, seconds: so much is lost if the program is killed
FLUSH_S = 0.5


class Timeline:
    """An observer that records who ran what when, for `allcores report` and `allcores trace`.

        timeline = allcores.Timeline("run.jsonl")
        with allcores.Pool(observers=[timeline]) as pool: ...

    It watches one pool, and is complete when that is closed.

    Args:
        path: A file to (over)write as the run goes, gzipped if its name ends in .gz; what was recorded can be read
            after any end of the program, but for its last half second. None keeps it in memory.
        memory: Also sample memory and processor time, by a thread of its own (Linux).

    Raises:
        UsageError: If the file cannot be written.
    """

    @hiding
    def __init__(self, path: str | os.PathLike[str] | None = None, *, memory: bool = True) -> None:
        self._lines = Lines(path)
        # Re-entrant: the garbage collector may end a map, which is an event, on the thread that is in here.
        self._lock = threading.RLock()
        self._origin = monotonic_ns()
        self._pid = os.getpid()
        self._memory = memory
        self._name: str | None = None
        self._closed = False
        self._lanes = Lanes()
        self._pids: dict[int, int] = {}
        #: the reading thread's span: [flow, begin, end, items, pull, pack, held]
        self._feed: list[int] | None = None
        self._aggregates = Aggregates()
        self._rows: dict[str, int] = {}
        #: maps that have a row and are open: their ends have one, too
        self._told: set[int] = set()
        self._resolution_ns = FINEST_NS
        self._totals_due_ns = self._origin + TOTALS_NS
        self._flush_due_ns = 0
        self._over = threading.Event()
        self._sampler: threading.Thread | None = None
        self._lines.add(
            {
                "format": FORMAT,
                "version": VERSION,
                "created": round(time.time(), 3),
                "cores": core_budget().workers,
                "machine_cores": os.cpu_count() or 0,
                "python": platform.python_version(),
                "system": platform.platform(),
                "pid": self._pid,
            }
        )

    # --- events ---

    def __call__(self, event: PoolEvent) -> None:
        """Take one event. What it does not know, it ignores."""
        if self._closed or os.getpid() != self._pid:
            return
        if isinstance(event, PoolEnded):
            # Without the lock: it waits for the sampling thread, which needs it.
            try:
                self.close()
            except OSError as error:
                raise self._ends_here(error) from error
            return
        with self._lock:
            take = _TAKES.get(type(event))
            if take is None:
                return
            take(self, event)
            now = monotonic_ns()
            if now >= self._flush_due_ns and not self._closed:
                try:
                    self._flush(now)
                except OSError as error:
                    self._give_up()
                    raise self._ends_here(error) from error

    def _ends_here(self, error: OSError) -> UsageError:
        return UsageError(f"The timeline {self._lines.path!r} ends here: {error.strerror}.")

    def _give_up(self) -> None:
        self._closed = True
        self._over.set()
        self._lines.abandon()

    def _opened(self, event: PoolOpened) -> None:
        if self._name is not None:
            raise UsageError(f"A Timeline watches one pool, and this one had {self._name!r}: make another.")
        self._name = event.name
        self._add("pool", self._now(), event.name, event.backend, event.workers)
        self._lanes.begin(event.workers)
        if self._sampler is None:
            sampler = threading.Thread(target=self._keep_sampling, name="allcores-timeline", daemon=True)
            sampler.start()
            self._sampler = sampler

    def _started(self, event: WorkerStarted) -> None:
        self._aggregates.counts["workers_started"] += 1
        lane = self._lanes.seat(event.worker, event.actor)
        if event.pid is not None and event.pid != self._pid:
            self._pids[event.worker] = event.pid
        actor = () if event.actor is None else (event.actor,)
        self._add_some("worker", self._now(), lane.number, event.worker, event.pid, *actor)

    def _gone(self, event: WorkerEnded) -> None:
        self._aggregates.counts["workers_ended"] += 1
        lane = self._lanes.by_worker.get(event.worker)
        if lane is None:
            return
        self._end_span(lane)
        self._lanes.leave(event.worker, event.actor)
        self._add_some("gone", self._now(), lane.number, event.worker, event.reason)

    def _map_started(self, event: MapStarted) -> None:
        if self._add_some("flow", self._now(), event.map_number, event.total):
            self._told.add(event.map_number)

    def _map_ended(self, event: MapEnded) -> None:
        self._rows["done"] = self._rows.get("done", 0) + 1
        if event.map_number in self._told:
            self._told.discard(event.map_number)
            self._add("done", self._now(), event.map_number, event.done, event.failed, event.cancelled)

    def _read(self, event: InputRead) -> None:
        feed = self._feed
        begin = event.begin_ns - event.held_ns
        if (
            feed is not None
            and (feed[0] == event.map_number or self._resolution_ns > FINEST_NS)
            and begin - feed[2] < self._resolution_ns
            and feed[2] - feed[1] < self._resolution_ns
        ):
            feed[0] = feed[0] if feed[0] == event.map_number else SEVERAL
            feed[2] = event.end_ns
        else:
            self._end_feed()
            feed = self._feed = [event.map_number, begin, event.end_ns, 0, 0, 0, 0]
        feed[3] += event.items
        feed[4] += event.pull_ns
        feed[5] += event.pack_ns
        feed[6] += event.held_ns
        if event.ended:
            self._end_feed()
            self._rows["input"] = self._rows.get("input", 0) + 1
            if event.map_number in self._told:
                self._add("input", self._at(event.end_ns), event.map_number)

    def _reported(self, event: WorkReported) -> None:
        worker, map_number, count, failed, begin, end, busy, size, _ = event
        lane = self._lanes.by_worker.get(worker) or self._lanes.seat(worker)
        span, resolution = lane.span, self._resolution_ns
        if (
            span is not None
            and (span[0] == map_number or resolution > FINEST_NS)
            and (gap := begin - span[2]) < resolution
            and span[2] - span[1] < resolution
        ):
            if span[0] != map_number:
                span[0] = SEVERAL
            span[2] = end
            span[3] += busy
            span[4] += max(0, gap)
            span[5] += count
            span[6] += failed
            span[7] += size
        else:
            if span is not None:
                self._end_span(lane)
                if end - self._origin > FINEST_NS * PARTS // self._lanes.count:
                    self._resolution_ns = (end - self._origin) * self._lanes.count // PARTS
            lane.span = [map_number, begin, end, busy, 0, count, failed, size]
        self._aggregates.add(event)

    def _task_failed(self, event: TaskFailed) -> None:
        outcome, now = event.outcome, self._now()
        name = name_of(outcome.item)
        text = self._aggregates.causes.add(
            outcome.kind, outcome.error, event.map_number, outcome.index, outcome.worker, name, retry=False
        )
        lane = self._lanes.by_worker.get(outcome.worker or 0)
        place = None if lane is None else lane.number
        self._add_some("fail", now, event.map_number, outcome.index, place, outcome.kind.value, text, name)

    def _retried(self, event: TaskRetried) -> None:
        self._aggregates.counts["retries"] += 1
        text = self._aggregates.causes.add(event.kind, event.error, event.map_number, event.index, None, "", retry=True)
        wait_us = int(event.wait_s * 1e6)
        self._add_some(
            "retry", self._now(), event.map_number, event.index, event.attempt, event.kind.value, text, wait_us
        )

    # --- rows; times in the file are µs since the origin ---

    def _at(self, ns: int) -> int:
        return (ns - self._origin) // 1000

    def _now(self) -> int:
        return self._at(monotonic_ns())

    def _add(self, what: str, *values: Any) -> None:
        self._lines.add([what, *values])

    def _add_some(self, what: str, *values: Any) -> bool:
        """Add a row if there are not too many of its kind; whether it was."""
        seen = self._rows[what] = self._rows.get(what, 0) + 1
        if seen <= MOST_ROWS:
            self._lines.add([what, *values])
        return seen <= MOST_ROWS

    def _end_span(self, lane: Lane) -> None:
        span, lane.span = lane.span, None
        if span is not None:
            map_number, begin, end, busy, idle, items, failed, size = span
            worker = lane.worker or 0
            self._add(
                "span", lane.number, worker, map_number, self._at(begin), self._at(end), busy // 1000, idle // 1000,
                items, failed, size,
            )  # fmt: skip

    def _end_feed(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            map_number, begin, end, items, pull, pack, held = feed
            self._add(
                "read", map_number, self._at(begin), self._at(end), items, pull // 1000, pack // 1000, held // 1000
            )

    def _add_totals(self) -> None:
        self._add(
            "totals", self._now(), {**self._aggregates.snapshot(), "lanes": self._lanes.count, "rows": self._rows}
        )

    def _flush(self, now: int) -> None:
        if now >= self._totals_due_ns:
            self._totals_due_ns = now + max(TOTALS_NS, (now - self._origin) // 10)
            self._add_totals()
        self._flush_due_ns = now + int(FLUSH_S * NANO)
        self._lines.flush()

    # --- samples ---

    def _keep_sampling(self) -> None:
        sampler = Sampler()
        known: dict[int, int] = {}
        due = 0
        while True:
            now = monotonic_ns()
            with self._lock:
                if self._closed:
                    return
                pids = dict(self._pids)
                for worker in [worker for worker in pids if worker not in self._lanes.by_worker]:
                    del self._pids[worker], pids[worker]
            for worker in [worker for worker in known if worker not in pids]:
                sampler.forget(known.pop(worker))
            known.update(pids)
            if self._memory and now >= due:
                due = now + max(NANO // 4, (now - self._origin) // 400)
                sample = sampler.take(pids.values())
                with self._lock:
                    if sample is not None and not self._closed:
                        self._add("memory", self._at(now), *sample[:3], sample.cpu_ns // 1000)
            # Also what came before a long silence reaches the file.
            with self._lock:
                if not self._closed and self._lines.waiting:
                    self._flush_quietly()
            if self._over.wait(FLUSH_S if not self._memory else max(0.05, min(FLUSH_S, (due - now) / NANO))):
                return

    def _flush_quietly(self) -> None:
        # What cannot be written here cannot be written at the next event either, which then says so.
        with contextlib.suppress(OSError):
            self._flush(monotonic_ns())

    @property
    def attempts(self) -> int:
        """Attempts that were recorded so far."""
        return self._aggregates.counts["attempts"]

    @hiding
    def write_to(self, path: str | os.PathLike[str], *, private: bool = True) -> None:
        """Go on in a file, with all that was recorded so far; only if none was named before.

        Args:
            path: The file; gzipped if its name ends in `.gz`.
            private: It must not be there yet, and nobody else may read it. False: as for one that is named at first.

        Raises:
            UsageError: If it cannot be written.
        """
        with self._lock:
            if self._closed or self._lines.path is not None:
                raise UsageError(f"the timeline is {'complete' if self._closed else 'written to a file'} already")
            self._lines.move(path, private=private)

    # --- the end ---

    def close(self) -> None:
        """Write what is left, and close the file. Idempotent; the pool's end does it."""
        with self._lock:
            if self._closed or os.getpid() != self._pid:
                return
            for lane in sorted(self._lanes.by_worker.values(), key=lambda lane: lane.number):
                self._end_span(lane)
            self._end_feed()
            self._add_totals()
            self._add("end", self._now())
            self._closed = True
            self._over.set()
            try:
                self._lines.close()
            finally:
                sampler = self._sampler
        if sampler is not None and sampler is not threading.current_thread():
            sampler.join(5.0)

    def __enter__(self) -> Timeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def recording(self) -> Recording:
        """What was recorded; complete once the pool is closed."""
        if self._lines.place is not None:
            return Recording.load(self._lines.place)
        with self._lock:
            if not self._closed:
                self._flush(monotonic_ns())
            return Recording.of(rows_of([self._lines.content()], "memory"), "memory")

    @hiding
    def save_report(self, path: str | os.PathLike[str]) -> None:
        """Write the report, one HTML file. Needs the extra `report`.

        Raises:
            ImportError: Without Jinja2.
            UsageError: If the file cannot be written.
        """
        from allcores.timeline.html_report import save_report

        save_report(self.recording(), path)

    @hiding
    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the timeline for Perfetto or chrome://tracing.

        Raises:
            UsageError: If the file cannot be written.
        """
        from allcores.timeline.perfetto import save_trace

        save_trace(self.recording(), path)


_TAKES: dict[type, Any] = {
    PoolOpened: Timeline._opened,
    WorkerStarted: Timeline._started,
    WorkerEnded: Timeline._gone,
    MapStarted: Timeline._map_started,
    MapEnded: Timeline._map_ended,
    InputRead: Timeline._read,
    WorkReported: Timeline._reported,
    TaskFailed: Timeline._task_failed,
    TaskRetried: Timeline._retried,
}
