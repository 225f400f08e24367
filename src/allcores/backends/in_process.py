"""Runs a chunk in this very interpreter, for the backends that have no process between."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING, Any, NamedTuple

from allcores.backends.base import Host, WorkerInit
from allcores.backends.shared_value import SharedValue
from allcores.errors import BatchError, SetupError, TaskExited, again
from allcores.outcome import Failure, Kind
from allcores.scheduler.item_words import describe
from allcores.scheduler.map_state import Chunk
from allcores.scheduler.messages import Results, Work, WorkerProgress
from allcores.system import deferral
from allcores.system.clock import monotonic_ns
from allcores.system.tracebacks import hide
from allcores.transport import chunk_ends
from allcores.transport.exceptions import add_note
from allcores.transport.misfits import explain_misfit
from allcores.transport.positions import PHASE_IDLE, PHASE_RUNNING, mark
from allcores.transport.references import OpenFiles
from allcores.transport.remote_errors import EXITING
from allcores.worker import forked

if TYPE_CHECKING:
    from allcores.shared_memory.parent_side import ParentMemory

#: Finished items are reported at least this often, ns.
REPORT_NS = 20_000_000


class AwaitedCall(NamedTuple):
    """A call that a task waits for, for as long as that takes; like a bell, it is expected to end that."""

    is_done: Callable[[], bool]

    @property
    def expected(self) -> bool:
        """It has no outcome yet."""
        return not self.is_done()


class InProcessBackend:
    """Base of the backends whose workers are this very process: nothing has to travel."""

    #: tasks log where they run, in this process: all of it is handled
    unhandled: Sized = ()
    setup_step = "setup"
    node_cores = node_count = 0
    memory_gauge: Callable[[], tuple[int, int] | None] | None = None
    sleeps_until: int | None = None
    _host: Host | None = None
    _parent_memory: ParentMemory | None = None
    _parent_memory_closed = False

    def pack(self, obj: object) -> bytes:
        """See Backend: it is never asked for."""
        return b""

    pack_for_all = pack

    def parent_memory(self, *, create: bool = True) -> ParentMemory | None:
        """See Backend."""
        if self._parent_memory is None and create and self._host is not None:
            from allcores.shared_memory import parent_side as parent_memory

            with self._host.lock:
                # Another thread may be making it just now, or closing the pool.
                if self._parent_memory is None and not self._parent_memory_closed:
                    self._parent_memory = parent_memory.alone()
        return self._parent_memory

    def forget_function(self, number: int) -> None:
        """See Backend: nothing is kept by number."""

    def is_stopped(self, worker: int) -> bool:
        """See Backend: a thread cannot be stopped alone."""
        return False

    def unsent(self, worker: int) -> int:
        """See Backend: nothing waits for a pipe."""
        return 0

    def resident_tree_bytes(self, worker: int) -> int:
        """See Backend: a thread has no memory of its own."""
        return 0

    def close_parent_memory(self) -> None:
        """Let go of what holds the shared memory, if there is any. Once: the number may be of another file by then."""
        assert self._host is not None
        with self._host.lock:
            closed, self._parent_memory_closed = self._parent_memory_closed, True
        if self._parent_memory is not None and not closed:
            self._parent_memory.close_alone()


class InProcessWorker:
    """A worker that is a thread, or the caller: where it is, and how it runs a chunk."""

    def __init__(self, number: int, worker_init: WorkerInit, shared: SharedValue) -> None:
        self.number = number
        self.shared = shared
        self.worker_init = worker_init
        self.state: tuple[Any, ...] = ()
        self._is_set_up = False
        self.limit = (1 << 64) - 1
        self.at = WorkerProgress(0, 0, 0, PHASE_IDLE)
        self.work = Work(None, 0, 0)

    def set_up(self) -> None:
        """Run the setup function, and the preload function if nobody did so yet. Raises SetupError."""
        self.state = self.shared.get()
        value = None
        try:
            setup, around = self.worker_init.setup, self.worker_init.around
            if setup is not None and around is not None:
                value = around.run_setup(setup, *self.state, *self.worker_init.setup_args)
            elif setup is not None:
                value = setup(*self.state, *self.worker_init.setup_args)
        except SetupError:
            raise
        except BaseException as error:
            if _comes_from_outside(error):
                raise
            raise SetupError(f"The setup function raised {type(error).__name__}: {error}") from error
        if value is not None:
            self.state = (value,)
        self._is_set_up = True

    def tear_down(self) -> None:
        """Run the teardown function, if the setup function was not the last that could run."""
        if self._is_set_up and self.worker_init.teardown is not None:
            self.worker_init.teardown(*self.state)

    def call(self, chunk: Chunk, item: Any, files: OpenFiles) -> Any:
        """One call, in the function's style.

        Args:
            chunk: Which has the function.
            item: Of the chunk.
            files: What references are read with: the chunk's own, for several threads may be this worker.
        """
        function, style = chunk.function.target, chunk.function.style
        item = files.loaded(style, item)
        if style == "one":
            return function(*self.state, item)
        if style == "star":
            return function(*self.state, *item)
        return function(*self.state, *item[0], **item[1])

    def run(self, chunk: Chunk, report: Callable[[Results], None]) -> None:
        """Run a chunk; `report` gets the results as they gather."""
        if chunk.surroundings is not None:
            # For this chunk alone, whatever its tasks set.
            chunk.surroundings.run(self._run, chunk, report)
            return
        self._run(chunk, report)

    def _run(self, chunk: Chunk, report: Callable[[Results], None]) -> None:
        if chunk.batch:
            self._run_batches(chunk, report)
            return
        sequence = chunk.sequence
        items, files = list(chunk.items), OpenFiles()
        values: list[Any] = []
        failures: list[Failure] = []
        durations: list[int] = []
        first = position = 0
        begun = now = monotonic_ns()
        process = os.getpid()

        def send(*, ended: bool) -> None:
            nonlocal values, failures, durations, first, begun
            if ended:
                _end(files)
            report(self._results(sequence, first, position, now - begun, values, failures, durations, ended=ended))
            values, failures, durations = [], [], []
            first, begun = position, monotonic_ns()

        for item in items:
            self.at = WorkerProgress(sequence, position, now, PHASE_RUNNING)
            if mark(sequence, position) >= self.limit:
                break
            try:
                values.append(self.call(chunk, item, files))
            except BaseException as error:
                if os.getpid() != process:
                    forked.leave(error)
                if _comes_from_outside(error):
                    # Not the task's own doing: the item was not finished.
                    self.at = WorkerProgress(sequence, position, 0, PHASE_IDLE)
                    send(ended=True)
                    raise
                if type(error) is TypeError:
                    explain_misfit(error, chunk.function.style, has_state=bool(self.state))
                # No name is given to it: the traceback has this frame, and so would hold itself, and the items with it.
                interrupted = isinstance(error, KeyboardInterrupt)
                failures.append(self._failure(chunk, position, KeyboardInterrupt() if interrupted else error))
            if os.getpid() != process:
                forked.leave()
            position += 1
            then, now = now, monotonic_ns()
            durations.append(now - then)
            # What is last goes with the end of the chunk, also if another thread has taken over what follows.
            if now - begun > REPORT_NS and position < len(items) and mark(sequence, position) < self.limit:
                send(ended=False)
        self.at = WorkerProgress(sequence, position, 0, PHASE_IDLE)
        send(ended=True)

    def _run_batches(self, chunk: Chunk, report: Callable[[Results], None]) -> None:
        """Run a chunk in batches. One that raises is halved until the item at fault is alone."""
        from allcores.transport.batches import batch_call

        sequence, items, base = chunk.sequence, list(chunk.items), mark(chunk.sequence, 0)
        files = OpenFiles()
        call = batch_call(chunk.function.style, chunk.function.target, self.state, files.loaded)
        first = position = 0
        #: where the parts of batches that have failed end, the nearest last
        ends: list[int] = []
        begun = now = monotonic_ns()
        process = os.getpid()
        while position < len(items):
            end = ends.pop() if ends else min(position + chunk.batch, len(items))
            self.at = WorkerProgress(sequence, position, now, PHASE_RUNNING, together=end - position)
            end = min(end, max(position, self.limit - base))
            count = end - position
            if not count:
                break
            values: list[Any] = []
            failures: list[Failure] = []
            try:
                values = call(items[position:end])
            except BaseException as error:
                if os.getpid() != process:
                    forked.leave(error)
                if _comes_from_outside(error):
                    # The batch was not finished.
                    self.at = WorkerProgress(sequence, position, 0, PHASE_IDLE)
                    _end(files)
                    report(self._results(sequence, first, position, 0, [], [], [], ended=True))
                    raise
                if count > 1 and not isinstance(error, BatchError):
                    # No attempt of those that are not at fault: they run again with the others of their half.
                    ends += (end, position + (count + 1) // 2)
                    now = monotonic_ns()
                    continue
                failures = [self._failure(chunk, each, again(error)) for each in range(position, end)]
            if os.getpid() != process:
                forked.leave()
            first, position = position, end
            now = monotonic_ns()
            durations = [(now - begun) // count] * count
            ended = position == len(items) or base + position >= self.limit
            if ended:
                self.at = WorkerProgress(sequence, position, 0, PHASE_IDLE)
                _end(files)
            report(self._results(sequence, first, position, now - begun, values, failures, durations, ended=ended))
            failures = []  # what they refer to refers to this frame
            if ended:
                return
            first = position
            begun = monotonic_ns()
        self.at = WorkerProgress(sequence, position, 0, PHASE_IDLE)
        _end(files)
        report(self._results(sequence, first, position, 0, [], [], [], ended=True))

    def _results(
        self,
        sequence: int,
        first: int,
        position: int,
        total_ns: int,
        values: list[Any],
        failures: list[Failure],
        durations: list[int],
        *,
        ended: bool,
    ) -> Results:
        count = position - first
        self.work = Work(None, self.work.done + count, self.work.busy_ns + total_ns)
        return Results(
            self.number,
            sequence,
            first,
            count,
            total_ns,
            values=values,
            failures=failures or None,
            durations=durations,
            ended=ended,
        )

    def _failure(self, chunk: Chunk, position: int, error: BaseException) -> Failure:
        # Here it is known that what was raised is the task's own, also where no frame of the function says so.
        hide(error, by_design=True)
        index = chunk.index_of(position)
        facts: dict[str, Any] = {"index": index, "attempts": chunk.attempt, "worker": self.number}
        what = describe(chunk, min(position, len(chunk.items) - 1) if chunk.items else 0)
        if isinstance(error, EXITING) or not isinstance(error, Exception):
            kind = Kind.WORKER_LOST if isinstance(error, SystemExit) else Kind.FAILED
            exited = TaskExited(
                f"{what} raised {type(error).__name__}({error}): a task that does this would end its caller; "
                "return or raise another exception instead.",
                **facts,
            )
            exited.__cause__ = error
            return Failure(position, kind, exited)
        add_note(error, f"allcores: {what} failed in worker {self.number}, attempt {chunk.attempt}")
        return Failure(position, Kind.FAILED, error)


def _comes_from_outside(error: BaseException) -> bool:
    """Whether no task did it: Ctrl-C, which arrives on the main thread alone, or a signal's handler raised it."""
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    return deferral.raised_by_handler(error)


def _end(files: OpenFiles) -> None:
    """Before the last results of a chunk leave: the program goes on with them, and may want to write to these files."""
    files.close()
    chunk_ends.run()
