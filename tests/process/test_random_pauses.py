"""Pools that are used and closed while each step of ours may pause its thread. `make races` has whole rooms so."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from time import sleep

import pytest
from tests.random_pauses import pausing

from allcores import Pool

BACKENDS = ["processes", "threads"]


def cancel_each_other(calls: list[Future[None]]) -> None:
    for call in calls[::2]:
        call.cancel()


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_call_has_an_outcome_whoever_cancels_and_closes(backend: str) -> None:
    for _ in range(5 if backend == "processes" else 20):
        with pausing(0.05):
            with Pool(2, backend=backend) as pool:
                calls = [pool.submit(sleep, 0.002) for _ in range(8)]
                canceller = threading.Thread(target=cancel_each_other, args=(calls,))
                canceller.start()
                assert calls[1].result(60) is None
            canceller.join(60)
            assert not canceller.is_alive()
        assert not wait(calls, 60).not_done


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_map_that_is_left_and_another_on_another_thread(backend: str) -> None:
    with pausing(0.02), Pool(2, backend=backend) as pool:
        found: list[list[int]] = []
        other = threading.Thread(target=lambda: found.append(pool.map(abs, range(-200, 0), chunk=3)))
        other.start()
        for _ in range(10):
            with pool.imap(abs, range(1_000), chunk=1) as results:
                assert next(results) == 0
        other.join(60)
        assert found == [list(range(200, 0, -1))]
