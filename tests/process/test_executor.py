"""`allcores.Executor` keeps what `concurrent.futures` documents, and one promise more.

What is not about that one promise is asked of `ProcessPoolExecutor`, too: so these tests are right about it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import inspect
import itertools
import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from tests.process import crimes, setups
from tests.process.waiting import Bell, Gate, lines, wait_at, wait_until

from allcores import Executor, NotPicklable, SetupError, UsageError, WorkerLost

pytestmark = [
    pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

#: the standard library's own, without a fork from this process, which has threads
KINDS = {
    "ours": Executor,
    "stdlib": lambda *args, **kw: cf.ProcessPoolExecutor(
        *args, **{"mp_context": multiprocessing.get_context("forkserver"), **kw}
    ),
}
Make = Callable[..., cf.Executor]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(2) as executor:
        yield executor


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with Bell(tmp_path / "bell") as bell:
        yield bell


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path / "gate") as gate:
        yield gate


class TestAsDocumented:
    def test_it_is_an_executor_and_its_futures_are_futures(self, make: Make) -> None:
        with make(2) as executor:
            assert isinstance(executor, cf.Executor)
            future = executor.submit(pow, 2, 5, mod=7)
            assert isinstance(future, cf.Future)
            assert future.result(120) == 4
            assert isinstance(executor.submit(divmod, 1, 0).exception(120), ZeroDivisionError)

    def test_wait_returns_at_the_first(self, make: Make, bell: Bell, gate: Gate) -> None:
        with make(2) as executor:
            slow = executor.submit(crimes.ring_and_wait, bell.path, gate.path)
            bell.hear()
            quick = executor.submit(crimes.run, 1)
            done, pending = cf.wait([slow, quick], timeout=120, return_when=cf.FIRST_COMPLETED)
            assert (done, pending) == ({quick}, {slow})
            with pytest.raises(TimeoutError):
                slow.result(0.01)
            gate.open()
            done, pending = cf.wait([slow, quick], timeout=120)
            assert (len(done), len(pending)) == (2, 0)

    def test_wait_returns_at_the_first_exception(self, make: Make, bell: Bell, gate: Gate) -> None:
        with make(2) as executor:
            slow: cf.Future[Any] = executor.submit(crimes.ring_and_wait, bell.path, gate.path)
            wrong: cf.Future[Any] = executor.submit(divmod, 1, 0)
            done, pending = cf.wait([slow, wrong], timeout=120, return_when=cf.FIRST_EXCEPTION)
            assert (done, pending) == ({wrong}, {slow})
            gate.open()

    def test_as_completed_gives_all(self, make: Make) -> None:
        with make(2) as executor:
            futures = [executor.submit(crimes.run, number) for number in range(30)]
            assert sorted(future.result() for future in cf.as_completed(futures, timeout=120)) == list(range(0, 60, 2))

    def test_a_cancelled_call_is_seen_by_wait_and_as_completed(self, make: Make, bell: Bell, gate: Gate) -> None:
        with make(1) as executor:
            running = executor.submit(crimes.ring_and_wait, bell.path, gate.path)
            bell.hear()
            waiting = [executor.submit(crimes.run, number) for number in range(5)]
            assert not running.cancel()
            assert not running.cancelled()
            assert waiting[-1].cancel()
            gate.open()
            done, _ = cf.wait([running, *waiting], timeout=120)
            assert len(done) == 6
            assert len(list(cf.as_completed([running, *waiting], timeout=120))) == 6
            assert waiting[-1].cancelled()
            with pytest.raises(cf.CancelledError):
                waiting[-1].result()

    @pytest.mark.parametrize("options", [{}, {"chunksize": 7}, {"chunksize": 100}])
    def test_map_takes_several_iterables_and_keeps_order(self, make: Make, options: dict[str, Any]) -> None:
        with make(2) as executor:
            assert list(executor.map(pow, range(2, 30), itertools.repeat(2), **options)) == [
                n * n for n in range(2, 30)
            ]
            assert list(executor.map(abs, [], **options)) == []
            assert list(executor.map(max, range(5), range(3), **options)) == [0, 1, 2]

    @pytest.mark.parametrize("chunksize", [1, 3])
    def test_map_raises_where_the_failure_stands(self, make: Make, chunksize: int) -> None:
        with make(2) as executor:
            results = executor.map(divmod, [9, 8, 7, 6, 5, 4], [1, 2, 7, 0, 1, 1], chunksize=chunksize)
            assert [next(results) for _ in range(3)] == [(9, 0), (4, 0), (1, 0)]
            with pytest.raises(ZeroDivisionError):
                next(results)

    def test_map_pulls_all_its_input_at_once(self, make: Make) -> None:
        pulled: list[int] = []

        def source() -> Iterator[int]:
            for number in range(50):
                pulled.append(number)
                yield number

        with make(2) as executor:
            results = executor.map(crimes.run, source())
            assert len(pulled) == 50
            assert list(results) == [number * 2 for number in range(50)]

    def test_map_times_out(self, make: Make, bell: Bell, gate: Gate) -> None:
        with make(2) as executor:
            results = executor.map(crimes.run, [("ring_and_wait", bell.path, gate.path)], timeout=0.1)
            with pytest.raises(TimeoutError):
                next(results)
            gate.open()

    def test_a_call_that_a_worker_gave_back_can_be_cancelled(self, gate: Gate) -> None:
        """It waited behind one that takes long, and waits in the program now."""
        with Executor(2) as executor:
            calls = [executor.submit(wait_at, gate.path) for _ in range(6)]
            wait_until(lambda: sum(call.running() for call in calls) == 2)
            assert all(call.cancel() for call in calls if not call.running())
            gate.open()
            assert sum(call.cancelled() for call in calls) == 4

    def test_a_map_that_is_left_cancels_what_waits(self, make: Make, bell: Bell, gate: Gate, tmp_path: Path) -> None:
        book = tmp_path / "book"
        items: list[Any] = [1, *[("ring_wait_and_note", bell.path, gate.path, str(book))] * 20]
        with make(1) as executor:
            results = executor.map(crimes.run, items)
            assert next(results) == 2
            bell.hear()
            results.close()  # type: ignore[attr-defined]
            gate.open()
        # Those that a worker had already are run.
        assert 1 <= len(lines(book)) <= 4

    def test_the_initializer_runs_once_per_worker(self, make: Make, tmp_path: Path) -> None:
        book = tmp_path / "book"
        with make(2, initializer=setups.note_pid, initargs=(str(book),)) as executor:
            pids = {executor.submit(crimes.who, number).result(120) for number in range(20)}
        assert {str(pid) for pid in pids} <= set(lines(book))
        assert len(lines(book)) == len(set(lines(book))) <= 2

    def test_an_initializer_that_fails_breaks_the_executor(self, make: Make) -> None:
        with make(2, initializer=setups.raise_at_once) as executor:
            with pytest.raises(BrokenProcessPool):
                executor.submit(crimes.run, 1).result(120)
            with pytest.raises(BrokenProcessPool):
                executor.submit(crimes.run, 1).result(120)

    @pytest.mark.parametrize(
        ("kind", "wrong"),
        [
            (ValueError, {"max_workers": 0}),
            (ValueError, {"max_workers": -1}),
            (TypeError, {"max_workers": 1, "initializer": 5}),
            (TypeError, {"max_workers": 1, "max_tasks_per_child": 1.5}),
            (ValueError, {"max_workers": 1, "max_tasks_per_child": 0}),
        ],
        ids=str,
    )
    def test_arguments_that_make_no_sense(self, make: Make, kind: type[Exception], wrong: dict[str, Any]) -> None:
        with pytest.raises(kind):
            make(**wrong)

    def test_recycling_needs_another_start_method_than_fork(self, make: Make) -> None:
        with pytest.raises(ValueError, match="fork"):
            make(1, max_tasks_per_child=3, mp_context=multiprocessing.get_context("fork"))

    def test_map_arguments_that_make_no_sense(self, make: Make) -> None:
        with make(1) as executor, pytest.raises(ValueError, match="chunksize"):
            executor.map(abs, [1], chunksize=0)

    def test_workers_are_replaced_after_their_calls(self, make: Make) -> None:
        with make(1, max_tasks_per_child=3) as executor:
            pids = [executor.submit(crimes.who, number).result(120) for number in range(9)]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]

    def test_nothing_is_taken_after_shutdown(self, make: Make) -> None:
        executor = make(1)
        executor.shutdown()
        executor.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(abs, 1)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.map(abs, [1])

    def test_shutdown_waits_for_what_was_submitted(self, make: Make) -> None:
        executor = make(2)
        futures = [executor.submit(crimes.run, number) for number in range(50)]
        executor.shutdown()
        assert all(future.done() for future in futures)
        assert [future.result(0) for future in futures] == [number * 2 for number in range(50)]

    def test_shutdown_without_waiting(self, make: Make, bell: Bell, gate: Gate) -> None:
        executor = make(2)
        futures = [executor.submit(crimes.ring_and_wait, bell.path, gate.path) for _ in range(6)]
        bell.hear(2)
        executor.shutdown(wait=False)
        assert not any(future.done() for future in futures)
        gate.open()
        assert all(future.result(120) for future in futures)
        executor.shutdown()

    def test_leaving_the_block_waits(self, make: Make) -> None:
        with make(2) as executor:
            futures = [executor.submit(crimes.run, number) for number in range(20)]
        assert all(future.done() for future in futures)

    def test_run_in_executor(self, make: Make) -> None:
        async def main() -> list[int]:
            loop = asyncio.get_running_loop()
            with make(2) as executor:
                return list(
                    await asyncio.gather(*(loop.run_in_executor(executor, crimes.run, number) for number in range(20)))
                )

        assert asyncio.run(main()) == [number * 2 for number in range(20)]

    @pytest.mark.quick
    def test_callbacks_may_submit(self, make: Make) -> None:
        with make(1) as executor:
            later: cf.Future[cf.Future[Any]] = cf.Future()
            first = executor.submit(crimes.run, 1)
            first.add_done_callback(lambda future: later.set_result(executor.submit(crimes.run, future.result())))
            assert later.result(120).result(120) == 4

    def test_from_many_threads(self, make: Make) -> None:
        with make(2) as executor:

            def work(start: int) -> None:
                futures = [executor.submit(crimes.run, number) for number in range(start, start + 50)]
                results[start] = [future.result(120) for future in futures]

            results: dict[int, list[int]] = {}
            threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert results == {start: [number * 2 for number in range(start, start + 50)] for start in range(8)}

    def test_an_executor_that_is_dropped_ends(self, make: Make) -> None:
        future = make(1).submit(crimes.run, 1)
        assert future.result(120) == 2


class TestBeyond:
    def test_the_signatures_are_those_of_process_pool_executor(self) -> None:
        theirs = cf.ProcessPoolExecutor
        for method in ("__init__", "submit", "shutdown"):
            ours = inspect.signature(getattr(Executor, method)).parameters
            assert list(ours) == list(inspect.signature(getattr(theirs, method)).parameters), method
        wanted = set(inspect.signature(theirs.map).parameters)
        assert wanted <= set(inspect.signature(Executor.map).parameters)

    @pytest.mark.parametrize("options", [{"buffersize": 1}, {"buffersize": 3}, {"chunksize": 4, "buffersize": 2}])
    def test_map_with_a_buffer(self, executor: Executor, options: dict[str, int]) -> None:
        assert list(executor.map(crimes.run, range(40), **options)) == [number * 2 for number in range(40)]

    def test_map_with_a_buffer_pulls_no_further(self, executor: Executor) -> None:
        pulled: list[int] = []

        def source() -> Iterator[int]:
            for number in itertools.count():
                pulled.append(number)
                yield number

        results = executor.map(crimes.run, source(), buffersize=4)
        assert len(pulled) == 4
        for number in range(20):
            assert next(results) == number * 2
            assert len(pulled) <= number + 1 + 4
        results.close()  # type: ignore[attr-defined]

    def test_map_buffers_that_make_no_sense(self, executor: Executor) -> None:
        with pytest.raises(ValueError, match="buffersize"):
            executor.map(abs, [1], buffersize=0)
        with pytest.raises(TypeError, match="buffersize"):
            executor.map(abs, [1], buffersize=1.5)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("crime", "signal", "exitcode"),
        [("kill_itself", "SIGKILL", None), ("exit_at_once", None, 3), ("segfault", "SIGSEGV", None)],
    )
    def test_a_dead_worker_fails_its_own_future_only(
        self, executor: Executor, crime: str, signal: str | None, exitcode: int | None
    ) -> None:
        """Its exception is a BrokenProcessPool, for old code, and says what happened; the executor goes on."""
        items = [1, 2, 3, crime, 4, 5, 6]
        futures = [executor.submit(crimes.run, item) for item in items]
        error = futures[3].exception(120)
        assert isinstance(error, BrokenProcessPool)
        assert isinstance(error, WorkerLost)
        assert (error.signal, error.exitcode) == (signal, exitcode)
        assert "run(" in str(error)
        assert [future.result(120) for future in futures if future is not futures[3]] == [2, 4, 6, 8, 10, 12]
        assert executor.submit(crimes.run, 7).result(120) == 14

    def test_a_dead_worker_in_map(self, executor: Executor) -> None:
        results = executor.map(crimes.run, [1, 2, "exit_at_once", 4])
        assert [next(results), next(results)] == [2, 4]
        with pytest.raises(BrokenProcessPool):
            next(results)
        assert list(executor.map(crimes.run, [5, 6])) == [10, 12]

    def test_an_initializer_that_fails_says_why(self) -> None:
        with Executor(2, initializer=setups.raise_at_once) as executor:
            error = executor.submit(crimes.run, 1).exception(120)
            assert isinstance(error, BrokenProcessPool)
            assert isinstance(error, SetupError)
            assert "the model is missing" in str(error)

    def test_what_the_initializer_returns_is_no_argument(self) -> None:
        with Executor(1, initializer=setups.open_lock) as executor:
            assert executor.submit(crimes.run, 1).result(120) == 2

    def test_what_cannot_travel_fails_its_own_future(self, executor: Executor) -> None:
        error = executor.submit(crimes.run_any, {"lock": threading.Lock()}).exception(120)
        assert isinstance(error, NotPicklable)
        assert executor.submit(crimes.run, 1).result(120) == 2
        assert isinstance(executor.submit(crimes.return_something, "lock").exception(120), NotPicklable)

    def test_lambdas_travel(self, executor: Executor) -> None:
        assert list(executor.map(lambda number: number + 1, range(10), chunksize=3)) == list(range(1, 11))
        assert executor.submit(lambda: 5).result(120) == 5

    @pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
    def test_a_context_chooses_the_start_method(self, method: str) -> None:
        with Executor(1, mp_context=multiprocessing.get_context(method)) as executor:
            assert executor.submit(crimes.run, 5).result(120) == 10

    def test_usage_errors_are_ours_too(self) -> None:
        with pytest.raises(UsageError):
            Executor(0)

    def test_dask_takes_it_as_a_scheduler(self) -> None:
        dask = pytest.importorskip("dask")
        with Executor(2) as executor:
            values = [dask.delayed(crimes.run)(number) for number in range(10)]
            assert dask.compute(*values, scheduler=executor) == tuple(number * 2 for number in range(10))

    def test_shutdown_cancels_what_waits_if_asked(self, bell: Bell, gate: Gate) -> None:
        executor = Executor(2)
        futures = [executor.submit(crimes.ring_and_wait, bell.path, gate.path) for _ in range(20)]
        bell.hear(2)
        executor.shutdown(wait=False, cancel_futures=True)
        gate.open()
        executor.shutdown()
        # The first ones were with a worker by then.
        assert all(future.cancelled() for future in futures[10:])
        assert all(future.done() for future in futures)
        assert sum(not future.cancelled() for future in futures) >= 2

    def test_waiters_hear_of_what_shutdown_cancels(self, bell: Bell, gate: Gate) -> None:
        executor = Executor(2)
        futures = [executor.submit(crimes.ring_and_wait, bell.path, gate.path) for _ in range(20)]
        bell.hear(2)
        executor.shutdown(wait=False, cancel_futures=True)
        done, _ = cf.wait(futures[10:], timeout=120)
        assert len(done) == 10
        gate.open()
        executor.shutdown()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="buffersize came with Python 3.14")
def test_buffersize_is_a_parameter_of_the_standard_library() -> None:
    assert "buffersize" in inspect.signature(cf.Executor.map).parameters
