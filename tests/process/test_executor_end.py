"""How an `allcores.Executor` ends: shut down, dropped, or with its program."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import multiprocessing
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from tests.process import crimes
from tests.process.waiting import Bell, Gate, wait_at, wait_gone

from allcores import Executor
from allcores.pool.executor_calls import ExecutorCalls

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")

METHODS = [None, "spawn", "fork"]


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with Bell(tmp_path / "bell") as bell:
        yield bell


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path / "gate") as gate:
        yield gate


def context(method: str | None) -> Any:
    return multiprocessing.get_context(method) if method else None


class Thing:
    """Something to hold on to."""


def make_thing(_: object) -> Thing:
    return Thing()


@pytest.mark.parametrize("method", METHODS)
class TestDropped:
    """The leak check of the suite sees to it that no worker and no thread is left."""

    def test_with_results_unread(self, method: str | None) -> None:
        """An iterator that is kept keeps neither executor nor workers, and all its results come."""
        executor = Executor(2, mp_context=context(method))
        pids = {executor.submit(crimes.who, 0).result(120)}
        gone = weakref.ref(executor)
        results = executor.map(crimes.run, range(6))
        chunks = executor.map(crimes.run, range(6), chunksize=4)
        del executor
        assert gone() is None
        wait_gone(pids)
        assert list(results) == list(chunks) == [0, 2, 4, 6, 8, 10]

    def test_with_calls_under_way(self, method: str | None, bell: Bell, gate: Gate) -> None:
        """They are finished, those that wait included."""
        executor = Executor(1, mp_context=context(method))
        futures = [executor.submit(crimes.ring_and_wait, bell.path, gate.path) for _ in range(3)]
        gone = weakref.ref(executor)
        [pid] = bell.pids()
        del executor
        assert gone() is None
        gate.open()
        assert [future.result(120) for future in futures] == [pid] * 3
        wait_gone([pid])


def test_a_buffered_map_of_a_dropped_executor_says_so() -> None:
    """What was submitted comes; that the rest does not come is an error, not an end."""
    results = Executor(1).map(crimes.run, range(10), buffersize=3)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(RuntimeError, match="nobody has the executor"):
        next(results)


class TestReferences:
    def test_results_are_not_kept_by_the_iterator(self) -> None:
        with Executor(1) as executor:
            for options in ({}, {"chunksize": 3}, {"buffersize": 2}):
                for thing in executor.map(make_thing, range(7), **options):
                    gone = weakref.ref(thing)
                    del thing
                    assert gone() is None, options

    def test_the_executor_is_not_kept_by_its_futures(self) -> None:
        executor = Executor(1)
        future = executor.submit(crimes.run, 1)
        assert future.result(120) == 2
        gone = weakref.ref(executor)
        del executor
        assert gone() is None
        assert future.done()


class TestShutdown:
    @pytest.mark.parametrize("method", METHODS)
    def test_at_once_with_cancelling(self, method: str | None, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some are done, most are not: workers that are starting have a call each."""
        cancel = ExecutorCalls.cancel

        def cancel_and_open(self: ExecutorCalls, *, starting: int) -> None:
            cancel(self, starting=starting)
            gate.open()

        monkeypatch.setattr(ExecutorCalls, "cancel", cancel_and_open)
        executor = Executor(2, mp_context=context(method))
        futures = [executor.submit(wait_at, gate.path) for _ in range(50)]
        executor.shutdown(cancel_futures=True)
        assert all(future.done() for future in futures)
        done = [future for future in futures if not future.cancelled()]
        assert [future.result(0) for future in done] == [None] * len(done)
        assert 2 <= len(done) < 50

    def test_by_several_threads(self, bell: Bell, gate: Gate) -> None:
        """All of them return, and only when every call is done."""
        executor = Executor(1)
        futures = [executor.submit(crimes.ring_and_wait, bell.path, gate.path) for _ in range(3)]
        bell.hear()
        over: list[bool] = []

        def shut() -> None:
            executor.shutdown()
            over.append(all(future.done() for future in futures))

        threads = [threading.Thread(target=shut) for _ in range(3)]
        for thread in threads:
            thread.start()
        executor.shutdown(wait=False)
        gate.open()
        for thread in threads:
            thread.join()
        assert over == [True] * 3

    def test_inside_of_a_call_that_is_just_submitted(self) -> None:
        """By a handler of a signal, say: it does not wait for the call that its own thread is submitting."""
        executor = Executor(1)

        class Shuts:
            def __reduce__(self) -> Any:
                executor.shutdown()
                return str, ("shut",)

        earlier = executor.submit(crimes.run, 4)
        with pytest.raises(RuntimeError):
            executor.submit(crimes.run_any, Shuts())
        assert earlier.result(0) == 8

    def test_by_a_callback(self) -> None:
        executor = Executor(1)
        shut = threading.Event()

        def callback(_: cf.Future[Any]) -> None:
            executor.shutdown(wait=False)
            shut.set()

        executor.submit(crimes.run, 1).add_done_callback(callback)
        assert shut.wait(120)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(crimes.run, 1)
        executor.shutdown()


@pytest.mark.parametrize("end", [Executor.terminate_workers, Executor.kill_workers])
class TestWorkersEnded:
    def test_what_runs_fails_and_the_rest_is_cancelled(
        self, end: Callable[[Executor], None], bell: Bell, gate: Gate
    ) -> None:
        """Nothing is waited for, nothing hangs, no worker is left, no call is taken any more."""
        executor = Executor(2)
        futures = [executor.submit(crimes.ring_and_wait, bell.path, gate.path) for _ in range(20)]
        pids = bell.pids(2)
        end(executor)
        assert all(future.done() for future in futures)
        wait_gone(pids)
        broken = [future for future in futures if not future.cancelled()]
        assert 2 <= len(broken) < 20
        for future in broken:
            with pytest.raises(BrokenProcessPool, match="was called"):
                future.result()
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(crimes.run, 1)
        executor.shutdown()

    def test_idle_or_starting(self, end: Callable[[Executor], None]) -> None:
        executor = Executor(2)
        future = executor.submit(crimes.run, 1)
        end(executor)
        end(executor)
        assert future.done()
        executor.shutdown()
        end(executor)


def test_kill_leaves_no_time() -> None:
    """A task that ignores SIGTERM goes too."""
    executor = Executor(1)
    with_handler = executor.submit(signal.signal, signal.SIGTERM, signal.SIG_IGN)
    assert with_handler.exception(120) is None
    pid = executor.submit(crimes.who, 0).result(120)
    executor.kill_workers()
    wait_gone([pid])


class TestTheProgramsEnd:
    def run(self, program: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)

    def test_a_dropped_executor_finishes_its_calls(self) -> None:
        done = self.run(
            "import allcores\n"
            "def late():\n"
            "    import time\n"
            "    time.sleep(0.1)\n"
            "    print('finished', flush=True)\n"
            "allcores.Executor(1).submit(late)\n"
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "finished\n", "")

    def test_nothing_is_taken_any_more(self) -> None:
        """A plain RuntimeError, in the words of the standard library."""
        done = self.run(
            "import atexit\n"
            "def last():\n"
            "    try:\n"
            "        executor.submit(abs, 1)\n"
            "    except RuntimeError as error:\n"
            "        print(type(error).__name__, error)\n"
            "atexit.register(last)\n"
            "import allcores\n"
            "executor = allcores.Executor(1)\n"
            "print(executor.submit(abs, -1).result())\n"
        )
        assert done.stderr == ""
        assert done.stdout == "1\nRuntimeError cannot schedule new futures after interpreter shutdown\n"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What a test drops is gone when it drops it: nothing of it waits in a cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
