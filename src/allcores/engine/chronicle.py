"""What observers get to know of work: the reports of one turn, put together by worker and flow.

Only kept while somebody observes. A frame of a worker holds a record for each fraction of a millisecond; one piece
of news for all of them keeps watching cheap.
"""

from __future__ import annotations

from collections.abc import Sequence

from allcores.engine.desk import Desk
from allcores.engine.events import News, WorkRecord, WorkReported
from allcores.engine.flow import Chunk


class _Report:
    """News of work that grows until the turn ends."""

    __slots__ = ("begin_ns", "busy_ns", "count", "failed", "flow", "records", "size_bytes", "worker")

    def __init__(self, worker: int, flow: int, begin_ns: int) -> None:
        self.worker = worker
        self.flow = flow
        self.begin_ns = begin_ns
        self.busy_ns = self.count = self.failed = self.size_bytes = 0
        self.records: list[WorkRecord] = []


class Chronicle:
    """Collects the reports of a turn."""

    def __init__(self) -> None:
        self._reports: dict[tuple[int, int], _Report] = {}
        self._now = 0

    def note(
        self,
        desk: Desk,
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
        key = (desk.worker, chunk.flow.number)
        report = self._reports.get(key)
        if report is None:
            # It began when it had nothing older to do: at its last report, or when it was given this.
            report = self._reports[key] = _Report(*key, max(desk.seen_ns, chunk.sent_ns))
        desk.seen_ns = self._now = now
        report.count += count
        report.failed += failed
        report.busy_ns += busy_ns
        report.size_bytes += size_bytes
        report.records.append(WorkRecord(chunk.first + start, count, busy_ns, durations, chunk.items, start))

    def tell(self, news: list[News]) -> None:
        """The turn ends: append what was collected to `news`."""
        for report in self._reports.values():
            news.append(
                WorkReported(
                    report.worker,
                    report.flow,
                    report.count,
                    report.failed,
                    report.begin_ns,
                    self._now,
                    report.busy_ns,
                    report.size_bytes,
                    report.records,
                )
            )
        self._reports.clear()
