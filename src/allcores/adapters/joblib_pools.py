"""The warm pools behind `joblib.Parallel`.

One stays for the next call with the same options, and ends once it has been idle for long enough.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any, NamedTuple

from allcores.adapters.joblib_tasks import Prepare
from allcores.pool.pool import Pool, is_usable
from allcores.system import deferral, forks


class Wanted(NamedTuple):
    """What a pool is to be like.

    Attributes:
        workers: How many.
        variables: Of the workers' environment.
        initializer: Run once in each worker, with its arguments; None: nothing is.
        options: Further ones of `Pool`.
    """

    workers: int
    variables: dict[str, str]
    initializer: tuple[Any, tuple[Any, ...]] | None
    options: dict[str, Any]


class _Warm:
    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.users = 0
        self.idle_since = monotonic()
        self.idle_s = 0.0
        self.timer: threading.Timer | None = None
        self.pool = Pool(
            wanted.workers,
            setup=Prepare(wanted.variables, *(wanted.initializer or (None, ()))),
            name="joblib",
            **wanted.options,
        )


#: held while a pool is made, so that calls that begin at the same time share one; a signal's handler may make one, too
_making = threading.RLock()
#: guards the list and what is counted in it; nothing waits while it is held
_lock = deferral.Lock()
_pools: list[_Warm] = []


class Lease:
    """A pool for the time of one call of `Parallel`.

    Args:
        wanted: What it is to be like.
        idle_s: How long it stays, in seconds, once nobody uses it.
    """

    def __init__(self, wanted: Wanted, idle_s: float) -> None:
        self._wanted, self._idle_s = wanted, idle_s
        with _making:
            found = self._found(wanted)
            self._warm: _Warm | None = found
            found.idle_s = idle_s
            self.pool = found.pool

    def _found(self, wanted: Wanted) -> _Warm:
        with _lock:
            for warm in list(_pools):
                if not is_usable(warm.pool):
                    _pools.remove(warm)
            found = next((warm for warm in _pools if _is(warm.wanted, wanted)), None)
            others = [warm for warm in _pools if warm is not found and not warm.users]
            for warm in others:
                _pools.remove(warm)
            if found is not None:
                found.users += 1
        for warm in others:
            _end(warm)
        if found is None:
            found = _Warm(wanted)
            found.users = 1
            with _lock:
                _pools.append(found)
        return found

    def again(self) -> Lease:
        """Another one of the same kind in its place."""
        other = Lease(self._wanted, self._idle_s)
        self.close()
        return other

    def close(self) -> None:
        """Give it back. Any number of times, on any thread."""
        warm, self._warm = self._warm, None
        if warm is None:
            return
        with _lock:
            warm.users -= 1
            warm.idle_since = monotonic()
            timer = None
            if not warm.users and warm.timer is None and warm in _pools:
                timer = warm.timer = _timer(warm, warm.idle_s)
        # Another call may have ended the pool meanwhile: then it is cancelled, and ends as it begins.
        if timer is not None:
            try:
                timer.start()
            except RuntimeError:  # no thread can be had, so nobody would end the pool later
                with _lock:
                    warm.timer = None
                    if warm.users or warm not in _pools:
                        return
                    _pools.remove(warm)
                _end(warm)


def _timer(warm: _Warm, seconds: float) -> threading.Timer:
    timer = threading.Timer(max(seconds, 0.0), _look, (warm,))
    timer.name = "allcores-joblib-idle"
    timer.daemon = True
    return timer


def _look(warm: _Warm) -> None:
    """Its time may be up; if it is used meanwhile, or was, this thread looks again, as another may not be had."""
    timer = threading.current_thread()
    assert isinstance(timer, threading.Timer)
    while True:
        with _lock:
            if warm.users or warm not in _pools:
                warm.timer = None
                return
            left = warm.idle_since + warm.idle_s - monotonic()
            if left <= 0:
                warm.timer = None
                _pools.remove(warm)
                break
        if timer.finished.wait(left):  # it was cancelled
            return
    _end(warm)


def _end(warm: _Warm) -> None:
    timer, warm.timer = warm.timer, None
    if timer is not None:
        timer.cancel()
        if timer is not threading.current_thread() and timer.is_alive():
            timer.join()
    warm.pool.close()


def _is(one: Wanted, other: Wanted) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arguments of an initializer that cannot be compared
        return False


def close() -> None:
    """Close all of them; what runs is ended."""
    with _lock:
        found = list(_pools)
        _pools.clear()
    for warm in found:
        _end(warm)


@forks.in_child
def _after_fork() -> None:
    global _lock, _making
    _lock = deferral.Lock()
    _making = threading.RLock()
    _pools.clear()
