"""What a node does with chunks: each is a map, or a call, of its pool, and they run side by side."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from allcores.adapters.cluster.messages import NodeChunk, NodeResults
from allcores.adapters.cluster.packing import unpack
from allcores.errors import TaskCancelled, TaskExited, TaskTimeout, WorkerLost
from allcores.outcome import Kind, Outcome
from allcores.pool.pool import Pool, driver_of, outcome_stream
from allcores.system.clock import monotonic_ns
from allcores.transport import exceptions, pickling, surroundings
from allcores.transport.pickling import FUNCTION_UNREAD, ITEM_UNREAD, RESULT_UNWRITTEN
from allcores.transport.reduction import Reduction
from allcores.transport.surroundings import Surroundings

if TYPE_CHECKING:
    from concurrent.futures import Future

    from allcores.pool.result_stream import Stream

#: Chunks are looked at this often, seconds: if all that is left of them runs, or soon does, that is told, for then the
#: node wants another. Longer: cores wait for it.
LOOK_S = 0.05


#: takes what is finished, on any thread
Tell = Callable[[NodeResults], None]


class Numbered:
    """Items that have their indices from the program."""

    def __init__(self, items: list[Any], first: int) -> None:
        self._items = iter(items)
        self._first, self._count = first, len(items)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        self._first += 1
        self._count -= 1
        return item

    def upcoming(self) -> tuple[int, int]:
        """See `pool.input_reader.Numbered`."""
        return self._first, max(1, self._count)


class _Run:
    """One chunk at work."""

    def __init__(self, chunk: NodeChunk) -> None:
        self.chunk = chunk
        self.lock = threading.Lock()
        #: with the lock: what has ended and was not told, how many have, index of the first of which was not told
        self.done: dict[int, Outcome[Any]] = {}
        self.finished = 0
        self.at = chunk.first
        self.told_s = monotonic()
        #: it was told that all that is left runs, or soon does; that it has ended
        self.tail = self.ended = False
        self.stream: Stream[Outcome[Any]] | None = None
        self.future: Future[Any] | None = None
        #: nothing more is to start; what runs is to end
        self.stopped = self.cancelled = False


class Work:
    """The chunks of one node.

    Args:
        pool: The node's.
        tell: Takes results, on any thread.
        view: Contents of what is shared, by number.
        report_s: See Opening.
    """

    def __init__(self, pool: Pool, tell: Tell, view: Callable[[int], memoryview], report_s: float) -> None:
        self._pool = pool
        self._report_s = report_s
        self._tell = tell
        self._view = view
        #: how each is called, and bytes; then the function itself, or what its unpickling raised
        self._functions: dict[int, tuple[str, bytes | None, Any]] = {}
        self._runs: dict[int, _Run] = {}
        self._threads: set[threading.Thread] = set()
        self._around = threading.local()
        self._last_around: tuple[bytes, Surroundings] | None = None
        driver = driver_of(pool)
        driver.around = self._current
        driver.scheduler.state.returns_unstarted = True

    @property
    def holds(self) -> int:
        """Chunks that have not ended."""
        return len(self._runs)

    # --- functions ----------------------------------------------------------------------------------------

    def learn(self, number: int, payload: bytes) -> None:
        """Have a function, which is unpickled when it is first called."""
        style, packed, path = pickling.loads(payload)
        missing = [entry for entry in path if isinstance(entry, str) and entry not in sys.path]
        if missing:
            # As in the program; behind what is here already.
            sys.path.extend(missing)
            importlib.invalidate_caches()
        self._functions[number] = style, packed, None

    def forget(self, number: int) -> None:
        """Nobody will ask for it any more."""
        self._functions.pop(number, None)

    def _function(self, number: int) -> tuple[str, Any]:
        style, packed, function = self._functions[number]
        if packed is not None:
            function = unpack(packed, self._view)
            if isinstance(function, Reduction):
                # A node's outcomes are one for each item: values are merged by the program.
                function = function.__call__
            self._functions[number] = style, None, function
        return style, function

    # --- surroundings -------------------------------------------------------------------------------------

    def _current(self) -> Any:
        return getattr(self._around, "now", None) or surroundings.current()

    def _set_around(self, data: bytes) -> None:
        """The program's filters, decimal context and context variables; folder, environment and path are the node's."""
        last = self._last_around
        if last is None or last[0] != data:
            own = surroundings.current()
            decimal, filters, context = pickling.loads(data)
            made = Surroundings(own.folder, own.environ, own.path, own.locale, decimal, filters, context)
            last = self._last_around = data, made
        self._around.now = last[1]

    # --- chunks -------------------------------------------------------------------------------------------

    def begin(self, chunk: NodeChunk) -> None:
        """Begin a chunk."""
        run = self._runs[chunk.sequence] = _Run(chunk)
        work = self._call if chunk.call else self._map
        thread = threading.Thread(target=self._guarded, args=(work, run), name="allcores-chunk", daemon=True)
        self._threads.add(thread)
        thread.start()

    def revoke(self, sequence: int, *, running: bool) -> None:
        """Start nothing more of a chunk.

        Args:
            sequence: Which.
            running: What runs is to end, too.
        """
        run = self._runs.get(sequence)
        if run is None:
            return
        run.stopped, run.cancelled = True, run.cancelled or running
        stream, future = run.stream, run.future
        if future is not None:
            cancel(future, running=running)
        elif running and stream is not None:
            stream.close()
        elif stream is not None:
            stream.stop()

    def join(self) -> None:
        """Wait, boundedly, for the threads of chunks; the pool is closed."""
        until = monotonic() + 2.0
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - monotonic()))

    def _guarded(self, work: Callable[[_Run], None], run: _Run) -> None:
        try:
            work(run)
        except BaseException as error:  # the pool was closed, or broke
            if run.chunk.sequence in self._runs and not run.cancelled:
                self._fail_rest(run, 0, error)
        finally:
            self._threads.discard(threading.current_thread())

    def _map(self, run: _Run) -> None:
        chunk = run.chunk
        loaded = self._loaded(run)
        if loaded is None:
            return
        style, function, items = loaded
        numbered = Numbered(items, chunk.first)
        stream = outcome_stream(self._pool, function, style, numbered, chunk.timeout_s, chunk.batch or None)
        run.stream = stream
        if run.cancelled:
            stream.close()
        elif run.stopped:
            stream.stop()
        for outcome in stream:
            with run.lock:
                run.done[outcome.index] = outcome
                run.finished += 1
        run.stream = None
        if run.cancelled:
            self._end(run, NodeResults(chunk.sequence, 0, 0, 0, None, [], [], None, True))
            return
        with run.lock:
            for index in range(run.at, chunk.first + chunk.length):
                if index not in run.done:
                    # The stream was stopped before it was pulled.
                    error = TaskCancelled("it was not started: the stream was stopped")
                    run.done[index] = Outcome(index, Kind.CANCELLED, error=error, attempts=0)
            run.ended = True
            self._report(run)

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
        outcomes: list[Outcome[Any]] = []
        begin = run.at
        while (outcome := run.done.pop(run.at, None)) is not None:
            outcomes.append(outcome)
            run.at += 1
        results = packed_results(run.chunk, begin - run.chunk.first, outcomes, ended=run.ended)
        if run.ended:
            self._end(run, results)
        else:
            run.told_s = monotonic()
            self._tell(results._replace(tail=run.tail))

    def _end(self, run: _Run, results: NodeResults) -> None:
        self._runs.pop(run.chunk.sequence, None)
        self._tell(results)

    def _call(self, run: _Run) -> None:
        chunk = run.chunk
        loaded = self._loaded(run)
        if loaded is None:
            return
        _, function, ((args, kwargs),) = loaded
        begun = monotonic_ns()
        future = self._pool.call(function, args, kwargs, timeout=chunk.timeout_s)
        run.future = future
        if run.stopped:
            cancel(future, running=run.cancelled)
        future.add_done_callback(partial(self._called, run, begun))

    def _called(self, run: _Run, begun: int, future: Future[Any]) -> None:
        """A call has its outcome. On the pool's own thread."""
        chunk = run.chunk
        if future.cancelled() or run.cancelled:
            self._end(run, NodeResults(chunk.sequence, 0, 0, 0, None, [], [], None, True))
            return
        error, seconds = future.exception(), (monotonic_ns() - begun) / 1e9
        kind = Kind.OK if error is None else kind_of(error)
        value = future.result() if error is None else None
        outcome: Outcome[Any] = Outcome(0, kind, value, error, None, 1, seconds)
        self._end(run, packed_results(chunk, 0, [outcome], ended=True))

    def _loaded(self, run: _Run) -> tuple[str, Any, Any] | None:
        """Style, function and items of a chunk; None if one of these cannot be unpickled: then that is told."""
        chunk = run.chunk
        try:
            self._set_around(chunk.around)
            style, function = self._function(chunk.function)
        except BaseException as error:
            exceptions.add_note(error, FUNCTION_UNREAD)
            self._fail_rest(run, 0, error)
            return None
        try:
            return style, function, unpack(chunk.items, self._view)
        except BaseException as error:
            if chunk.length > 1:
                self._end(run, NodeResults(chunk.sequence, 0, 0, 0, None, [], [], None, True, unread=True))
                return None
            exceptions.add_note(error, ITEM_UNREAD)
            self._fail_rest(run, 0, error)
            return None

    def _fail_rest(self, run: _Run, start: int, error: BaseException) -> None:
        chunk = run.chunk
        failed: list[Outcome[Any]] = [
            Outcome(index, Kind.FAILED, error=error) for index in range(chunk.first + start, chunk.first + chunk.length)
        ]
        self._end(run, packed_results(chunk, start, failed, ended=True))


def cancel(future: Any, *, running: bool) -> None:
    """Cancel a call; one that a worker has already only if it is to end, too."""
    future.ends_running_calls = running
    future.cancel()
    future.ends_running_calls = True


def kind_of(error: BaseException) -> Kind:
    """How a call has ended, by the error that its future has."""
    if isinstance(error, TaskTimeout):
        return Kind.TIMED_OUT
    if isinstance(error, WorkerLost) or (isinstance(error, TaskExited) and isinstance(error.__cause__, SystemExit)):
        return Kind.WORKER_LOST
    return Kind.CANCELLED if isinstance(error, TaskCancelled) else Kind.FAILED


def packed_results(chunk: NodeChunk, start: int, outcomes: list[Outcome[Any]], *, ended: bool) -> NodeResults:
    """Outcomes of consecutive items as they travel; `start` is the first one's offset in the chunk."""
    failures: list[tuple[int, str, bytes, str, str, bool]] = []
    values: list[Any] = []
    offsets: list[int] = []
    total_ns = 0
    for offset, outcome in enumerate(outcomes, start):
        total_ns += int(outcome.seconds * 1e9)
        if outcome.error is None:
            values.append(outcome.value)
            offsets.append(offset)
        else:
            failures.append(_packed_failure(offset, outcome.kind, outcome.error))
    each: list[bytes] | None = None
    data: bytes | None = None
    try:
        data, plain = pickling.dump_values(values)
    except Exception:
        plain = False
    if not plain:
        data, each = None, []
        for offset, value in zip(offsets, values, strict=True):
            try:
                each.append(pickling.dumps(value, to_parent=True))
            except BaseException as error:
                exceptions.add_note(error, RESULT_UNWRITTEN)
                failures.append(_packed_failure(offset, Kind.FAILED, error))
        failures.sort()
    durations = [int(outcome.seconds * 1e9) for outcome in outcomes] if chunk.detailed else None
    return NodeResults(chunk.sequence, start, len(outcomes), total_ns, data, each, failures, durations, ended)


def _packed_failure(offset: int, kind: Kind, error: BaseException) -> tuple[int, str, bytes, str, str, bool]:
    # The note that names item, worker and attempt is made anew by the program, which knows them.
    notes = exceptions.ATTRIBUTES.__get__(error).get("__notes__")
    own = [note for note in notes if not _names_worker(note)] if isinstance(notes, list) else []
    noted = isinstance(notes, list) and len(own) < len(notes)
    if noted:
        exceptions.ATTRIBUTES.__get__(error)["__notes__"] = own
    name, message = exceptions.type_name(type(error)), exceptions.text_of(error)
    return offset, kind.value, exceptions.pack(error), name, message, noted


def _names_worker(note: object) -> bool:
    return isinstance(note, str) and note.startswith("allcores: ") and " failed in worker " in note
