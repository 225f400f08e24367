"""What a node does with chunks: each is a map, or a call, of its pool.

Those of one map of the program are worked at in order, for its reader waits for the first; maps have their turns.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from allcores.adapters.cluster.doubtful import Reader, as_told
from allcores.adapters.cluster.encoding import failed_part, kind_of, note_step, nothing_of, results_of
from allcores.adapters.cluster.messages import NodeChunk, NodeResults, Revocation
from allcores.adapters.cluster.node_changes import NodeChanges
from allcores.adapters.cluster.numbered import Numbered
from allcores.adapters.cluster.packing import unpack
from allcores.errors import TaskCancelled
from allcores.outcome import Kind
from allcores.pool.pool import Pool, driver_of
from allcores.pool.segment_reader import SegmentReader
from allcores.pool.segment_stream import part_reader
from allcores.scheduler.map_state import MapState
from allcores.scheduler.segment import Segment
from allcores.scheduler.series import Series
from allcores.system.clock import monotonic_ns
from allcores.transport import pickling, surroundings
from allcores.transport.exceptions import add_note
from allcores.transport.pickling import FUNCTION_UNREAD, ITEM_UNREAD
from allcores.transport.surroundings import NamedFilter, Surroundings

if TYPE_CHECKING:
    from concurrent.futures import Future

#: Chunks are looked at this often, seconds: if all that is left of them runs, or soon does, that is told, for then the
#: node wants another. Longer: cores wait for it.
LOOK_S = 0.05
#: A chunk begins no earlier than the one before it of its map, but it waits no longer than this, seconds: what that one
#: is made of may take long to unpickle.
TURN_S = 5.0
#: What was measured in so many maps of the program is kept while the node has nothing of them.
MOST_SERIES = 32

#: takes what is finished, on any thread
Tell = Callable[[list[NodeResults]], None]


class _Run:
    """One chunk at work.

    Args:
        chunk: The chunk.
        series: Of its map of the program.
    """

    def __init__(self, chunk: NodeChunk, series: Series[MapState]) -> None:
        self.chunk = chunk
        self.series = series
        #: its map is open, or will never be; the same of the chunk before it in its map of the program
        self.opened = threading.Event()
        self.before: threading.Event | None = None
        self.lock = threading.Lock()
        #: with the lock: what has ended and was not told, by index; how many items have; index of the first that was
        #: not told
        self.done: dict[int, Segment] = {}
        self.finished = 0
        self.at = chunk.first
        self.told_s = monotonic()
        #: it was told that all that is left runs, or soon does; that it has ended
        self.tail = self.ended = False
        self.reader: SegmentReader | None = None
        self.future: Future[Any] | None = None
        #: nothing more is to start; what runs is to end
        self.stopped = self.cancelled = False
        #: with the lock: it is begun; or it never will be, and its end was told
        self.begun = self.given_up = False

    def begin(self) -> bool:
        """From here on items of it may start. False if it was given up before."""
        with self.lock:
            self.begun = not self.given_up
            return self.begun

    def give_up(self) -> bool:
        """Nothing of it will start. False if something may have."""
        with self.lock:
            self.given_up = not self.begun
            return self.given_up


class Work:
    """The chunks of one node.

    Args:
        pool: The node's.
        tell: Takes results, on any thread.
        broke: Called with what has broken the pool, perhaps several times.
        view: Contents of what is shared, by number.
        report_s: See Opening.
    """

    def __init__(
        self,
        pool: Pool,
        tell: Tell,
        broke: Callable[[BaseException], None],
        view: Callable[[int], memoryview],
        report_s: float,
    ) -> None:
        self._pool = pool
        self._broke = broke
        self._report_s = report_s
        self._tell = tell
        self._view = view
        self._reader = Reader(pool, view)
        #: how each is called, and bytes; then the function itself, or what its unpickling raised
        self._functions: dict[int, tuple[str, bytes | None, Any]] = {}
        self._runs: dict[int, _Run] = {}
        #: by the number of a map of the program, the one used last at the end; whether the last chunk of each is open
        self._series: dict[int, Series[MapState]] = {}
        self._last: dict[int, threading.Event] = {}
        self._threads: set[threading.Thread] = set()
        self._around = threading.local()
        self._last_around: tuple[bytes, Surroundings] | None = None
        driver = driver_of(pool)
        driver.around = self._current
        self.changes = NodeChanges()
        driver.lost_changes = self.changes
        driver.scheduler.state.returns_unstarted = True

    @property
    def holds(self) -> int:
        """Chunks that have not ended."""
        return len(self._runs)

    # --- functions ----------------------------------------------------------------------------------------

    def learn(self, number: int, payload: bytes) -> None:
        """Have a function, which is unpickled when it is first called."""
        style, packed, path = pickling.loads(payload)
        find_modules(path)
        self._functions[number] = style, packed, None

    def forget(self, number: int) -> None:
        """Nobody will ask for it any more."""
        self._functions.pop(number, None)

    def _function(self, number: int) -> tuple[str, Any]:
        style, packed, function = self._functions[number]
        if packed is not None:
            function = unpack(packed, self._view)
            self._functions[number] = style, None, function
        return style, function

    # --- surroundings -------------------------------------------------------------------------------------

    def _current(self) -> Any:
        return getattr(self._around, "now", None) or surroundings.current()

    def _set_around(self, data: bytes) -> None:
        """The program's filters, decimal context and context variables; folder, environment and path are the node's."""
        last = self._last_around
        if last is None or last[0] != data:
            decimal, named, context = pickling.loads(data)
            filters = None if named is None else [NamedFilter(each) for each in named]
            last = self._last_around = data, surroundings.current().on_another_machine(decimal, filters, context)
        self._around.now = last[1]

    # --- chunks -------------------------------------------------------------------------------------------

    def begin(self, chunk: NodeChunk) -> None:
        """Begin a chunk."""
        number = chunk.map_number
        run = _Run(chunk, Series() if chunk.call else self._series_of(number))
        if not chunk.call:
            run.before, self._last[number] = self._last.get(number), run.opened
        self._runs[chunk.sequence] = run
        work = self._call if chunk.call else self._map
        thread = threading.Thread(target=self._guarded, args=(work, run), name="allcores-chunk", daemon=True)
        thread.start()

    def _series_of(self, number: int) -> Series[MapState]:
        found = self._series.pop(number, None) or Series()
        self._series[number] = found
        if len(self._series) > MOST_SERIES:
            # Copied at once: chunks end on threads of their own.
            held = {run.chunk.map_number for run in list(self._runs.values())}
            for old in [each for each in list(self._series)[:-MOST_SERIES] if each not in held]:
                del self._series[old]
                self._last.pop(old, None)
        return found

    def revoke(self, wanted: Revocation) -> None:
        """Start nothing more of a chunk."""
        run, running = self._runs.get(wanted.sequence), wanted.running
        if run is None:
            return
        run.stopped, run.cancelled = True, run.cancelled or running
        if not wanted.for_others and run.give_up():
            # To read what it is made of may take minutes, for the modules that it imports: nobody is to wait for that.
            self._end(run, [nothing_of(run.chunk)])
            return
        reader, future = run.reader, run.future
        if future is not None:
            cancel(future, running=running)
        elif running and reader is not None:
            reader.end()
        elif reader is not None:
            reader.stop()

    def join(self) -> None:
        """Wait, boundedly, for the threads of chunks; the pool is closed."""
        until = monotonic() + 2.0
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - monotonic()))

    def _guarded(self, work: Callable[[_Run], None], run: _Run) -> None:
        # By itself: one that is not started yet cannot be joined.
        self._threads.add(threading.current_thread())
        try:
            work(run)
        except BaseException as error:  # the pool was closed, or broke
            if self._has_broken():
                return
            if run.cancelled:
                self._end(run, [nothing_of(run.chunk)])
            else:
                self._fail_rest(run, error)
        finally:
            run.opened.set()
            self._threads.discard(threading.current_thread())

    def _has_broken(self) -> bool:
        """Whether the pool has: then that is told, for other nodes may do what it held."""
        error = driver_of(self._pool).broken
        if error is not None:
            self._broke(error)
        return error is not None

    def _map(self, run: _Run) -> None:
        chunk = run.chunk
        loaded = self._loaded(run)
        if loaded is None:
            return
        style, function, items = loaded
        reader = self._opened(run, function, style, items)
        if reader is None:
            return
        if run.cancelled:
            reader.end()
        elif run.stopped:
            reader.stop()
        for segment in reader.segments():
            with run.lock:
                run.done[segment.start] = segment
                run.finished += segment.count
        run.reader = None
        if run.cancelled:
            self._end(run, [nothing_of(chunk)])
            return
        with run.lock:
            _fill_gaps(run)
            run.ended = True
            self._report(run)

    def _opened(self, run: _Run, function: Any, style: str, items: list[Any]) -> SegmentReader | None:
        """Open the map of a chunk, after that of the chunk before it; None if it was given up."""
        chunk = run.chunk
        before, run.before = run.before, None
        if before is not None:
            before.wait(TURN_S)
        if not run.begin():
            return None
        run.reader = part_reader(
            self._pool,
            function,
            style,
            Numbered(items, chunk.first),
            chunk.timeout_s,
            chunk.batch or None,
            series=run.series,
            place=chunk.first,
            detailed=chunk.detailed,
        )
        run.opened.set()
        return run.reader

    def report(self) -> None:
        """Tell how chunks that go on are getting on, if there is something to tell."""
        runs = [run for run in list(self._runs.values()) if not run.chunk.call]
        left = sum(run.chunk.length - run.finished for run in runs)
        # Of each core's next item but one nobody knows: all that is left runs, or soon does.
        cores = self._pool.workers * max(1, *(run.chunk.batch for run in runs), 1)
        tail = left <= 2 * cores
        for run in runs:
            with run.lock:
                due = run.at in run.done and monotonic() - run.told_s > self._report_s
                if not (run.ended or run.cancelled) and (due or (tail and not run.tail)):
                    run.tail = run.tail or tail
                    self._report(run)

    def _report(self, run: _Run) -> None:
        """Tell of finished items without a gap, with the run's lock held."""
        segments: list[Segment] = []
        begin = run.at
        while (segment := run.done.pop(run.at, None)) is not None:
            segments.append(segment)
            run.at += segment.count
        results = results_of(run.chunk, begin - run.chunk.first, segments, ended=run.ended)
        if run.ended:
            self._end(run, results)
        else:
            run.told_s = monotonic()
            results[-1] = results[-1]._replace(tail=run.tail)
            self._tell(results)

    def _end(self, run: _Run, results: list[NodeResults]) -> None:
        """Tell the end of a chunk, once."""
        if self._runs.pop(run.chunk.sequence, None) is not None:
            self._tell(results)

    def _call(self, run: _Run) -> None:
        chunk = run.chunk
        loaded = self._loaded(run)
        if loaded is None:
            return
        _, function, ((args, kwargs),) = loaded
        if not run.begin():
            return
        begun = monotonic_ns()
        future = self._pool.call(function, args, kwargs, timeout=chunk.timeout_s)
        run.future = future
        if run.stopped:
            cancel(future, running=run.cancelled)
        future.add_done_callback(partial(self._called, run, begun))

    def _called(self, run: _Run, begun: int, future: Future[Any]) -> None:
        """A call has its outcome. On the pool's own thread."""
        chunk = run.chunk
        if self._has_broken():
            return
        if future.cancelled() or run.cancelled:
            self._end(run, [nothing_of(chunk)])
            return
        error, took = future.exception(), monotonic_ns() - begun
        if error is None:
            segment = Segment(chunk.first, 1, [], values=[future.result()])
        else:
            segment = failed_part(chunk.first, [(kind_of(error), error)])
        segment.total_ns, segment.durations = took, [took]
        self._end(run, results_of(chunk, 0, [segment], ended=True))

    def _loaded(self, run: _Run) -> tuple[str, Any, Any] | None:
        """Style, function and items of a chunk; None if one of these cannot be unpickled: then that is told."""
        chunk = run.chunk
        if chunk.doubtful and self._ends_reader(run):
            return None
        try:
            self._set_around(chunk.around)
            style, function = self._function(chunk.function)
        except BaseException as error:
            note_step(error, FUNCTION_UNREAD)
            self._fail_rest(run, error)
            return None
        try:
            items = unpack(chunk.items, self._view)
            return style, function, items[chunk.skip : chunk.skip + chunk.length] if chunk.shared else items
        except BaseException as error:
            if chunk.length > 1 or chunk.shared:
                self._end(run, [nothing_of(chunk, unread=True)])
                return None
            note_step(error, ITEM_UNREAD)
            self._fail_rest(run, error)
            return None

    def _ends_reader(self, run: _Run) -> bool:
        """Whether the function or the items of a chunk end who reads them: then that is told."""
        chunk = run.chunk
        packed, single = self._functions[chunk.function][1], chunk.length == 1 and not chunk.shared
        for data, step in ((packed, FUNCTION_UNREAD), (chunk.items, ITEM_UNREAD)):
            error = None if data is None else self._reader.end(data, chunk.timeout_s)
            if error is None:
                continue
            if step == ITEM_UNREAD and not single:
                self._end(run, [nothing_of(chunk, unread=True)])
            else:
                add_note(as_told(error), step)
                self._fail_rest(run, error, kind_of(error))
            return True
        return False

    def _fail_rest(self, run: _Run, error: BaseException, kind: Kind = Kind.FAILED) -> None:
        chunk = run.chunk
        failed = failed_part(chunk.first, [(kind, error)] * chunk.length)
        self._end(run, results_of(chunk, 0, [failed], ended=True))


def find_modules(path: Iterable[object]) -> None:
    """Modules are found where the program finds them, too: behind where they are found here already."""
    missing = [entry for entry in path if isinstance(entry, str) and entry not in sys.path]
    if missing:
        sys.path.extend(missing)
        importlib.invalidate_caches()


def _fill_gaps(run: _Run) -> None:
    """What has no outcome was not started: the stream was stopped before it was pulled."""
    at = run.at
    told = sorted((start, each.count) for start, each in run.done.items())
    for start, count in (*told, (run.chunk.first + run.chunk.length, 0)):
        if at < start:
            errors = [TaskCancelled("it was not started: the stream was stopped") for _ in range(start - at)]
            run.done[at] = failed_part(at, [(Kind.CANCELLED, error) for error in errors])
        at = start + count


def cancel(future: Any, *, running: bool) -> None:
    """Cancel a call; one that a worker has already only if it is to end, too."""
    future.ends_running_calls = running
    future.cancel()
    future.ends_running_calls = True
