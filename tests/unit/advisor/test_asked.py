"""What may be measured, and what it is called."""

from __future__ import annotations

import asyncio
import functools
import math
import multiprocessing
import xmlrpc.client
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from allcores import UsageError
from allcores.advisor.asked import checked_name, name_in_code
from allcores.advisor.measuring import source_text
from allcores.advisor.measuring.switches import find


def name_of(given: Any) -> str:
    return checked_name(given, budget=5, least_budget=1, total=None)


def plain(number: int) -> int:
    return number


async def fetch(number: int) -> int:
    return number


async def stream(number: int) -> AsyncIterator[int]:
    yield number


def rows(number: int) -> Iterator[int]:
    yield number


def runs(function: Callable[[int], Any]) -> Callable[[int], Any]:
    @functools.wraps(function)
    def run(number: int) -> Any:
        return asyncio.run(function(number))

    return run


class Calls:
    """Its objects are called."""

    async def __call__(self, number: int) -> int:
        return number

    def rows(self, number: int) -> Iterator[int]:
        yield number


@pytest.mark.parametrize("given", [fetch, stream, functools.partial(fetch, 1), Calls(), rows, Calls().rows])
def test_what_computes_nothing_when_it_is_called_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match="a call of it does nothing by itself"):
        name_of(given)


@pytest.mark.parametrize(
    ("given", "name"),
    [(plain, "plain"), (runs(fetch), "fetch"), (functools.partial(plain), "plain"), (Calls, "Calls"), (len, "len")],
)
def test_what_computes_has_its_name(given: Any, name: str) -> None:
    assert name_of(given) == name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (plain, "plain"),
        (runs(fetch), "fetch"),
        (functools.lru_cache(plain), "plain"),
        (Calls, "Calls"),
        (len, "len"),
        (math.sqrt, "sqrt"),
        # by the name alone these would be called without what is bound to them
        (functools.partial(pow, 2), "function"),
        (Calls().rows, "function"),
        (Calls(), "function"),
        ({}.get, "function"),
        (lambda number: number, "function"),
    ],
)
def test_code_names_what_is_what_was_measured(given: Any, name: str) -> None:
    assert name_in_code(given) == name


class Pool:
    """Of connections, say."""


def with_psutil(number: int) -> Any:
    import psutil  # type: ignore[import-untyped]

    return psutil.Process().memory_info()


def with_connections(number: int) -> Any:
    return Pool()


def with_workers(number: int) -> Any:
    with multiprocessing.Pool(number) as pool:
        return pool.map(abs, [number])


def with_threads(number: int) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(number)


@pytest.mark.parametrize(
    ("given", "opens"), [(with_psutil, False), (with_connections, False), (with_workers, True), (with_threads, True)]
)
def test_a_pool_of_workers_is_told_from_what_has_its_name(given: Any, opens: bool) -> None:
    pytest.importorskip("psutil")
    assert source_text.opens_pool(given) is opens


class Endless:
    """As proxies of objects elsewhere are: any attribute is another one."""

    def __call__(self, number: int) -> int:
        return number

    def __getattr__(self, name: str) -> Endless:
        return Endless()


class Turned:
    """Its wrapper is what it wraps."""

    def __call__(self, number: int) -> int:
        return number


TURNED = Turned()
TURNED.__wrapped__ = runs(plain)  # type: ignore[attr-defined]
TURNED.__wrapped__.__wrapped__ = TURNED  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", [Endless(), xmlrpc.client.ServerProxy("http://localhost:1").some.method, TURNED])
def test_wrappers_without_an_end_are_followed_for_a_while(given: Any) -> None:
    assert name_of(given) in ("Endless", "_Method", "Turned", "plain")
    assert name_in_code(given) == "function"
    assert source_text.is_nested(given) in (True, False)
    assert not source_text.sleeps(given) and not source_text.opens_pool(given) and not source_text.draws_random(given)
    assert source_text.globals_changed(given) == ()
    assert find(given, ["text"], 2) is None
