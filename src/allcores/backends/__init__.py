"""Where tasks run. One contract, found by name; importing allcores imports none of them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence, Sized
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from allcores.errors import BrokenPool, NotSupported, UsageError
from allcores.limits import Limits
from allcores.scheduler.messages import Order, Work, WorkerProgress

if TYPE_CHECKING:
    from allcores.backends.processes.worker_logs import WorkerLogReceiver
    from allcores.pool.driver import Driver
    from allcores.scheduler.map_state import Chunk
    from allcores.shared_memory.buffers import BufferedPickle
    from allcores.shared_memory.parent_side import ParentMemory
    from allcores.system.bell import Bell


#: what to do about limits that keep a pool from starting
_REMEDIES = {
    errno.EFBIG: "; raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "; raise the limit on open files (ulimit -n)",
}


class WorkerInit(NamedTuple):
    """What a worker does before its first task and after its last; and what is done once for all of them."""

    setup: Callable[..., Any] | None = None
    setup_args: tuple[Any, ...] = ()
    teardown: Callable[..., Any] | None = None
    preload: Callable[..., Any] | None = None
    preload_args: tuple[Any, ...] = ()


class Backend(Protocol):
    """What a place that runs tasks has to offer.

    `execute` and `progress` are called with the driver's lock held and must not wait.
    """

    #: its name in `Pool(backend=...)`
    name: str
    #: it can end a task that runs too long, uses too much memory, or was cancelled
    can_end_tasks: bool
    #: functions and items must be turned into bytes for it
    needs_bytes: bool
    #: tasks run in `pump`, on the thread that wants results
    runs_on_caller: bool
    #: what workers have logged and is not handled yet
    unhandled: Sized

    def pack(self, obj: object) -> bytes | BufferedPickle:
        """Bytes of what goes to one worker, where `needs_bytes`. Any thread. Raises whatever pickling raises."""

    def pack_for_all(self, obj: object) -> bytes | BufferedPickle:
        """The same for what goes to every worker."""

    def parent_memory(self, *, create: bool = True) -> ParentMemory | None:
        """What holds its shared memory; None where there can be none, or without `create` is none yet."""

    def start(self, driver: Driver) -> None:
        """Begin; the driver will order workers to be launched."""

    def started(self) -> None:
        """The first orders were given; may wait, boundedly, until they are carried out."""

    def execute(self, commands: Sequence[Order]) -> None:
        """Carry out the dispatcher's orders."""

    def progress(self, worker: int) -> WorkerProgress | None:
        """Where a worker is; None if it is unknown."""

    def work(self, worker: int) -> Work | None:
        """What a worker has done so far; None if it is unknown. With the driver's lock held."""

    def wake(self) -> None:
        """An alarm became due earlier than thought: look again."""

    def pump(self) -> bool:
        """Run something on this thread, if that is where this backend runs tasks, or if it is the pool's own thread,
        which has nobody else to wait for. False if there is nothing to run here."""

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        """Wait for a call on this thread, if this backend can; may return before it is done. It steps back from the
        call that it attends to, further down its stack.

        Raises PoolBusy on the pool's own thread in the middle of a decision.
        """

    def wait(self, bell: Bell, wanted: Callable[[], bool], seconds: float) -> bool:
        """Wait for a stream's results on this thread, if this backend can, until `wanted()` (asked with the driver's
        lock held), until the bell is rung, or for so many seconds. False if it cannot now: wait for the bell."""

    def step_back(self) -> None:
        """This thread is to wait for something else than the call that it attends to, further down its stack."""

    def resolves_here(self) -> bool:
        """Whether this thread may run what a program has attached to futures: it holds no lock of the program's."""

    def settle_logs(self, seconds: float) -> None:
        """Wait, so long at most, until what workers have logged before the results that are here is handled."""

    def close(self) -> None:
        """Wait until nothing is left; bounded. The dispatcher was told to close before."""

    def abandon(self) -> None:
        """In a forked copy of this process: let go of descriptors, touch nothing else."""


def keep_standard() -> None:
    """See `system.posix`."""
    from allcores.system import posix

    posix.keep_standard()


def create(
    name: str,
    *,
    workers: int,
    worker_init: WorkerInit,
    limits: Limits,
    start_method: str | None,
    share: int,
    records: WorkerLogReceiver | None = None,
) -> Backend:
    """The backend called `name`. records: where what worker processes log and print goes.

    Raises: UsageError for an unknown name, NotSupported if it cannot run here.
    """
    if name == "processes":
        from allcores.backends.processes.backend import ProcessBackend
        from allcores.system.posix import can_fork

        if not can_fork():
            raise NotSupported(
                "backend='processes' needs a system with fork (Linux, macOS); use backend='threads' or 'serial' here."
            )
        try:
            return ProcessBackend(workers, worker_init, limits, start_method or "template", share, records)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "")
            raise BrokenPool(
                f"The system refuses what worker processes need: {error.strerror or error}{remedy}."
            ) from error
    if start_method is not None:
        raise NotSupported(f"start_method={start_method!r} is for backend='processes', not for {name!r}.")
    for option in ("memory_per_worker", "items_per_worker", "growth_per_worker"):
        if getattr(limits, option) is not None and name in ("threads", "serial"):
            raise NotSupported(f"Limits({option}=...) needs backend='processes': {name!r} has no process to end.")
    if isinstance(limits.memory_reserve, int) and name in ("threads", "serial"):
        raise NotSupported(f"Limits(memory_reserve=...) needs backend='processes': {name!r} has no process to end.")
    if name == "threads":
        from allcores.backends.threads import ThreadBackend

        return ThreadBackend(worker_init)
    if name == "serial":
        from allcores.backends.serial import SerialBackend

        return SerialBackend(worker_init)
    raise UsageError(f"backend={name!r} is not one of 'processes', 'threads', 'serial'.")
