"""What a run uses: processor seconds and memory of the parent and its workers.

Linux: sampled from /proc. Elsewhere: what getrusage tells about this process and its ended children.
Resident memory counts a page that two processes share twice; proportional shares would cost a walk through
every mapping per sample.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from allcores.events import PoolEvent, WorkerStarted
from allcores.system import process_stats, procfs

#: seconds between samples. Larger misses short peaks, smaller costs time (20 µs per worker and sample).
SAMPLE_S = 0.2


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a run so far.

    Attributes:
        cpu_s: Processor seconds of parent and workers.
        peak_bytes: Largest sum of resident memory seen.
        peak_worker_bytes: The largest single worker's; 0 where it cannot be told.
        waited_s: Seconds for which workers were ready to run, and no processor was free.
        others_s: Processor seconds of everything else on the machine, None if that is not known.
    """

    cpu_s: float
    peak_bytes: int
    peak_worker_bytes: int
    waited_s: float = 0.0
    others_s: float | None = None


class Meter:
    """An observer that measures while its `with` block runs."""

    sees_work = False

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards the four below: events come from any thread
        #: pid -> processor seconds when last seen; numbers of ended workers stay
        self._workers: dict[int, float] = {}
        self._alive: set[int] = set()
        #: of each worker, seconds without a processor: as it was ready, and when last seen
        self._waited: dict[int, tuple[float, float]] = {}
        self._waited_gone_s = 0.0
        self._busy_start_s = process_stats.machine_busy_s()
        self._busy_s = self._busy_start_s
        self._peak_bytes = 0
        self._peak_worker_bytes = 0
        self._own_start_s = time.process_time()
        self._own_s = 0.0
        self._children_start_s = _children_s()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_sampling, name="allcores-meter", daemon=True)

    def __call__(self, event: PoolEvent) -> None:
        if isinstance(event, WorkerStarted) and event.pid is not None and event.pid != os.getpid():
            with self._lock:
                if event.pid in self._workers and event.pid not in self._alive:
                    self._workers[-len(self._workers)] = self._workers.pop(event.pid)  # the pid is used again
                self._workers.setdefault(event.pid, 0.0)
                self._alive.add(event.pid)
                before = self._waited.pop(event.pid, (0.0, 0.0))
                self._waited_gone_s += before[1] - before[0]
                waited = process_stats.waited_s(event.pid) or 0.0
                self._waited[event.pid] = (waited, waited)

    def sample(self) -> None:
        """Measure now. To be called before the pool is closed: workers that are gone tell nothing."""
        own = time.process_time() - self._own_start_s
        me = process_stats.stat(os.getpid())
        total = me.resident if me is not None else 0
        with self._lock:
            for pid in list(self._alive):
                found = process_stats.stat(pid)
                if found is None:
                    self._alive.discard(pid)
                    continue
                self._workers[pid] = max(found.cpu_s, self._workers[pid])
                self._peak_worker_bytes = max(self._peak_worker_bytes, found.resident)
                total += found.resident
                waited = process_stats.waited_s(pid)
                if waited is not None and pid in self._waited:
                    start, last = self._waited[pid]
                    self._waited[pid] = (start, max(last, waited))
            self._own_s = own
            self._busy_s = process_stats.machine_busy_s()
            self._peak_bytes = max(self._peak_bytes, total)

    def usage(self) -> Usage:
        """What was measured."""
        if not procfs.AVAILABLE:
            return Usage(self._own_s + _children_s() - self._children_start_s, *_peaks())
        with self._lock:
            cpu_s = self._own_s + sum(self._workers.values())
            waited_s = self._waited_gone_s + sum(last - start for start, last in self._waited.values())
            others_s = None
            if self._busy_s is not None and self._busy_start_s is not None:
                others_s = max(0.0, self._busy_s - self._busy_start_s - cpu_s)
            return Usage(cpu_s, self._peak_bytes, self._peak_worker_bytes, waited_s, others_s)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _keep_sampling(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.sample()


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _peaks() -> tuple[int, int]:
    try:
        import resource
    except ImportError:  # Windows
        return 0, 0
    scale = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * scale
    return own + worker, worker
