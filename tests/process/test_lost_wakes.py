"""A thread that misses what is due costs seconds, and nobody waits for ever."""

from __future__ import annotations

import itertools

import pytest

from allcores import Pool, Retry
from allcores.backends.minded import MindedBackend


def test_a_retry_whose_timer_wakes_nobody_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allcores.pool.result_stream.WAIT_S", 0.05)
    attempts = itertools.count()

    def fails_once(number: int) -> int:
        if not next(attempts):
            raise ValueError("the first attempt")
        return number

    with Pool(1, backend="threads") as pool:
        assert pool.map(abs, [-1]) == [1]
        monkeypatch.setattr(MindedBackend, "wake_by", lambda self, when_ns: None)
        assert pool.map(fails_once, [7], retries=Retry(1, wait_s=0.1)) == [7]
