"""A function that is async is refused where it is given: a call of it would do nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allcores import Executor, Pipeline, Pool, UsageError
from allcores.frames.groups import check_on_error
from allcores.system.async_functions import check_function, close_unawaited, is_async


async def _later(*given: Any) -> Any:
    return given


#: no type checker would have it
later: Any = _later


async def each(*given: Any) -> Any:
    yield given


def now(*given: Any) -> Any:
    return given


class Later:
    async def __call__(self, item: Any) -> Any:
        return item

    async def method(self, item: Any) -> Any:
        return item

    def plain(self, item: Any) -> Any:
        return item


@functools.wraps(later)
def wrapping(*given: Any) -> Any:
    return given


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (later, True),
        (each, True),
        (functools.partial(functools.partial(later, 1), 2), True),
        (Later(), True),
        (Later().method, True),
        (functools.partial(Later().method), True),
        (now, False),
        (Later, False),
        (Later().plain, False),
        (wrapping, False),
        (len, False),
        (None, False),
    ],
)
def test_which_functions_are_async(function: Any, found: bool) -> None:
    assert is_async(function) is found


GIVEN: dict[str, Callable[[Pool, Path], Any]] = {
    "map": lambda pool, folder: pool.map(later, [1]),
    "map with constants": lambda pool, folder: pool.map(later, [1], factor=2),
    "starmap": lambda pool, folder: pool.starmap(later, [(1, 2)]),
    "batches": lambda pool, folder: pool.map(later, [1], batch=2),
    "imap": lambda pool, folder: list(pool.imap(later, [1])),
    "outcomes": lambda pool, folder: list(pool.outcomes(later, [1])),
    "submit": lambda pool, folder: pool.submit(later, 1),
    "run": lambda pool, folder: pool.run(later, [1], folder / "out.jsonl"),
    "cache": lambda pool, folder: pool.map(later, [1], cache=folder / "cache"),
    "merge": lambda pool, folder: pool.reduce(now, [1, 2], merge=later),
    "setup": lambda pool, folder: Pool(setup=later),
    "teardown": lambda pool, folder: Pool(teardown=later),
    "preload": lambda pool, folder: Pool(preload=later),
    "step": lambda pool, folder: Pipeline().map(later),
    "filter": lambda pool, folder: Pipeline().filter(later),
    "flat_map": lambda pool, folder: Pipeline().flat_map(each),
    "on_error": lambda pool, folder: Pipeline().map(now, on_error=later),
    "on_error of frames": lambda pool, folder: check_on_error(later),
    "key": lambda pool, folder: Pipeline().group_by(later),
    "scan": lambda pool, folder: Pipeline().scan(later, 0),
    "weight": lambda pool, folder: Pipeline().batch(2, by=later),
    "actor": lambda pool, folder: pool.actor(Later).method(1),
    "actor's call": lambda pool, folder: pool.actor(Later).call(Later.method, 1),
}


@pytest.mark.parametrize("what", GIVEN)
def test_it_is_refused_at_once(what: str, tmp_path: Path) -> None:
    """Also where its result would be taken for true, or for a state."""
    with Pool(backend="serial") as pool, pytest.raises(UsageError, match="is async, a call of it does nothing by it"):
        GIVEN[what](pool, tmp_path)


def test_coroutines_in_a_result_that_is_refused_are_closed() -> None:
    """Python would warn that nobody has awaited them."""
    for make in (lambda one: one, lambda one: [one], lambda one: {"a": one}, lambda one: (1, one)):
        one = later()
        close_unawaited(make(one))
        assert one.cr_frame is None


def test_an_executor_refuses_it_as_it_is_submitted() -> None:
    with Executor(1) as executor, pytest.raises(UsageError, match="is async"):
        executor.submit(later, 1)


@pytest.mark.parametrize(("place", "words"), [("first", "'f' cannot be called; the first argument"), ("second", "sec")])
def test_what_cannot_be_called_is_no_function_either(place: str, words: str) -> None:
    """One rule for all that takes a function: the message says where it belongs."""
    check_function(now, place)
    with pytest.raises(UsageError, match=words):
        check_function("f", place)
    with pytest.raises(UsageError, match="is async, a call of it does nothing by itself"):
        check_function(later, place)
