"""Workers are replaced after so many items, or once they have grown: between two items, without a loss."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from tests.process import crimes
from tests.process.waiting import Watcher, wait_full_strength

from allcores import Kind, Limits, Pool, events
from allcores.backends.processes import receiver


@pytest.mark.parametrize(
    ("chunk", "method"), [(None, "template"), (1, "template"), (7, "template"), (7, "fork"), (7, "spawn")]
)
@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
def test_no_worker_runs_more_items_than_allowed(method: str, chunk: int | None) -> None:
    with Pool(2, start_method=method, limits=Limits(items_per_worker=4)) as pool:
        by_worker = Counter(pool.map(crimes.who, range(20), chunk=chunk))
    assert max(by_worker.values()) <= 4
    assert sum(by_worker.values()) == 20


def test_results_keep_their_order() -> None:
    with Pool(2, limits=Limits(items_per_worker=3)) as pool:
        assert pool.map(crimes.run, range(40)) == [number * 2 for number in range(40)]
        assert list(pool.imap(crimes.run, iter(range(20)), chunk=5)) == [number * 2 for number in range(20)]
        assert pool.statistics().workers_lost == 0


def test_submitted_calls_count_too() -> None:
    with Pool(1, limits=Limits(items_per_worker=2)) as pool:
        by_worker = Counter(future.result() for future in [pool.submit(crimes.who, n) for n in range(8)])
    assert sorted(by_worker.values()) == [2, 2, 2, 2]


def test_one_item_per_worker() -> None:
    with Pool(2, limits=Limits(items_per_worker=1)) as pool:
        pids = pool.map(crimes.who, range(10))
    assert len(set(pids)) == 10


@pytest.mark.quick
def test_failures_count_too() -> None:
    with Pool(1, limits=Limits(items_per_worker=2)) as pool:
        found = list(pool.outcomes(crimes.run, ["fork_and_raise", 1, 2, "exit_in_python", 4, 5], chunk=6))
    assert [outcome.kind for outcome in found] == [
        Kind.FAILED, Kind.OK, Kind.OK, Kind.WORKER_LOST, Kind.OK, Kind.OK,
    ]  # fmt: skip
    assert max(Counter(outcome.worker for outcome in found).values()) <= 2


def test_crashes_and_recycling_together() -> None:
    items = ["exit_at_once" if number % 7 == 3 else number for number in range(40)]
    with Pool(2, limits=Limits(items_per_worker=5)) as pool:
        found = list(pool.outcomes(crimes.run, items))
    assert [outcome.kind is Kind.WORKER_LOST for outcome in found] == [item == "exit_at_once" for item in items]


@pytest.mark.parametrize("chunk", [None, 10])
def test_a_worker_that_has_grown_is_replaced_after_its_chunk(chunk: int | None) -> None:
    watcher = Watcher()
    with Pool(1, limits=Limits(growth_per_worker=12_000_000), observers=[watcher]) as pool:
        pids = pool.map(crimes.grow, range(40), chunk=chunk)
        wait_full_strength(pool, watcher)
        assert pool.statistics().workers_lost == 0
    assert len(set(pids)) >= 4
    # Each worker's items are consecutive, as there is one at a time.
    assert [pid for before, pid in zip([None, *pids], pids, strict=False) if pid != before] == list(dict.fromkeys(pids))


def test_a_worker_that_does_not_grow_stays() -> None:
    with Pool(1, limits=Limits(growth_per_worker=50_000_000)) as pool:
        assert len(set(pool.map(crimes.who, range(500)))) == 1


def test_the_end_of_a_worker_is_told() -> None:
    watcher = Watcher()
    with Pool(1, limits=Limits(items_per_worker=1), observers=[watcher]) as pool:
        pool.map(crimes.who, range(3))
        ended = watcher.wait_for(events.WorkerEnded, 3)
    assert all(isinstance(event.reason, str) and event.reason for event in ended)


def test_an_unordered_endless_stream_over_short_lives() -> None:
    with Pool(2, limits=Limits(items_per_worker=5)) as pool:
        stream = pool.imap_unordered(crimes.run, itertools.count())
        values = list(itertools.islice(stream, 60))
        stream.close()
    assert len(set(values)) == 60


@pytest.mark.parametrize("method", ["template", "spawn"])
def test_a_worker_that_is_slow_to_end_has_closed_no_pipe(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is told as what it is, also where the machine is so busy that its pipe has ended long before."""
    monkeypatch.setattr(receiver, "LINGER_S", 0.0)
    ended: list[str] = []
    with Pool(
        1,
        start_method=method,
        limits=Limits(items_per_worker=1),
        observers=[lambda event: ended.append(event.reason) if isinstance(event, events.WorkerEnded) else None],
    ) as pool:
        assert pool.map(abs, range(5)) == list(range(5))
    assert ended and not [reason for reason in ended if "pipe" in reason]
