"""`backend="serial"` where several threads use a pool at the same time: each is the worker of what it runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S, wait_until

from allcores import Limits, Pool, UsageError
from allcores.pool.many_calls import begin_calls
from allcores.transport.references import OpenFiles, Reference


def beside(work: Callable[[], object]) -> None:
    """Do it on another thread, and wait for it."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_what_one_thread_sets_up_is_waited_for_by_the_others() -> None:
    """Or their functions lack what the setup function returns."""
    entered, goes_on = threading.Event(), threading.Event()
    found: list[tuple[str, int]] = []

    def setup() -> str:
        entered.set()
        assert goes_on.wait(PATIENCE_S)
        return "ready"

    def work(state: str, number: int) -> tuple[str, int]:
        return state, number

    with Pool(backend="serial", setup=setup) as pool:
        first = threading.Thread(target=lambda: found.extend(pool.map(work, [1, 2])), daemon=True)
        first.start()
        assert entered.wait(PATIENCE_S)

        def numbers() -> Iterator[int]:
            goes_on.set()
            # The next thing that this thread does is to look for something to run.
            yield from (3, 4)

        found.extend(pool.imap(work, numbers()))
        first.join(PATIENCE_S)
    assert sorted(found) == [("ready", 1), ("ready", 2), ("ready", 3), ("ready", 4)]


class Opened:
    """What is open."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Part(Reference):
    """A part of a file that takes a while to be read."""

    __slots__ = ("meanwhile",)

    def __init__(self, meanwhile: Callable[[], object] = bool) -> None:
        self.meanwhile = meanwhile

    def load(self, files: OpenFiles | None = None) -> Any:
        assert files is not None
        handle = files.handle("file", Opened)
        self.meanwhile()
        return handle.closed


def same(value: object) -> object:
    return value


@pytest.mark.parametrize("batch", [None, 2])
def test_a_file_that_one_thread_reads_is_not_closed_or_moved_on_by_another(batch: Any) -> None:
    with Pool(backend="serial") as pool:
        run: Any = pool.map
        busy = Part(lambda: beside(lambda: run(same, [Part(), Part()], batch=batch)))
        assert run(same, [busy], batch=batch) == [False]


def test_ctrl_c_in_the_main_thread_is_that_whoever_works_beside_it() -> None:
    """It ends the map, and is no failure of the item that it came in."""

    def interrupted(_: int) -> None:
        beside(lambda: pool.map(same, [1]))
        signal.raise_signal(signal.SIGINT)

    with Pool(backend="serial") as pool, pytest.raises(KeyboardInterrupt):
        pool.map(interrupted, [1])


@pytest.mark.parametrize("form", ["call", "calls", "map"])
def test_what_no_thread_could_begin_is_begun_when_another_has_ended_its_own(form: str) -> None:
    """Two threads are at work, and go on to something else then: the third runs its own item."""
    begun: list[threading.Event] = [threading.Event() for _ in range(3)]
    goes_on = threading.Event()

    def work(number: int) -> int:
        begun[number].set()
        assert number == 2 or goes_on.wait(PATIENCE_S)
        return number

    def use(number: int) -> None:
        if form == "call":
            found.append(pool.submit(work, number).result())
        elif form == "calls":
            found.extend(future.result() for future in begin_calls(pool, work, [((number,), None)]))
        else:
            found.extend(pool.map(work, [number]))

    found: list[int] = []
    with Pool(backend="serial") as pool:
        threads = [threading.Thread(target=use, args=(number,), daemon=True) for number in range(3)]
        for number in (0, 1):
            threads[number].start()
            assert begun[number].wait(PATIENCE_S)
        threads[2].start()
        # It has handed over its item, which has to wait.
        wait_until(lambda: pool.statistics().items_in_flight == 3)
        assert not begun[2].is_set()
        goes_on.set()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    assert sorted(found) == [0, 1, 2]


def test_a_call_that_nobody_would_begin_is_an_error() -> None:
    """It would begin when the tasks that wait for it have ended. It does, if they go on without it."""

    def nested(depth: int, *, waits: bool) -> Any:
        if not depth:
            return "done"
        future = pool.submit(nested, depth - 1, waits=waits)
        return future.result() if waits else future

    with Pool(backend="serial") as pool:
        with pytest.raises(UsageError, match="a pool of its own"):
            pool.submit(nested, 3, waits=True).result()
        future: Any = pool.submit(nested, 2, waits=False)
        while future != "done":
            future = future.result(PATIENCE_S)


@pytest.mark.parametrize("forms", [("map", "map"), ("call", "call"), ("call", "map")])
def test_threads_whose_tasks_wait_for_each_other_are_told(forms: tuple[str, str]) -> None:
    """Each item would begin when one of the tasks that wait for it has ended. Once one does, the other can."""
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def outer(form: str) -> Any:
        both.wait()
        return list(pool.imap(same, [form])) if form == "map" else [pool.submit(same, form).result()]

    def use(form: str) -> None:
        try:
            found.extend(pool.map(outer, [form]))
        except UsageError as error:
            told.append(str(error))

    found: list[Any] = []
    told: list[str] = []
    with Pool(backend="serial", limits=Limits(depth=2)) as pool:
        threads = [threading.Thread(target=use, args=(form,), daemon=True) for form in forms]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    assert len(told) + len(found) == 2
    assert told and all("a pool of its own" in each for each in told)
