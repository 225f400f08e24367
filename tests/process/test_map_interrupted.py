"""Ctrl-C in the middle of `map`: what runs is finished, wherever in the program's own work it comes."""

from __future__ import annotations

import operator
import random
import signal
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.process.interrupting import Interrupting, leading, python_handler
from tests.tracing import traced

from allcores import Interrupted, Pool
from allcores.backends.in_process import InProcessWorker
from allcores.pool import result_stream
from allcores.pool.pool import driver_of


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    with python_handler():
        yield


def begin(started: list[int], number: int) -> int:
    started.append(number)
    return number


@pytest.mark.parametrize("seed", range(4))
def test_what_has_begun_is_in_what_is_raised_at_any_line(seed: int) -> None:
    choice = random.Random(seed)
    with Pool(2, backend="threads") as pool:
        for _ in range(15):
            started: list[int] = []
            interrupting = Interrupting(choice.randrange(100, 800), [result_stream])
            with pytest.raises(Interrupted) as raised, traced(interrupting):
                pool.map(partial(begin, started), range(20_000), chunk=16)
            assert interrupting.left <= 0
            assert raised.value.done == leading(started)
        assert pool.map(abs, [-1]) == [1]


def test_the_second_one_is_raised_at_once() -> None:
    """With what is there, whatever is in hand then; the pool is as good as before."""
    choice = random.Random(1)
    with Pool(2, backend="threads") as pool:
        for _ in range(15):
            started: list[int] = []
            interrupting = Interrupting(choice.randrange(100, 800), [result_stream], presses=2)
            with pytest.raises(Interrupted) as raised, traced(interrupting):
                pool.map(partial(begin, started), range(20_000), chunk=16)
            assert raised.value.done == list(range(len(raised.value.done)))
            assert set(raised.value.done) <= set(started)
        assert pool.map(abs, [-1]) == [1]


@pytest.mark.parametrize("step", ["setup", "preload"])
def test_a_step_before_the_first_item_that_is_interrupted_is_begun_again_by_the_next_map(step: str) -> None:
    """With "serial" it runs on this very thread: no task goes without what it returns, and the pool stays usable."""
    begun: list[int] = []

    def load() -> int:
        begun.append(1)
        if len(begun) == 1:
            raise KeyboardInterrupt
        return 5

    options: dict[str, Any] = {step: load}
    with Pool(backend="serial", **options) as pool:
        with pytest.raises(Interrupted) as raised:
            pool.map(operator.add, [1, 2])
        assert (raised.value.done, len(begun)) == ([], 1)
        assert pool.map(operator.add, [1, 2]) == [6, 7]
    assert len(begun) == 2


@pytest.mark.parametrize("moment", ["begun", "running", "told"])
def test_ctrl_c_between_two_steps_of_a_serial_pool_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """What was being run has an end, though it was not told: its reader waited for that until Ctrl-C came once more."""
    presses = [1]

    def press() -> None:
        if presses:
            presses.pop()
            signal.raise_signal(signal.SIGINT)

    class Chunks(deque[Any]):
        def popleft(self) -> Any:
            # With the lock, which it is delivered behind.
            press()
            return super().popleft()

    run, results_of = InProcessWorker.run, InProcessWorker._results

    def late_run(*given: Any) -> None:
        press()
        run(*given)

    def late_results(*given: Any, **options: Any) -> Any:
        press()
        return results_of(*given, **options)

    def never(*given: Any) -> None:
        raise AssertionError("nobody would wake it")

    with Pool(backend="serial") as pool:
        stream = pool.outcomes(abs, range(10), chunk=2, ordered=False)
        backend: Any = driver_of(pool).backend
        if moment == "begun":
            backend._chunks = Chunks(backend._chunks)
        elif moment == "running":
            monkeypatch.setattr(InProcessWorker, "run", late_run)
        else:
            monkeypatch.setattr(InProcessWorker, "_results", late_results)
        monkeypatch.setattr(backend, "_sleep", never)
        with pytest.raises(KeyboardInterrupt):
            list(stream)
        assert not presses
        assert not backend._running
        assert pool.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]
