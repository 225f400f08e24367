"""Functions, items and results are free to go when nobody uses them any more: the pool keeps none."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S

from allcores import Executor, Pool


class Thing:
    """Something to refer to; its methods are functions that refer to it."""

    def double(self, number: int) -> int:
        return 2 * number

    def __call__(self, number: int) -> int:
        return 2 * number


class Slotted:
    """Takes no weak references itself."""

    __slots__ = ("thing",)

    def __init__(self, thing: Thing) -> None:
        self.thing = thing

    def __call__(self, number: int) -> int:
        return 2 * number


def make(number: object) -> Thing:
    return Thing()


@pytest.fixture(params=["processes", "threads", "serial"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(1, backend=request.param) as pool:
        yield pool


FUNCTIONS: dict[str, Callable[[Thing], Callable[[int], int]]] = {
    "method": lambda thing: thing.double,
    "object": lambda thing: thing,
    "partial": lambda thing: functools.partial(thing.double),
    "closure": lambda thing: lambda number: thing.double(number),
    "slotted": Slotted,
}


def watched(thing: Thing) -> tuple[weakref.ref[Thing], threading.Event]:
    gone = threading.Event()
    return weakref.ref(thing, lambda _: gone.set()), gone


def test_functions_are_not_kept(pool: Pool) -> None:
    """Whatever kind of function it is, and whether its outcome is awaited or not."""
    for name, function_of in FUNCTIONS.items():
        thing = Thing()
        there, gone = watched(thing)
        assert pool.map(function_of(thing), range(3)) == [0, 2, 4], name
        assert pool.submit(function_of(thing), 4).result(120) == 8, name
        del thing
        assert gone.wait(PATIENCE_S), name

        thing = Thing()
        there, gone = watched(thing)
        pool.submit(function_of(thing), 4)
        del thing
        assert gone.wait(PATIENCE_S), name
        assert there() is None


def test_items_and_results_are_not_kept(pool: Pool) -> None:
    thing = Thing()
    _, gone = watched(thing)
    pool.submit(isinstance, thing, Thing)
    del thing
    assert gone.wait(PATIENCE_S)
    for calls in (
        lambda: pool.map(make, [1]),
        lambda: [pool.submit(make, 1).result(120)],
        lambda: pool.imap(make, [1]),
    ):
        for thing in calls():
            _, gone = watched(thing)
        del thing
        assert gone.wait(PATIENCE_S)


def test_an_executor_keeps_none() -> None:
    with Executor(1) as executor:
        thing = Thing()
        _, gone = watched(thing)
        executor.submit(thing.double, 4)
        del thing
        assert gone.wait(PATIENCE_S)


def test_a_function_that_is_kept_is_sent_once() -> None:
    with Pool(1) as pool:
        thing = Thing()
        double = thing.double
        for _ in range(3):
            assert pool.map(double, [1]) == [2]
        assert [pool.submit(double, 1).result(120) for _ in range(3)] == [2, 2, 2]
        functions: Any = pool._driver.functions._known
        assert len(functions) == 2  # as map calls it, and as submit does
        del double
        assert not functions
        assert pool.map(abs, [-1]) == [1]
        assert pool.map(thing.double, [1]) == [2]


def stumble(number: int) -> None:
    raise ValueError(number)


def test_failed_calls_leave_no_cycles() -> None:
    """What has failed is gone with the last reference, without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        executor = Executor(1)
        future = executor.submit(stumble, 1)
        gone = weakref.ref(future)
        with contextlib.suppress(ValueError):
            future.result(120)
        del future
        assert gone() is None
        executor.shutdown()
        calls = weakref.ref(executor._calls)
        with contextlib.suppress(RuntimeError):
            executor.submit(stumble, 1)
        del executor
        assert calls() is None
    finally:
        gc.enable()


#: in a worker: things that failed tasks had
had: list[weakref.ref[Thing]] = []


class Noted(Exception):
    """Its arguments are no plain numbers and texts."""


def stumble_with_a_thing(how: str) -> None:
    gc.disable()
    thing = Thing()
    had.append(weakref.ref(thing))
    if how == "arguments":
        raise Noted([1, 2])
    if how == "cause":
        raise with_a_note() from Noted({"a": 1})
    raise with_a_note()


def with_a_note() -> Exception:
    error = ValueError("noted")
    error.add_note("a note")
    return error


def are_gone(_: object) -> list[bool]:
    return [each() is None for each in had]


@pytest.mark.parametrize("how", ["arguments", "note", "cause"])
def test_what_a_failed_task_had_is_gone_in_its_worker(how: str) -> None:
    """It may be most of the memory that the worker may have: it is not to wait for the garbage collector."""
    with Pool(1) as alone:
        assert [outcome.ok for outcome in alone.outcomes(stumble_with_a_thing, [how] * 2)] == [False, False]
        assert alone.map(are_gone, [0]) == [[True, True]]
