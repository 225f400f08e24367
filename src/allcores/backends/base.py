"""The contract between a pool's driver and the place where its tasks run: each sees of the other what is here.

The driver gives commands (`Backend.execute`), a backend posts events (`Host.post`). Which worker gets what is decided
on the other side: a backend knows neither the driver nor the scheduler.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from allcores.errors import BrokenPool
from allcores.scheduler.messages import Command, Results, Work, WorkerGone, WorkerProgress
from allcores.system import deferral

if TYPE_CHECKING:
    from allcores.scheduler.map_state import Chunk
    from allcores.shared_memory.buffers import BufferedPickle
    from allcores.shared_memory.parent_side import ParentMemory
    from allcores.system.bell import Bell


class WorkerInit(NamedTuple):
    """What a worker does before its first task and after its last; and what is done once for all of them.

    Attributes:
        around: What `setup` is to find around it, as far as a process that starts has it not by itself: see
            `MapState.surroundings`.
    """

    setup: Callable[..., Any] | None = None
    setup_args: tuple[Any, ...] = ()
    teardown: Callable[..., Any] | None = None
    preload: Callable[..., Any] | None = None
    preload_args: tuple[Any, ...] = ()
    around: Any = None


# --- what a backend posts, besides `Results` and `WorkerGone` -----------------------------------------------------


class WorkerReady(NamedTuple):
    """A worker has started and its setup is done.

    Attributes:
        pid: None for a thread of this process.
    """

    worker: int
    pid: int | None


class SetupFailed(NamedTuple):
    """The setup (or preload) function raised: no outcome can be had."""

    error: BaseException


class PreloadBegan(NamedTuple):
    """Something is loaded for all workers, none of which can start before."""


class PreloadEnded(NamedTuple):
    """It is loaded, or will not be.

    Attributes:
        setup_step: What each worker does from here on before it is ready.
    """

    setup_step: str


class MemoryExceeded(NamedTuple):
    """A worker uses more memory than it may: it is to be ended, and its item at `position` gets the error.

    Attributes:
        together: Items in the call that runs, from there on: none of several is at fault by itself.
    """

    worker: int
    sequence: int
    position: int
    error: BaseException
    together: int = 1


class BackendBroken(NamedTuple):
    """No worker can be had any more."""

    error: BaseException


class LaunchesEnded(NamedTuple):
    """Of the workers that were ordered only these were started, and no other will be."""

    started: frozenset[int]


class BackendStopped(NamedTuple):
    """Its thread has ended, and no worker is left."""


class ChangesLost(NamedTuple):
    """A function has changed globals of its script in a worker, where it has copies of them.

    Attributes:
        function: Its name.
        names: Of the globals.
        drawn: Names of generators of random numbers that it has drawn from.
    """

    function: str
    names: Sequence[str]
    drawn: Sequence[str] = ()


#: what a backend tells its host, in the order in which it happened
BackendEvent = (
    Results
    | WorkerReady
    | WorkerGone
    | SetupFailed
    | PreloadBegan
    | PreloadEnded
    | MemoryExceeded
    | BackendBroken
    | LaunchesEnded
    | BackendStopped
    | ChangesLost
)


class Assignment(NamedTuple):
    """What a worker is used for at this moment.

    Attributes:
        chunk: The chunk that was asked for, if the worker holds it.
        first: The first one that it holds.
        holds_work: It holds at least one chunk.
        starting: It is not ready yet.
        leaving: It is to end by itself, or is about to.
        ending: The scheduler has decided to end it.
    """

    chunk: Chunk | None
    first: Chunk | None
    holds_work: bool
    starting: bool
    leaving: bool
    ending: bool


class Totals(NamedTuple):
    """How far a pool is: items that have an outcome, those of them that are not ok, and retries."""

    done: int
    not_ok: int
    retries: int


def start_thread(thread: threading.Thread, begun: Callable[[], object] | None = None) -> None:
    """Start a thread of a pool's own.

    Args:
        thread: Which is known to whoever ends it before.
        begun: Called once it runs, before a signal's handler can raise.

    Raises:
        BrokenPool: None can be had: a limit of the machine, or an interpreter that is ending.
    """
    try:
        outermost = deferral.enter()
        try:
            thread.start()
            if begun is not None:
                begun()
        finally:
            if outermost:
                deferral.leave()
    except RuntimeError as error:
        if thread.ident is not None:  # of a signal's handler
            raise
        raise BrokenPool(
            f"The pool's thread cannot be started: {error}. If the program's main thread has ended, make the pool "
            "before that (Python 3.12.0 to 3.12.2 start no threads later); else see `allcores doctor` for limits."
        ) from error


class Host(Protocol):
    """What a backend sees of the pool that it works for.

    `post`, `on_timer`, `notify`, `resolve`, `fail` and `finish` are called without the lock; all else with the lock
    held, and within `Backend.execute`, which has it, only what is said to be allowed there.
    """

    @property
    def name(self) -> str:
        """The pool's."""

    @property
    def workers(self) -> int:
        """How many there are to be."""

    def begun(self) -> None:
        """The backend's own thread runs: whatever is raised from now on, the pool has to be closed."""

    @property
    def lock(self) -> AbstractContextManager[None]:
        """Held for each decision and while commands are carried out; for short sections that never wait."""

    # --- events ---

    def post(self, events: Sequence[BackendEvent]) -> None:
        """One transaction: apply events, carry out what follows from them, then notify whom they concern."""

    def on_timer(self) -> None:
        """The same for what is due by now."""

    def apply(self, events: Sequence[BackendEvent], now: int) -> None:
        """Apply events; `execute`, and `notify` once the lock is released, are to follow. Also within `execute`."""

    def tick(self, now: int) -> None:
        """Apply what is due by now, likewise."""

    def execute(self) -> None:
        """Carry out the commands that follow from what was applied."""

    def resolve(self) -> None:
        """Give futures their outcomes: the part of `notify` that may be in a section (see `system.deferral`)."""

    def notify(self) -> None:
        """Give futures their outcomes and observers their events; both run foreign code."""

    def fail(self, error: BaseException) -> None:
        """The backend made a mistake: nobody is left waiting."""

    def finish(self) -> None:
        """The backend's own thread ends: nothing will be posted any more, and nothing may be left to that thread."""

    # --- questions ---

    @property
    def closing(self) -> bool:
        """No new workers; those that hold nothing end. Also without the lock."""

    @property
    def broken(self) -> BaseException | None:
        """Why no outcome can be had any more. Also without the lock."""

    @property
    def next_timer_ns(self) -> int | None:
        """When there is something for `tick`, if nothing else happens."""

    @property
    def waiting_for_time(self) -> bool:
        """Nothing but time will bring new work: a retry that falls due."""

    @property
    def holds_work(self) -> bool:
        """At least one worker holds a chunk."""

    @property
    def idle_workers(self) -> int:
        """How many workers hold nothing. Also within `execute`."""

    def assignment(self, worker: int, sequence: int) -> Assignment | None:
        """What a worker is used for; None if nothing is known of it.

        Args:
            sequence: Of the chunk that is asked for.
        """

    def totals(self) -> Totals:
        """How far the pool is."""

    def progress_of_maps(self) -> tuple[int, int]:
        """Items settled and items in all of the maps that are open; 0 in all if that is unknown of one."""


class _ThisThread(threading.local):
    #: of the tasks that this thread is in the middle of, each with what its functions get first
    tasks: tuple[tuple[object, tuple[Any, ...]], ...] = ()


_this_thread = _ThisThread()


@contextmanager
def task_of(host: object, state: tuple[Any, ...]) -> Iterator[None]:
    """While this lasts, this thread of the program runs tasks of a host.

    Args:
        host: Whose.
        state: What their functions get first: () or a tuple of one.
    """
    before = _this_thread.tasks
    _this_thread.tasks = (*before, (host, state))
    try:
        yield
    finally:
        _this_thread.tasks = before


def is_in_task_of(host: object) -> bool:
    """Whether this thread is in the middle of a task of a host: what it waits for may wait for that task to end."""
    return state_in_task_of(host) is not None


def state_in_task_of(host: object) -> tuple[Any, ...] | None:
    """What functions of the task get first that this thread is in the middle of for a host; None: there is no such."""
    return next((state for each, state in reversed(_this_thread.tasks) if each is host), None)


class Backend(Protocol):
    """What a place that runs tasks has to offer.

    `execute`, `forget_function`, `progress`, `work`, `is_stopped`, `unsent`, `resident_tree_bytes` and `wake_by` are
    called with the host's lock held and must not wait.
    """

    #: its name in `Pool(backend=...)`
    name: str
    #: it can end a task that runs too long, uses too much memory, or was cancelled
    can_end_tasks: bool
    #: functions and items must be turned into bytes for it
    needs_bytes: bool
    #: tasks run in `pump`, on the thread that wants results
    runs_on_caller: bool
    #: its workers are nodes of a cluster, each with so many cores; 0: they are not
    node_cores: int
    #: how many there are of them
    node_count: int
    #: what workers have logged and is not handled yet
    unhandled: Sized
    #: what a worker does before it is ready, for messages
    setup_step: str
    #: available and total memory of this machine, bytes; None where that cannot be read
    memory_gauge: Callable[[], tuple[int, int] | None] | None
    #: the time until which its thread sleeps; None while it is awake. Written with the lock held
    sleeps_until: int | None

    def pack(self, obj: object) -> bytes | BufferedPickle:
        """Bytes of what goes to one worker, where `needs_bytes`. Any thread. Raises whatever pickling raises."""

    def pack_for_all(self, obj: object) -> bytes | BufferedPickle:
        """The same for what goes to every worker."""

    def parent_memory(self, *, create: bool = True) -> ParentMemory | None:
        """What holds its shared memory; None where there can be none, or without `create` is none yet."""

    def start(self, host: Host) -> None:
        """Begin; the host will order workers to be launched."""

    def started(self) -> None:
        """The first commands were given; may wait, boundedly, until they are carried out."""

    def execute(self, commands: Sequence[Command]) -> None:
        """Carry out the scheduler's commands."""

    def forget_function(self, number: int) -> None:
        """No chunk will refer to this function any more: workers may drop it."""

    def progress(self, worker: int) -> WorkerProgress | None:
        """Where a worker is; None if it is unknown."""

    def work(self, worker: int) -> Work | None:
        """What a worker has done so far; None if it is unknown."""

    def is_stopped(self, worker: int) -> bool:
        """Whether a worker's process is stopped, by SIGSTOP say; 0: the one that starts the others."""

    def unsent(self, worker: int) -> int:
        """Bytes that a worker was given and that are not in its pipe yet."""

    def resident_tree_bytes(self, worker: int) -> int:
        """Bytes that the end of a worker would give back, about."""

    def wake(self) -> None:
        """Look again: something is to be done. Any thread, with or without the lock."""

    def wake_by(self, when_ns: int) -> None:
        """Something is due at this time: wake up if you would sleep for longer."""

    def pump(self) -> bool:
        """Run something on this thread; False if there is nothing to run here.

        So if this backend runs tasks on the caller's thread, or if this is the pool's own thread, for which no other
        thread works. It does not wait for what is due later, see `pump_due_ns`: this thread may have something else to
        do until then.
        """

    def pump_due_ns(self) -> int | None:
        """When `pump` has something to run, if nothing else happens: who waits is to ask it then.

        None: that will not be, or another thread sees to what falls due.
        """

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        """Wait for a call on this thread, if this backend can; may return before it is done.

        The thread steps back from the call that it attends to, further down its stack.

        Raises:
            PoolBusy: On the pool's own thread in the middle of a decision.
        """

    def wait(self, bell: Bell, wanted: Callable[[], bool], seconds: float) -> bool:
        """Wait for a stream's results on this thread; False if this backend cannot now: wait for the bell.

        Args:
            bell: Ends the wait when it is rung.
            wanted: Ends the wait when it is true; asked with the host's lock held.
            seconds: The longest wait.
        """

    def step_back(self) -> None:
        """This thread is to wait for something else than the call that it attends to, further down its stack."""

    def resolves_here(self) -> bool:
        """Whether this thread may run what a program has attached to futures: it holds no lock of the program's."""

    def settle_logs(self, seconds: float) -> None:
        """Wait, so long at most, until what workers have logged before the results that are here is handled."""

    def close(self) -> None:
        """Wait until nothing is left; bounded. The scheduler was told to close before."""

    def abandon(self) -> None:
        """In a forked copy of this process: let go of descriptors, touch nothing else."""
