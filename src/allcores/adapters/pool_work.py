"""What a `multiprocessing` drop-in has not finished: its calls, its maps, and the callbacks that are to follow.

It refers to the engine and not to the pool that the program has, so that one that nobody refers to any more ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from queue import SimpleQueue
from typing import Any, Protocol

from allcores.adapters.pool_errors import check_callable, ended
from allcores.events import PoolBroken, PoolEnded, PoolEvent, WorkerStarted
from allcores.pool.call_future import CallFuture
from allcores.pool.pool import Pool as Engine
from allcores.pool.pool import begin_call, is_of_this_process
from allcores.system import deferral, forks
from allcores.system.bell import Bell


class OpenMap(Protocol):
    """A map that is not finished."""

    def unbound(self) -> None:
        """Work on all of its input, however little was read."""

    def fail(self, error: BaseException) -> None:
        """Nothing more will come of it."""


class MapThread(Protocol):
    """The thread that looks after maps."""

    bell: Bell

    def wake(self) -> None:
        """Look again."""


class Workers:
    """An observer that knows which workers have begun.

    Attributes:
        begun: How many have run their initializer, ever.
        over: No others will come.
    """

    #: it needs no events about what workers do
    sees_work = False

    def __init__(self) -> None:
        self.begun = 0
        self.over = False
        self._changed = threading.Condition()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """In a child of a fork: what it uses the pool for has workers of its own."""
        self.begun = 0
        self._changed = threading.Condition()

    def __call__(self, event: PoolEvent) -> None:
        """Something has happened."""
        if isinstance(event, (WorkerStarted, PoolBroken, PoolEnded)):
            with self._changed:
                if isinstance(event, WorkerStarted):
                    self.begun += 1
                else:
                    self.over = True
                self._changed.notify_all()

    def wait_begun(self, count: int) -> None:
        """Until so many workers have begun."""
        with self._changed:
            while self.begun < count and not self.over:
                self._changed.wait(1.0)


class Work:
    """Of one pool.

    Args:
        pool: The engine.
        workers: Which has it as an observer.
        initializes: Each worker is to run an initializer, also if there is no work for it.

    Attributes:
        pool: The engine.
        futures: Of calls without an outcome, in their order.
        maps: Those that are not finished, in their order.
        callbacks_due: Outcomes of which a callback is still to be told.
    """

    def __init__(self, pool: Engine, workers: Workers, *, initializes: bool) -> None:
        self.pool = pool
        self._workers = workers
        self._initializes = initializes
        self.futures: dict[CallFuture, None] = {}
        self.maps: dict[OpenMap, None] = {}
        self.callbacks_due = 0
        self._due: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        #: reentrant: a handler of a signal may end the pool in the middle of what is done with it
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._caller: threading.Thread | None = None
        #: looks after the maps; None as long as there was none
        self.feeder: MapThread | None = None
        self._closer: threading.Thread | None = None
        self._terminated = False
        #: `let_go` was called
        self._over = False
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """In a child of a fork: none of the threads is here, and what is not finished is the parent's."""
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._due = SimpleQueue()
        self._caller = self.feeder = self._closer = None
        self.callbacks_due = 0
        self.futures.clear()
        self.maps.clear()

    # --- calls ---

    def begin(self, future: CallFuture, fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> None:
        """Hand a call to the engine. What is wrong with it, its future tells.

        Raises:
            BaseException: Ctrl-C, or what a signal's handler has raised: that says nothing of the call.
        """
        self.futures[future] = None
        try:
            check_callable(fn)
            begin_call(self.pool, future, fn, tuple(args), kwargs)
        except Exception as error:
            if deferral.raised_by_handler(error):
                raise
            future.fail(error)
            self.futures.pop(future, None)

    # --- callbacks ---

    def call_later(self, callback: Callable[[], None]) -> None:
        """Have the pool's thread for callbacks call it, in turn; once that has ended with the pool, another one."""
        with self._lock:
            self._due.put(callback)
            if self._over:
                self._due.put(None)
            if self._caller is not None:
                return
            self._caller = caller = threading.Thread(
                target=_call_all, args=(self, self._due), name="allcores-pool-callbacks", daemon=True
            )
            # In a section: what a signal's handler raises comes once it runs, and so it stays the only one.
            outermost = deferral.enter()
            try:
                caller.start()
            except RuntimeError:  # no thread can be had
                self._due.put(None)
            finally:
                if outermost:
                    deferral.leave()
            if caller.ident is not None:
                return
        # Whoever waits for the callback, or for the pool's end, would wait for ever: it is called here.
        _call_all(self, self._due)

    def calls_end(self) -> bool:
        """The thread for callbacks has come to an end mark: whether nothing is behind that."""
        with self._lock:
            if not self._due.empty():
                return False
            self._caller = None
            return True

    def callback_due(self) -> None:
        """An outcome is to come of which a callback is to be told."""
        with self._lock:
            self.callbacks_due += 1

    def callback_done(self) -> None:
        """One of `callbacks_due` is."""
        with self._lock:
            self.callbacks_due -= 1
            self._idle.notify_all()

    # --- maps ---

    def open(self, made: OpenMap, start: Callable[[], MapThread]) -> MapThread:
        """Have a map looked after until it is finished.

        Args:
            made: The map.
            start: Starts the thread that does it, if there is none yet.

        Returns:
            The thread: the same one for all maps of the pool.
        """
        with self._lock:
            self.maps[made] = None
            if self.feeder is None:
                self.feeder = start()
            feeder = self.feeder
        feeder.wake()
        return feeder

    def begun(self, made: OpenMap) -> None:
        """A map that looks after itself has begun."""
        with self._lock:
            self.maps[made] = None

    def map_done(self, made: OpenMap) -> None:
        """It has an outcome for every item."""
        with self._lock:
            self.maps.pop(made, None)
            self._idle.notify_all()

    def end_feeder(self, left: Callable[[Work], Sequence[OpenMap]]) -> bool:
        """The feeder is about to end, with the pool: False if there is work for it, which another thread has begun.

        Args:
            left: The maps that it looks after.
        """
        with self._lock:
            if left(self):
                return False
            self.feeder = None
            return True

    def wake(self) -> None:
        """The feeder is to look again."""
        feeder = self.feeder
        if feeder is not None:
            feeder.wake()

    # --- the end ---

    def wait(self) -> None:
        """Until everything has its outcome, and all callbacks were called."""
        if not is_of_this_process(self.pool):
            return
        for future in list(self.futures):
            try:
                future.exception()
            except CancelledError:
                continue
        with self._lock:
            while (self.maps or self.callbacks_due) and not self._terminated:
                self._idle.wait(1.0)
        if self._initializes and not self._terminated:
            self._workers.wait_begun(self.pool.workers)

    def close_later(self) -> None:
        """End the workers once everything is done, on a thread of its own."""
        with self._lock:
            if self._closer is not None:
                return
            self._closer = threading.Thread(target=self._close, name="allcores-pool-close", daemon=True)
        try:
            self._closer.start()
        except RuntimeError:  # the program ends, and no thread can be had
            self._close()

    def _close(self) -> None:
        self.wait()
        self.let_go()

    def let_go(self) -> None:
        """End the workers, and the threads."""
        self.pool.close()
        with self._lock:
            self._over = True
            self._due.put(None)
        self.wake()

    def unbound(self) -> None:
        """Maps may take all of their input: whoever waits for their end reads nothing meanwhile."""
        for each in list(self.maps):
            each.unbound()

    def join(self) -> None:
        """Wait until `close_later`, or `terminate`, is done: one was called, maybe just now, by another thread."""
        closer = self._closer
        if closer is threading.current_thread():
            return
        if closer is not None and closer.ident is not None:
            closer.join()
            return
        # Its thread is not started yet, or there is none. To wait for that would take for ever in a signal's handler
        # that has interrupted the start; and what is to be done may be done twice.
        self._close()

    def terminate(self) -> None:
        """End the workers at once. What is not finished gets an error."""
        with self._lock:
            self._terminated = True
            self._idle.notify_all()
        for future in list(self.futures):
            future.fail(ended())
        for each in list(self.maps):
            each.fail(ended())
        self.let_go()

    def dropped(self) -> None:
        """Nobody refers to the pool any more, or to a result of it."""
        if not self.pool.closed:
            try:
                # On a thread: it may have been dropped in the middle of one of the engine's own decisions.
                threading.Thread(target=self.terminate, name="allcores-pool-close", daemon=True).start()
            except RuntimeError:  # the program ends, and the engine with it
                return


def _call_all(work: Work, due: SimpleQueue[Callable[[], None] | None]) -> None:
    while True:
        callback = due.get()
        if callback is None:
            if work.calls_end():
                return
            continue
        try:
            callback()
        except BaseException as error:
            # The original's thread would end here, and with it the pool. Said as Python says it of any thread.
            threading.excepthook(
                threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
            )
        finally:
            work.callback_done()
        del callback
