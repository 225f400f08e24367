"""`allcores.Executor` keeps what `concurrent.futures` documents, and one promise more."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, as_completed, wait
from concurrent.futures import Executor as BaseExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from allcores import Executor
from allcores.errors import NotPicklable, WorkerLost

_configured: int | None = None


def configure(value: int) -> None:
    global _configured
    _configured = value


def configured() -> tuple[int | None, int]:
    return _configured, os.getpid()


def refuse() -> None:
    raise RuntimeError("no licence")


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def add(a: int, b: int = 10) -> int:
    return a + b


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def my_pid(_: int) -> int:
    return os.getpid()


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(2) as made:
        yield made


def test_it_is_an_executor(executor: Executor) -> None:
    """isinstance, submit with keywords, results and exceptions."""
    assert isinstance(executor, BaseExecutor)
    assert executor.submit(add, 1, b=2).result(20) == 3
    error = executor.submit(divmod, 1, 0).exception(20)
    assert isinstance(error, ZeroDivisionError)


def test_wait_and_as_completed(executor: Executor) -> None:
    """The module's functions work on its futures."""
    slow, quick = executor.submit(nap, 0.5), executor.submit(nap, 0.0)
    done, pending = wait([slow, quick], timeout=20, return_when=FIRST_COMPLETED)
    assert quick in done and done | pending == {slow, quick}
    assert {future.result() for future in as_completed([slow, quick], timeout=20)} == {0.5, 0.0}


def test_one_dead_worker_fails_its_own_future_only(executor: Executor) -> None:
    """The exception is a BrokenProcessPool that says what happened; the executor goes on."""
    futures = [executor.submit(die, number) for number in range(8)]
    error = futures[3].exception(20)
    assert isinstance(error, BrokenProcessPool)
    assert isinstance(error, WorkerLost)
    assert error.signal == "SIGKILL"
    assert [future.result(20) for number, future in enumerate(futures) if number != 3] == [0, 1, 2, 4, 5, 6, 7]
    assert executor.submit(add, 1).result(20) == 11


def test_a_call_that_runs_is_not_cancelled(executor: Executor) -> None:
    """As Python documents it: cancel() is False then; one that waits is cancelled."""
    running = [executor.submit(nap, 0.5) for _ in range(2)]
    waiting = [executor.submit(nap, 0.5) for _ in range(20)]
    while not all(future.running() for future in running):
        time.sleep(0.001)
    assert not running[0].cancel()
    assert waiting[-1].cancel()
    assert running[0].result(20) == 0.5
    for future in waiting:
        future.cancel()


@pytest.mark.parametrize("options", [{}, {"chunksize": 7}, {"buffersize": 3}, {"chunksize": 4, "buffersize": 2}])
def test_map_keeps_order(executor: Executor, options: dict[str, int]) -> None:
    """Several iterables, the shortest ends it, results in order."""
    assert list(executor.map(add, range(30), range(100, 200), **options)) == [100 + 2 * n for n in range(30)]


def test_map_with_a_buffer_pulls_no_further(executor: Executor) -> None:
    """buffersize bounds what is taken from the input before results are read."""
    pulled: list[int] = []

    def count() -> Iterator[int]:
        for number in itertools.count():
            pulled.append(number)
            yield number

    results = executor.map(add, count(), buffersize=4)
    assert next(results) == 10
    assert len(pulled) <= 6
    results.close()  # type: ignore[attr-defined]


def test_map_times_out(executor: Executor) -> None:
    """timeout counts from the call of map."""
    with pytest.raises(TimeoutError):
        list(executor.map(nap, [0.0, 1.0], timeout=0.1))


def test_bad_arguments_are_refused() -> None:
    """With the types of exceptions that ProcessPoolExecutor raises."""
    for wrong in (0, -1):
        with pytest.raises(ValueError):
            Executor(wrong)
    with pytest.raises(TypeError):
        Executor(1, initializer=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Executor(1, max_tasks_per_child=0)
    with Executor(1) as executor:
        with pytest.raises(ValueError):
            executor.map(add, [1], chunksize=0)
        with pytest.raises(ValueError):
            executor.map(add, [1], buffersize=0)


def test_the_initializer_runs_in_each_worker() -> None:
    """Once per worker; what it returns is not given to the function."""
    with Executor(2, initializer=configure, initargs=(7,)) as executor:
        found = [executor.submit(configured) for _ in range(20)]
        assert {future.result(20)[0] for future in found} == {7}


def test_a_failing_initializer_breaks_the_executor() -> None:
    """Its futures and later submits raise BrokenProcessPool, with the cause."""
    with Executor(2, initializer=refuse) as executor:
        with pytest.raises(BrokenProcessPool, match="no licence"):
            executor.submit(add, 1).result(20)
        with pytest.raises(BrokenProcessPool):
            executor.submit(add, 1).result(20)


def test_workers_are_replaced_after_their_calls() -> None:
    """max_tasks_per_child is exact."""
    with Executor(1, max_tasks_per_child=3) as executor:
        pids = [executor.submit(my_pid, n).result(20) for n in range(9)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]


@pytest.mark.filterwarnings("ignore:start_method='fork' copies:RuntimeWarning")
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_context_chooses_the_start_method(method: str) -> None:
    """mp_context as ProcessPoolExecutor takes it."""
    with Executor(1, mp_context=multiprocessing.get_context(method)) as executor:
        assert executor.submit(add, 5).result(20) == 15


def test_shutdown_waits_or_cancels() -> None:
    """wait=True returns when all is done; cancel_futures drops what waits; submit is refused after it."""
    executor = Executor(1)
    futures = [executor.submit(nap, 0.1) for _ in range(3)]
    executor.shutdown()
    assert [future.result(0) for future in futures] == [0.1] * 3
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(add, 1)
    executor = Executor(1)
    futures = [executor.submit(nap, 0.3) for _ in range(10)]
    executor.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    assert futures[-1].cancelled()


def test_shutdown_without_waiting_finishes_what_was_submitted() -> None:
    """wait=False returns at once; pending futures still get their results."""
    executor = Executor(1)
    futures = [executor.submit(nap, 0.05) for _ in range(4)]
    executor.shutdown(wait=False)
    assert [future.result(20) for future in futures] == [0.05] * 4
    executor.shutdown()


def test_run_in_executor() -> None:
    """asyncio uses it like any other."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with Executor(2) as executor:
            return list(await asyncio.gather(*(loop.run_in_executor(executor, add, n) for n in range(5))))

    assert asyncio.run(main()) == [10, 11, 12, 13, 14]


def test_what_will_not_pickle_fails_its_own_future(executor: Executor) -> None:
    """The error names the path to the culprit; the executor goes on."""
    import threading

    error = executor.submit(add, {"lock": threading.Lock()}).exception(20)
    assert isinstance(error, NotPicklable)
    assert "lock" in str(error)
    assert executor.submit(add, 1).result(20) == 11


def test_callbacks_may_submit(executor: Executor) -> None:
    """A done callback runs without any lock of ours held."""
    later = []
    first = executor.submit(add, 1)
    first.add_done_callback(lambda future: later.append(executor.submit(add, future.result())))
    assert first.result(20) == 11
    while not later:
        time.sleep(0.001)
    assert later[0].result(20) == 21


def test_the_signature_is_that_of_process_pool_executor() -> None:
    """Same parameters, so that it drops in."""
    import inspect

    ours, theirs = (list(inspect.signature(kind.__init__).parameters) for kind in (Executor, ProcessPoolExecutor))
    assert ours == theirs
