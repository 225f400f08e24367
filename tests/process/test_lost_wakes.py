"""A thread that misses what is due costs seconds, and nobody waits for ever."""

from __future__ import annotations

import itertools
import threading

import pytest

from allcores import Pool, Retry
from allcores.backends.threads import ThreadBackend
from allcores.pool.pool import driver_of


def test_a_retry_that_is_missed_by_who_minds_the_time_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader sees to it, once nobody has woken it for long."""
    monkeypatch.setattr("allcores.pool.result_stream.WAIT_S", 0.05)
    attempts, over, absent = itertools.count(), threading.Event(), threading.Event()

    def fails_once(number: int) -> int:
        if not next(attempts):
            raise ValueError("the first attempt")
        return number

    def mind_nothing(backend: ThreadBackend, until_ns: int | None) -> None:
        absent.set()
        over.wait()

    with Pool(1, backend="threads") as pool:
        assert pool.map(abs, [-1]) == [1]
        monkeypatch.setattr(ThreadBackend, "_mind_once", mind_nothing)
        driver_of(pool).backend.wake()
        assert absent.wait(60)
        try:
            assert pool.map(fails_once, [7], retries=Retry(1, wait_s=0.1)) == [7]
        finally:
            over.set()


def test_who_minds_the_time_may_wake_up_while_it_is_to_be_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It then sleeps no longer, and not until None."""

    class WakesUp(ThreadBackend):
        read = 0

        @property
        def sleeps_until(self) -> int | None:
            self.read += 1
            return 7 if self.read == 1 else None

        @sleeps_until.setter
        def sleeps_until(self, until_ns: int | None) -> None:
            pass

    woken: list[object] = []
    monkeypatch.setattr(WakesUp, "wake", lambda backend: woken.append(backend))
    backend = WakesUp.__new__(WakesUp)
    backend.wake_by(3)
    assert woken == [backend]
