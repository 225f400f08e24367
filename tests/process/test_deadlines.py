"""`timeout=` is per item and attempt: the item that uses it up is ended, nothing else is lost or done twice."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from tests.process import crimes
from tests.process.waiting import Bell, Gate, Watcher, lines, wait_full_strength, wait_gone

from allcores import Kind, Limits, Pool, Retry, TaskTimeout, events

#: the quick items beside those that hang have it, too, on a machine that is busy with others
TIMEOUT_S = 1.0
QUICK = Limits(grace_s=0.02, terminate_s=0.05)
HANGS = ["hold_the_interpreter", "stop_itself", "catch_everything", "spin"]
#: crimes that end the process, for comparison
ENDS = ["segfault", "exit_at_once", "kill_itself"]


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def pool(watcher: Watcher) -> Iterator[Pool]:
    with Pool(2, limits=QUICK, observers=[watcher]) as pool:
        # A deadline is for the item: starting a worker is not part of it. Yet a start slows this machine.
        wait_full_strength(pool, watcher)
        yield pool


@pytest.mark.parametrize(
    ("position", "crime"),
    [
        *((5, crime) for crime in HANGS + ENDS),
        *((position, crime) for position in (0, 11) for crime in ("hold_the_interpreter", "exit_at_once")),
    ],
)
def test_finished_items_are_kept_and_none_is_run_twice(pool: Pool, tmp_path: Path, crime: str, position: int) -> None:
    """A chunk of twelve items of 2 ms, one of which takes too long: eleven results, twelve runs."""
    book = str(tmp_path / "book")
    items: list[Any] = [("work_and_note", book, number) for number in range(12)]
    items[position] = ("work_and_note", book, position, crime)
    found = list(pool.outcomes(crimes.run, items, chunk=12, timeout=TIMEOUT_S))
    assert [outcome.index for outcome in found if not outcome.ok] == [position]
    assert found[position].kind is (Kind.TIMED_OUT if crime in HANGS else Kind.WORKER_LOST)
    assert [outcome.value for outcome in found if outcome.ok] == [n * 2 for n in range(12) if n != position]
    assert sorted(map(int, lines(book))) == list(range(12))


@pytest.mark.parametrize("crime", ["hold_the_interpreter", "exit_at_once"])
def test_with_retries_only_the_late_item_runs_again(pool: Pool, tmp_path: Path, crime: str) -> None:
    book = str(tmp_path / "book")
    items: list[Any] = [("work_and_note", book, number) for number in range(12)]
    items[4] = ("work_and_note", book, 4, crime)
    found = list(pool.outcomes(crimes.run, items, chunk=12, timeout=TIMEOUT_S, retries=Retry(2, wait_s=0)))
    assert [outcome.attempts for outcome in found] == [1] * 4 + [3] + [1] * 7
    assert sorted(map(int, lines(book))) == sorted([*range(12), 4, 4])


@pytest.mark.parametrize("chunk", [None, 6])
def test_items_behind_a_long_one_are_run_elsewhere(tmp_path: Path, chunk: int | None) -> None:
    """They do not wait for the deadline of the one before them; nor do the finished ones."""
    book = str(tmp_path / "book")
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, Pool(2) as pool:
        items: list[Any] = [("work_and_note", book, number) for number in range(6)]
        items[2] = ("ring_and_wait", bell.path, gate.path)
        stream = pool.imap_unordered(crimes.run, items, chunk=chunk, timeout=1000)
        assert sorted(next(stream) for _ in range(5)) == [0, 2, 6, 8, 10]
        gate.open()
        assert [next(stream)] == bell.pids()
        assert next(stream, None) is None
    assert sorted(map(int, lines(book))) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_several_hang_at_the_same_time(pool: Pool, count: int) -> None:
    items: list[Any] = ["hold_the_interpreter"] * count + list(range(20))
    found = list(pool.outcomes(crimes.run, items, timeout=TIMEOUT_S))
    assert [outcome.kind for outcome in found[:count]] == [Kind.TIMED_OUT] * count
    assert [outcome.value for outcome in found[count:]] == [number * 2 for number in range(20)]


def test_the_time_of_an_item_is_its_own(pool: Pool, tmp_path: Path) -> None:
    """Items of 2 ms in one chunk of 700: together they take longer than the timeout, alone they do not."""
    book = str(tmp_path / "book")
    items = [("work_and_note", book, number) for number in range(700)]
    assert pool.map(crimes.run, items, chunk=700, timeout=TIMEOUT_S) == [number * 2 for number in range(700)]


def test_setup_is_not_part_of_an_items_time(tmp_path: Path) -> None:
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        with Pool(1, setup=crimes.ring_and_wait, setup_args=(bell.path, gate.path)) as pool:
            stream = pool.imap(max, [1, 2], timeout=1)
            bell.hear()
            # Longer than the timeout: this is what is measured, not a way to wait.
            Timer(1.2, gate.open).start()
            assert all(value > 2 for value in stream)


@pytest.mark.quick
def test_each_verb_has_deadlines(pool: Pool) -> None:
    with pytest.raises(TaskTimeout):
        pool.map(crimes.run, ["hold_the_interpreter"], timeout=TIMEOUT_S)
    with pytest.raises(TaskTimeout):
        next(pool.imap_unordered(crimes.run, ["hold_the_interpreter"], timeout=TIMEOUT_S))
    with pytest.raises(TaskTimeout):
        pool.starmap(crimes.run, [("hold_the_interpreter",)], timeout=TIMEOUT_S)
    with pytest.raises(TimeoutError):
        pool.call(crimes.run, ["hold_the_interpreter"], timeout=TIMEOUT_S).result()

    async def main() -> list[Any]:
        stream = pool.aimap(crimes.run, [1, "hold_the_interpreter", 3], timeout=TIMEOUT_S, on_error="skip")
        return [value async for value in stream]

    assert asyncio.run(main()) == [2, 6]
    assert pool.map(crimes.run, [1, "hold_the_interpreter", 3], timeout=TIMEOUT_S, on_error="skip") == [2, 6]


def test_a_call_that_timed_out_says_which(pool: Pool) -> None:
    future = pool.call(crimes.run, ["hold_the_interpreter"], timeout=TIMEOUT_S)
    error = future.exception()
    assert isinstance(error, TaskTimeout)
    assert error.timeout == TIMEOUT_S
    assert error.index is None
    assert "run(" in str(error)
    assert "1 s" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.timeout, again.worker) == (str(error), error.timeout, error.worker)


def test_calls_beside_one_that_hangs(pool: Pool) -> None:
    futures = [pool.submit(crimes.run, number) for number in range(10)]
    late = pool.call(crimes.run, ["hold_the_interpreter"], timeout=TIMEOUT_S)
    futures += [pool.submit(crimes.run, number) for number in range(10, 20)]
    assert [future.result() for future in futures] == [number * 2 for number in range(20)]
    assert isinstance(late.exception(), TaskTimeout)


def test_timeouts_may_be_left_out_of_retries(pool: Pool) -> None:
    (outcome,) = pool.outcomes(
        crimes.run, ["hold_the_interpreter"], timeout=TIMEOUT_S, retries=Retry(3, on_timeout=False)
    )
    assert (outcome.kind, outcome.attempts) == (Kind.TIMED_OUT, 1)


def test_every_attempt_has_the_full_time(pool: Pool, watcher: Watcher) -> None:
    (outcome,) = pool.outcomes(crimes.run, ["hold_the_interpreter"], timeout=TIMEOUT_S, retries=Retry(1, wait_s=0))
    assert (outcome.kind, outcome.attempts) == (Kind.TIMED_OUT, 2)
    (retried,) = watcher.wait_for(events.TaskRetried)
    assert (retried.kind, retried.attempt, retried.index) == (Kind.TIMED_OUT, 1, 0)


def test_a_deadline_works_while_nobody_reads(pool: Pool, tmp_path: Path) -> None:
    """The consumer is busy elsewhere; the worker is ended all the same."""
    with Bell(tmp_path / "bell") as bell:
        stream = pool.outcomes(crimes.run, [1, ("ring_and_hang", bell.path)], timeout=TIMEOUT_S)
        assert next(stream).value == 2
        wait_gone(bell.pids())
        assert next(stream).kind is Kind.TIMED_OUT


def test_what_the_late_item_forked_ends_with_it(pool: Pool, tmp_path: Path) -> None:
    with Bell(tmp_path / "bell") as bell:
        (outcome,) = pool.outcomes(crimes.run, [("fork_and_hang", bell.path)], timeout=TIMEOUT_S)
        assert outcome.kind is Kind.TIMED_OUT
        wait_gone(bell.pids(2))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
def test_every_start_method(watcher: Watcher, tmp_path: Path, method: str) -> None:
    book = str(tmp_path / "book")
    items: list[Any] = [("work_and_note", book, number) for number in range(12)]
    items[5] = ("work_and_note", book, 5, "hold_the_interpreter")
    with Pool(2, start_method=method, limits=QUICK, observers=[watcher]) as pool:
        wait_full_strength(pool, watcher)
        found = list(pool.outcomes(crimes.run, items, chunk=12, timeout=TIMEOUT_S))
        assert [outcome.index for outcome in found if outcome.kind is Kind.TIMED_OUT] == [5]
        assert all(outcome.ok for outcome in found if outcome.index != 5)
        wait_full_strength(pool, watcher)
    assert sorted(map(int, lines(book))) == list(range(12))


def test_a_timeout_that_is_never_reached_costs_nothing(pool: Pool) -> None:
    assert pool.map(crimes.run, range(5000), timeout=3600) == [number * 2 for number in range(5000)]
    assert pool.map(crimes.run, range(100), timeout=float("inf")) == [number * 2 for number in range(100)]
    assert pool.statistics().workers_started == 2


def test_an_item_that_ends_on_sigterm_is_timed_out_all_the_same(tmp_path: Path) -> None:
    """SIGTERM comes first: a task may clean up, but it does not return."""
    path = str(tmp_path / "cleaned")
    with Pool(1, limits=Limits(grace_s=0.02, terminate_s=60)) as pool:
        (outcome,) = pool.outcomes(crimes.run, [("clean_up_on_sigterm", path)], timeout=TIMEOUT_S)
    assert outcome.kind is Kind.TIMED_OUT
    assert lines(path) == ["cleaned"]


@pytest.mark.parametrize("chunk", [1, 4])
def test_what_an_item_raises_because_it_is_ended_is_not_its_outcome(tmp_path: Path, chunk: int) -> None:
    """Programs that tidy up call sys.exit in a handler of SIGTERM: that is no failure of the item, to be retried."""
    book = str(tmp_path / "book")
    items = [("work_and_note", book, 0), ("exit_on_sigterm", book), ("work_and_note", book, 2)]
    with Pool(1, limits=QUICK) as pool:
        retry = Retry(times=3, on_timeout=False)
        found = list(pool.outcomes(crimes.run, items, timeout=1, retries=retry, chunk=chunk))
        with pytest.raises(TaskTimeout):
            pool.call(crimes.run, (("exit_on_sigterm", book),), timeout=0.3).result()
    assert [(outcome.kind, outcome.attempts) for outcome in found] == [
        (Kind.OK, 1),
        (Kind.TIMED_OUT, 1),
        (Kind.OK, 1),
    ]
    assert lines(book).count("begun") == 2
