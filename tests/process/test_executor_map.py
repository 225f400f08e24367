"""`Executor.map` travels as a stream does, and keeps what `concurrent.futures` documents."""

from __future__ import annotations

import concurrent.futures as cf
import sys
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from tests.process import crimes
from tests.process.waiting import Bell, Gate, wait_gone, wait_until

from allcores import Executor, NotPicklable, WorkerLost
from allcores.pool.executor_map import ExecutorMap


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with Bell(tmp_path / "bell") as bell:
        yield bell


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path / "gate") as gate:
        yield gate


def fail_or_note(what: str) -> str:
    """Raise for the word "fail"; otherwise it is a file, which is made."""
    if what == "fail":
        raise LookupError(what)
    Path(what).touch()
    return what


def test_items_travel_by_the_chunk() -> None:
    """It is a map and no row of calls: an error names the place of its item."""
    with Executor(2) as executor:
        assert list(executor.map(crimes.run, range(5_000))) == list(range(0, 10_000, 2))
        assert list(executor.map(crimes.run, iter(range(50)), chunksize=7)) == list(range(0, 100, 2))
        with pytest.raises(ZeroDivisionError) as caught:
            list(executor.map(divmod, [4, 6], [2, 0]))
    assert caught.value.__notes__[0].startswith("allcores: items[1] ((6, 0)) failed")


@pytest.mark.quick
@pytest.mark.parametrize(("chunksize", "calls"), [(1, 5), (2, 3)])
def test_a_submit_that_stands_in_the_place_of_ours_sees_each_call(chunksize: int, calls: int) -> None:
    """As with the original, whose `map` goes by it: so programs count what is done (tqdm), or note who asked for it."""
    seen: list[cf.Future[Any]] = []

    class Noting(Executor):
        def submit(self, *args: Any, **kwargs: Any) -> cf.Future[Any]:
            seen.append(super().submit(*args, **kwargs))
            return seen[-1]

    with Noting(1) as executor:
        assert list(executor.map(abs, range(-5, 0), chunksize=chunksize)) == [5, 4, 3, 2, 1]
        assert len(seen) == calls
    with Executor(1) as plain:
        ours = plain.submit

        def noted(*args: Any, **kwargs: Any) -> cf.Future[Any]:
            seen.append(ours(*args, **kwargs))
            return seen[-1]

        seen.clear()
        plain.submit = noted  # type: ignore[method-assign]
        assert list(plain.map(max, [1, 2], [3, 1])) == [3, 2]
        assert len(seen) == 2


def test_all_of_it_runs_although_nobody_reads(tmp_path: Path) -> None:
    """Also what comes after a failure; shutting down waits for it."""
    names = [str(tmp_path / str(number)) for number in range(20)]
    with Executor(1) as executor:
        unread = executor.map(fail_or_note, [names[0], "fail", *names[1:]])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(str(number) for number in range(20))
    assert next(unread) == names[0]
    with pytest.raises(LookupError):
        next(unread)
    with pytest.raises(StopIteration):
        next(unread)


def test_nothing_is_read_of_the_executor_that_was_dropped(bell: Bell, gate: Gate) -> None:
    """The iterator, begun and kept, keeps no process; the results come, those of running calls too."""
    executor = Executor(1)
    [pid] = {executor.submit(crimes.who, 0).result(120)}
    results = executor.map(crimes.ring_and_wait, [bell.path] * 3, [gate.path] * 3)
    bell.hear()
    del executor
    gate.open()
    assert next(results) == pid
    wait_gone([pid])
    assert list(results) == [pid] * 2


def test_shutdown_cancels_what_waits_if_asked(bell: Bell, gate: Gate) -> None:
    """What runs is finished; where the results end, the reader is told."""
    executor = Executor(1)
    results = executor.map(crimes.ring_and_wait, [bell.path] * 50, [gate.path] * 50)
    [pid] = bell.pids()
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    with pytest.raises(cf.CancelledError):
        assert [pid] * 50 == list(results)
    executor.shutdown()


def test_a_map_whose_workers_are_ended_is_broken(bell: Bell, gate: Gate) -> None:
    executor = Executor(1)
    results = executor.map(crimes.ring_and_wait, [bell.path] * 3, [gate.path] * 3)
    bell.hear()
    executor.kill_workers()
    with pytest.raises(BrokenProcessPool, match="kill_workers"):
        next(results)
    executor.shutdown()


def test_a_time_limit_is_for_waiting_only(bell: Bell, gate: Gate) -> None:
    """Results that are there are given out, however late it is."""
    with Executor(1) as executor:
        results = executor.map(crimes.run, range(3), timeout=120)
        assert list(results) == [0, 2, 4]
        late = executor.map(crimes.ring_and_wait, [bell.path], [gate.path], timeout=0)
        with pytest.raises(TimeoutError):
            next(late)
        gate.open()


@pytest.mark.parametrize(
    ("function", "item", "kind"),
    [
        (crimes.exit_with, 3, WorkerLost),
        (crimes.run, crimes.RefusesToPickle(), NotPicklable),
        (sys.exit, 3, SystemExit),
    ],
)
def test_failures_are_those_of_futures(function: Any, item: Any, kind: type[BaseException]) -> None:
    with Executor(1) as executor:
        with pytest.raises(kind) as caught:
            list(executor.map(function, [item]))
        assert isinstance(caught.value, BrokenProcessPool) is (kind is WorkerLost)
        assert list(executor.map(crimes.run, [1])) == [2]
        future: cf.Future[Any] = executor.submit(function, item)
        assert type(future.exception()) is type(caught.value)


def test_nothing_is_taken_after_shutdown() -> None:
    executor = Executor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(crimes.run, [1])


def test_a_shutdown_waits_for_a_map_that_another_thread_is_just_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = Executor(1)
    raised: list[BaseException] = []

    def shut_down() -> None:
        try:
            executor.shutdown()
        except BaseException as error:
            raised.append(error)

    ending = threading.Thread(target=shut_down)
    start = ExecutorMap.start

    def start_late(made: ExecutorMap) -> None:
        ending.start()
        # Until it waits for the map.
        wait_until(lambda: not ending.is_alive() or bool(made._entered._cond._waiters))  # type: ignore[attr-defined]
        start(made)

    monkeypatch.setattr(ExecutorMap, "start", start_late)
    assert list(executor.map(abs, [-1, -2])) == [1, 2]
    ending.join()
    assert not raised
