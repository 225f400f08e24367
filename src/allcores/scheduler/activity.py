"""What observers get to know of work and of input: what came shortly one after the other, put together.

Only told while a pool is observed. A worker may report every fraction of a millisecond; one event for many
reports keeps watching cheap.
"""

from __future__ import annotations

from collections.abc import Sequence

from allcores.events import InputRead, PoolEvent, WorkRecord, WorkReported
from allcores.scheduler.map_state import Chunk, MapState
from allcores.scheduler.worker_state import WorkerState

#: What was read within so much time is told together, ns.
READ_NS = 5_000_000
#: Reports of a worker are told together until they make up so much time, ns. Larger costs less and tells later.
WORK_NS = 5_000_000


class _Report:
    """An event about work that still grows."""

    __slots__ = ("begin_ns", "busy_ns", "count", "end_ns", "failed", "map_state", "records", "size_bytes", "worker")

    def __init__(self, worker: int, map_state: int, begin_ns: int) -> None:
        self.worker = worker
        self.map_state = map_state
        self.begin_ns = self.end_ns = begin_ns
        self.busy_ns = self.count = self.failed = self.size_bytes = 0
        self.records: list[WorkRecord] = []


class ActivityBatcher:
    """Collects reports. Its owner holds a lock around it."""

    def __init__(self) -> None:
        #: by worker
        self._growing: dict[int, _Report] = {}
        self._ready: list[_Report] = []

    def note(
        self,
        worker_state: WorkerState,
        chunk: Chunk,
        start: int,
        count: int,
        failed: int,
        busy_ns: int,
        size_bytes: int,
        durations: Sequence[int] | None,
        now: int,
    ) -> None:
        """`count` items of `chunk`, from position `start` on, have been tried."""
        worker, map_state = worker_state.worker, chunk.map_state.number
        # It began when it had nothing older to do: at its last report, or when it was given this.
        begin_ns = max(worker_state.seen_ns, chunk.sent_ns)
        worker_state.seen_ns = now
        report = self._growing.get(worker)
        if report is not None and (report.map_state != map_state or begin_ns - report.end_ns > WORK_NS):
            self._ready.append(report)
            report = None
        if report is None:
            report = self._growing[worker] = _Report(worker, map_state, begin_ns)
        report.end_ns = now
        report.count += count
        report.failed += failed
        report.busy_ns += busy_ns
        report.size_bytes += size_bytes
        report.records.append(WorkRecord(chunk.first + start, count, busy_ns, durations, chunk.items, start))
        if now - report.begin_ns >= WORK_NS:
            self._ready.append(report)
            del self._growing[worker]

    def settle(self, map_state: MapState) -> None:
        """A map is over: no report of it grows any more."""
        for worker in [worker for worker, report in self._growing.items() if report.map_state == map_state.number]:
            self._ready.append(self._growing.pop(worker))

    def gone(self, worker: int) -> None:
        """A worker is gone."""
        report = self._growing.pop(worker, None)
        if report is not None:
            self._ready.append(report)

    def tell(self, events: list[PoolEvent]) -> None:
        """Append what is ready to `events`."""
        if not self._ready:
            return
        for report in self._ready:
            events.append(
                WorkReported(
                    report.worker,
                    report.map_state,
                    report.count,
                    report.failed,
                    report.begin_ns,
                    report.end_ns,
                    report.busy_ns,
                    report.size_bytes,
                    report.records,
                )
            )
        self._ready.clear()


class InputActivityBatcher:
    """What the reader of a map's input reads.

    Attributes:
        pull_ns: Time spent in the input since the last event; the reader adds to it.
        pack_ns: Time spent in pickling, likewise.
        held_since_ns: Since when the reader has no credit; 0 if it has some.
    """

    __slots__ = ("_begin_ns", "_end_ns", "_held_ns", "_map_state", "_told", "held_since_ns", "pack_ns", "pull_ns")

    def __init__(self, map_state: int) -> None:
        self._map_state = map_state
        #: items that were told of
        self._told = 0
        self._begin_ns = self._end_ns = self._held_ns = 0
        self.pull_ns = self.pack_ns = 0
        self.held_since_ns = 0

    def begin(self, now: int, index: int) -> InputRead | None:
        """A pull begins with item `index`. Returns the event about what was read before, if that is over."""
        event = None
        if self._begin_ns and (self.held_since_ns or now - self._end_ns > READ_NS):
            event = self._new_events(index, ended=False)
        if not self._begin_ns:
            self._begin_ns = now
            self._held_ns = now - self.held_since_ns if self.held_since_ns else 0
        self.held_since_ns = 0
        return event

    def end(self, now: int, index: int, *, ended: bool) -> InputRead | None:
        """A pull ends before item `index`, and the input perhaps, too."""
        self._end_ns = now
        return self._new_events(index, ended=ended) if ended or now - self._begin_ns >= READ_NS else None

    def _new_events(self, index: int, *, ended: bool) -> InputRead:
        event = InputRead(
            self._map_state,
            index - self._told,
            self._begin_ns,
            self._end_ns,
            self.pull_ns,
            self.pack_ns,
            self._held_ns,
            ended,
        )
        self._told = index
        self._begin_ns = self._held_ns = self.pull_ns = self.pack_ns = 0
        return event
