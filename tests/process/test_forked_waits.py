"""In a forked process nobody waits for what its parent has begun: whoever asks for it is told whose it is."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process import pool_tasks as tasks
from tests.process.forking import fork
from tests.process.waiting import PATIENCE_S, Gate, wait_at

import allcores
from allcores import Executor, Pool, PoolClosed
from allcores.adapters.multiprocessing import Pool as DropIn


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path / "gate") as gate:
        yield gate


class Door:
    """An actor's object."""

    def wait(self, path: str) -> None:
        wait_at(path)


def in_fork(child: Callable[[], object], gate: Gate) -> int:
    """Run `child` in a fork of this process, then open the gate for what the parent waits for.

    Returns:
        0 if it returned, its exit code otherwise, and minus 14 if it waits.
    """

    def bounded() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PATIENCE_S))
        child()

    try:
        return fork(bounded)
    finally:
        gate.open()


def is_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(PoolClosed, match="forked"):
        ask()


def test_futures(gate: Gate) -> None:
    """Also where only their state is asked for: by wait() and as_completed()."""
    with Executor(1) as executor, Pool(1) as pool, pool.actor(Door) as door:
        futures = [executor.submit(wait_at, gate.path), pool.submit(wait_at, gate.path), door.wait(gate.path)]
        told: list[object] = []
        for future in futures:
            future.add_done_callback(told.append)

        def child() -> None:
            assert concurrent.futures.wait(futures).not_done == set()
            assert set(concurrent.futures.as_completed(futures)) == set(futures)
            for future in futures:
                is_refused(future.result)
                assert isinstance(future.exception(), PoolClosed)
                assert not future.cancel()
                future.add_done_callback(told.append)
            # What the parent has asked for is told in the parent.
            assert told == futures

        assert in_fork(child, gate) == 0
        assert [future.result() for future in futures] == [None] * 3


def test_a_map_of_an_executor(gate: Gate) -> None:
    with Executor(1) as executor:
        values = executor.map(wait_at, [gate.path])
        assert in_fork(lambda: is_refused(lambda: next(values)), gate) == 0
        assert list(values) == [None]


@pytest.mark.parametrize("way", ["apply", "map"])
@pytest.mark.parametrize("told", [False, True])
def test_results_of_the_drop_in(gate: Gate, way: str, told: bool) -> None:
    """As soon as its outcome cannot come any more a result is ready, also for a loop that asks for that."""
    seen: list[object] = []
    with DropIn(1) as pool:
        options: dict[str, Any] = {"callback": seen.append} if told else {}
        result: Any = (
            pool.apply_async(wait_at, (gate.path,), **options)
            if way == "apply"
            else pool.map_async(wait_at, [gate.path], **options)
        )

        def child() -> None:
            result.wait()
            assert result.ready()
            assert not result.successful()
            is_refused(result.get)
            is_refused(lambda: result.get(1.0))
            assert not seen
            assert pool.map(tasks.square, [3]) == [9]

        assert in_fork(child, gate) == 0
        assert result.get() == (None if way == "apply" else [None])
        assert len(seen) == told


@pytest.mark.parametrize("ordered", [True, False])
def test_an_iterator_of_the_drop_in(gate: Gate, ordered: bool) -> None:
    """What had come before the fork is there."""
    with DropIn(1) as pool:
        made = (pool.imap if ordered else pool.imap_unordered)(wait_at, iter([gate.path]))
        assert in_fork(lambda: is_refused(lambda: next(made)), gate) == 0
        assert list(made) == [None]


def test_an_iterator_that_another_thread_reads(gate: Gate) -> None:
    """The lock that it holds is not held in the fork."""
    with DropIn(1) as pool:
        made = pool.imap(wait_at, [gate.path])
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            reading = threads.submit(next, made)
            while not made._lock.locked():
                assert not reading.done()
            assert in_fork(lambda: is_refused(lambda: next(made)), gate) == 0
            assert reading.result() is None


def test_a_process_of_multiprocessing(gate: Gate) -> None:
    with DropIn(1) as pool:
        result = pool.map_async(wait_at, [gate.path])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process = multiprocessing.get_context("fork").Process(target=is_refused, args=(result.get,))
            process.start()
        process.join(PATIENCE_S)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        process.close()
        gate.open()
        assert code == 0
        assert result.get() == [None]


def test_a_pipeline(gate: Gate) -> None:
    with allcores.Pipeline().map(_after).imap([None, gate.path], workers=1) as stream:
        values = iter(stream)
        assert next(values) is None
        assert in_fork(lambda: is_refused(lambda: next(values)), gate) == 0
        assert next(values) == gate.path


def _after(path: str | None) -> str | None:
    if path is not None:
        wait_at(path)
    return path


@pytest.mark.parametrize("kind", ["generator", "generator_unordered"])
def test_a_call_of_joblib(gate: Gate, tmp_path: Path, kind: str) -> None:
    """And what the call has written for its tasks stays until the parent is done with it."""
    joblib = pytest.importorskip("joblib")
    numpy = pytest.importorskip("numpy")
    from allcores.adapters import joblib as adapter

    before = dict(joblib.parallel.BACKENDS)
    adapter.register()
    shared = tmp_path / "shared"
    array = numpy.arange(100_000)
    try:
        with joblib.parallel_config("allcores", n_jobs=2, temp_folder=shared, max_nbytes=1000):
            parallel = joblib.Parallel(return_as=kind)
            values = parallel(joblib.delayed(_summed)(array, gate.path) for _ in range(4))
            files = sorted(shared.rglob("*"))
            assert files

            def child() -> None:
                is_refused(lambda: next(values))
                assert sorted(shared.rglob("*")) == files

            # As if a thread of the call had it just then.
            with parallel._backend._calls._state.over._cond:
                assert in_fork(child, gate) == 0
            assert sorted(shared.rglob("*")) == files
            assert list(values) == [array.sum()] * 4
    finally:
        adapter.close()
        joblib.parallel.BACKENDS.clear()
        joblib.parallel.BACKENDS.update(before)


def _summed(array: Any, path: str) -> int:
    wait_at(path)
    return int(array.sum())
