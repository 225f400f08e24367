"""Sequences of calls on the drop-in and on `multiprocessing.Pool`: the outcomes are the same."""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.pool
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.process.pool_tasks import add, fail_on, square

from allcores.adapters.multiprocessing import Pool

WAIT_S = 120
NONE = -1
#: a call, as it is made of a pool: name, items, chunk size, the item that fails, how many results are read
Call = tuple[str, int, int | None, int, int]
CALLS = st.tuples(
    st.sampled_from(
        ["apply", "apply_async", "map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered", "callbacks"]
    ),
    st.integers(0, 12),
    st.one_of(st.none(), st.integers(1, 5)),
    st.one_of(st.just(NONE), st.integers(0, 11)),
    st.integers(0, 14),
)
ENDS = st.lists(st.sampled_from(["close", "terminate", "join", "apply", "imap", "repr", "enter", "exit"]), max_size=6)


def outcome(call: Callable[[], Any]) -> tuple[Any, ...]:
    """What a call returned, or raised."""
    try:
        return "value", call()
    except Exception as error:
        return "raised", type(error), error.args


def read(results: Iterator[Any], count: int, *, ordered: bool) -> list[Any]:
    """So many results; what is raised stands in its place, and the iterator is gone on with."""
    found: list[Any] = []
    while len(found) < count:
        told = outcome(lambda: next(results))
        found.append(told)
        if told[:2] == ("raised", StopIteration):
            break
    return found if ordered else sorted(found, key=repr)


def make(pool: Any, call: Call) -> Any:
    """Make a call of either pool."""
    name, count, chunk, bad, wanted = call
    function = functools.partial(fail_on, bad)
    items, pairs = list(range(count)), [(number, 1) for number in range(count)]
    if name == "apply":
        return outcome(lambda: pool.apply(function, (count,)))
    if name == "apply_async":
        result = pool.apply_async(add, (count,), {"right": 1} if bad == NONE else {"wrong": 1})
        return outcome(lambda: result.get(WAIT_S)), result.ready(), result.successful()
    if name == "map":
        return outcome(lambda: pool.map(function, iter(items) if chunk else items, chunk))
    if name == "map_async":
        result = pool.map_async(function, items, chunk)
        return outcome(lambda: result.get(WAIT_S)), result.ready(), result.successful()
    if name == "starmap":
        return outcome(lambda: pool.starmap(add, pairs, chunk))
    if name == "starmap_async":
        return outcome(lambda: pool.starmap_async(add, pairs, chunk).get(WAIT_S))
    if name == "callbacks":
        told: list[Any] = []
        result = pool.map_async(
            function, items, chunk, lambda value: told.append(value), lambda error: told.append(error.args)
        )
        result.wait(WAIT_S)
        return told
    # A chunk of the original is lost with one of its items.
    size = 1 if bad != NONE else chunk or 1
    ordered = name == "imap"
    if not ordered:
        wanted = count + 1
    return read(iter(getattr(pool, name)(function, iter(items), size)), wanted, ordered=ordered)


@contextmanager
def both() -> Iterator[tuple[Any, Any]]:
    context = multiprocessing.get_context("forkserver")
    with context.Pool(2) as original, Pool(2, context=context) as ours:
        yield original, ours
        original.close()
        ours.close()
        original.join()
        ours.join()


@pytest.mark.slow
def test_the_same_calls_have_the_same_outcomes() -> None:
    with both() as (original, ours):

        @settings(deadline=None, max_examples=150)
        @given(calls=st.lists(CALLS, min_size=1, max_size=6))
        def same(calls: list[Call]) -> None:
            assert [make(ours, call) for call in calls] == [make(original, call) for call in calls]

        same()


def end(pool: Any, step: str) -> Any:
    """One step at the end of a pool's life."""
    if step == "apply":
        return outcome(lambda: pool.apply(square, (3,)))
    if step == "imap":
        return outcome(lambda: list(pool.imap(square, range(3))))
    if step == "repr":
        return repr(pool).rpartition(" state=")[2]
    if step == "enter":
        return outcome(lambda: pool.__enter__() is pool)
    if step == "exit":
        return outcome(lambda: pool.__exit__(None, None, None))
    return outcome(getattr(pool, step))


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(steps=ENDS)
def test_lives_end_in_the_same_ways(steps: list[str]) -> None:
    context = multiprocessing.get_context("forkserver")
    original, ours = context.Pool(1), Pool(1, context=context)
    try:
        # What is not running may not be asked for results: the original would wait for ever.
        assert [end(ours, step) for step in steps] == [end(original, step) for step in steps]
    finally:
        for pool in (original, ours):
            pool.terminate()
            pool.join()
