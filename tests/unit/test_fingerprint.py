"""What a run knows its function by: another one is refused when it is resumed."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from allcores.runs.fingerprint import fingerprint_of_function


def plain(item: int) -> int:
    return item


class Slots:
    __slots__ = ("k", "left_out")

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, item: int) -> int:
        return self.k

    def method(self, item: int) -> int:
        return self.k


class More(Slots):
    """Slots, and attributes besides."""

    def __init__(self, k: int) -> None:
        super().__init__(1)
        self.more = k


class Private:
    """A slot whose name is another one outside of the class."""

    __slots__ = ("__k",)

    def __init__(self, k: int) -> None:
        self.__k = k

    def __call__(self, item: int) -> int:
        return self.__k


class Decorator:
    def __init__(self, function: Callable[..., Any], k: int) -> None:
        functools.update_wrapper(self, function)
        self.function, self.k = function, k

    def __call__(self, item: int) -> Any:
        return self.function(item) + self.k


MADE: dict[str, Callable[[int], Any]] = {
    "an object with slots": Slots,
    "its method": lambda k: Slots(k).method,
    "a private slot": Private,
    "an object with both": More,
    "a method of it": lambda k: More(k).method,
    "a partial of it": lambda k: functools.partial(Slots(k).method),
    "a decorator that is an object": lambda k: Decorator(plain, k),
    "a partial of that": lambda k: functools.partial(Decorator(plain, k)),
}


@pytest.mark.parametrize("name", MADE)
def test_what_it_holds_counts(name: str) -> None:
    make = MADE[name]
    assert fingerprint_of_function(make(1)) == fingerprint_of_function(make(1))
    assert fingerprint_of_function(make(1)) != fingerprint_of_function(make(2))


def test_a_function_that_is_kept_is_that_function() -> None:
    kept = functools.cache(plain)
    kept(1)
    assert fingerprint_of_function(kept) == fingerprint_of_function(plain)


class Called:
    """What can be called."""

    def __call__(self, item: object) -> object:
        return item


def test_source_that_other_threads_parse_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.11 fails by chance then, and the run with it, or it was another one when it is resumed."""
    getsource, tries = inspect.getsource, itertools.count(1)

    def failing(subject: Any) -> str:
        if next(tries) % 3:
            raise SystemError("AST constructor recursion depth mismatch (before=54, after=47)")
        return getsource(subject)

    wanted = fingerprint_of_function(Called())
    monkeypatch.setattr(inspect, "getsource", failing)
    assert fingerprint_of_function(Called()) == wanted
    assert next(tries) > 3


def test_source_that_is_being_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(subject: Any) -> str:
        raise SyntaxError

    monkeypatch.setattr(inspect, "getsource", failing)
    assert fingerprint_of_function(Called()) is not None
