"""The thread of a call of `Parallel`: it tells joblib what batches came to, and the caller when all have come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from queue import SimpleQueue
from typing import Any

import joblib
from joblib.parallel import BatchCompletionCallBack

#: Longest wait without a look around, seconds. The end is announced; this bounds our mistakes.
WAIT_S = 0.5
#: Once a batch has come and no other was handed over in its place, the last ones are waited for so long, seconds: the
#: input may have raised, which is joblib's to tell. Larger: it is told later. Smaller: joblib looks every 10 ms sooner.
LAST_S = 0.05


class Calls:
    """A thread that tells a call of `Parallel`, or a block of calls, what its batches came to.

    joblib reads the input there, and hands over the next batches: on the pool's own thread, other calls of the pool
    would wait meanwhile, and one that the input itself makes would wait for ever.

    Args:
        active: The backend and number of jobs that calls made by the input find: joblib has one for each thread. None:
            joblib's default.
    """

    def __init__(self, active: tuple[Any, Any] | None) -> None:
        self._state = state = _State()
        self._thread = threading.Thread(target=_serve, args=(state, active), name="allcores-joblib", daemon=True)
        try:
            self._thread.start()
        except BaseException:  # of a signal's handler: it runs already, and nobody would end it
            self.close()
            raise

    @property
    def number(self) -> int:
        """The thread's number in the system."""
        return self._thread.native_id or 0

    def begin(self) -> None:
        """A call begins."""
        self._state.ends.clear()
        self._state.over.clear()

    def tell(self, callback: Callable[[Any], object], future: Future[Any]) -> None:
        """Have a callback called once its future is done. With joblib's lock held."""
        self._state.out += 1
        queue = self._state.queue
        future.add_done_callback(lambda done: queue.put((callback, done)))

    def after_fork(self) -> None:
        """In a child of a fork: the thread is not here, nor who held what guards these."""
        self._state.ends, self._state.over = threading.Event(), threading.Event()

    def failed(self) -> None:
        """A task has failed: joblib ends the call. Told in a callback."""
        self._state.over.set()
        self._state.ends.set()

    def wait_over(self) -> None:
        """Until a call has all its results, or almost.

        joblib would look every 10 ms, and meanwhile hand on what is there, in turns with the thread that has the next
        batches to hand over.
        """
        state = self._state
        while state.out > state.back and not state.ends.wait(WAIT_S):
            pass
        if state.out > state.back:
            state.over.wait(LAST_S)

    def close(self) -> None:
        """End the thread; what it still has to tell is dropped by joblib, which has all it wants."""
        self._state.queue.put(None)


class _State:
    """What the thread shares with the call, to which it must not refer.

    Attributes:
        out: Batches that were handed over, ever; written with joblib's lock held.
        back: Batches of which joblib was told, ever; written by the thread.
        ends: Set when a batch has come and no other was handed over in its place.
        over: Set when all have come.
    """

    def __init__(self) -> None:
        self.queue: SimpleQueue[tuple[Callable[[Any], object], Future[Any]] | None] = SimpleQueue()
        self.out = self.back = 0
        self.ends = threading.Event()
        self.over = threading.Event()


def give_up(parallel: Any, error: BaseException) -> bool:
    """Have a call of `Parallel` raise an error that is no task's, as joblib does with what its input raises.

    Returns:
        False if it waits for nothing more.
    """
    # There is no public way.
    lock, is_waiting, jobs = (getattr(parallel, name) for name in ("_lock", "_wait_retrieval", "_jobs"))
    with lock:
        if getattr(parallel, "_aborting", False) or not is_waiting():
            return False
        # It asks the backend for the outcome of what it is called with.
        tracker, failed = BatchCompletionCallBack(0, 1, parallel), Future[Any]()
        failed.set_exception(error)
        tracker(failed)
        if tracker not in jobs:
            jobs.append(tracker)
    return True


def _failed(callback: Any, error: BaseException) -> bool:
    """A callback of joblib's has raised: what it has not handed over nobody will, and the call ends with the error.

    Returns:
        False if no call waits for it.
    """
    parallel = getattr(callback, "parallel", None)
    if parallel is None or getattr(parallel, "_call_id", None) != callback.parallel_call_id:
        return False
    return give_up(parallel, error)


def _serve(state: _State, active: tuple[Any, Any] | None) -> None:
    with joblib.parallel_config(active[0], n_jobs=active[1]) if active is not None else nullcontext():
        while (each := state.queue.get()) is not None:
            callback, future = each
            out = state.out
            try:
                callback(future)
            except BaseException as error:
                # Of printing its progress, say, or SystemExit of the input.
                if _failed(callback, error):
                    state.over.set()
                    state.ends.set()
                else:
                    # It is said as Python says it of any thread.
                    threading.excepthook(
                        threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
                    )
            state.back += 1
            if state.back == state.out:
                state.over.set()
            if out == state.out:
                state.ends.set()
            del each, callback, future
