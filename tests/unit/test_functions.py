"""pool/functions.py: the bytes of functions, made once and anew."""

from __future__ import annotations

import functools
import importlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allcores.pool import functions
from allcores.pool.functions import CHEAP_BYTES, REST, Functions
from allcores.transport import pickling


class ByBytes:
    """What is needed of a backend whose workers are elsewhere."""

    needs_bytes = True

    def pack_for_all(self, value: object) -> bytes:
        return pickling.dumps(value)


class Clock:
    """Each reading of it is `step_ns` after the last."""

    def __init__(self) -> None:
        self.now_ns, self.step_ns = 0, 1

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(functions, "monotonic_ns", clock)
    return clock


def made(size: int = 0) -> tuple[Functions, random.Random, Any]:
    """Functions of a pool, what cannot be looked at, and a function that refers to it and to so many bytes."""
    dice, data = random.Random(1), bytes(size)
    backend: Any = ByBytes()
    return Functions(backend), dice, lambda number: dice.random() < len(data)


def test_what_is_as_it_was_is_not_sent_again() -> None:
    """It is pickled to know, and has the number that workers know."""
    known, dice, function = made()
    first = known.named(function, "one")
    assert known.named(function, "one") is first
    dice.random()
    second = known.named(function, "one")
    assert second is not first and second.number != first.number
    assert known.named(function, "one") is second


def test_a_value_in_the_place_of_an_equal_one_is_not_sent_again() -> None:
    words = [["a"]]
    backend: Any = ByBytes()
    known, function = Functions(backend), lambda: words
    first = known.named(function, "one")
    words[0] = ["a"]
    assert known.named(function, "one") is first
    words[0].append("b")
    assert known.named(function, "one") is not first


def test_calls_take_a_part_of_the_time_to_look(clock: Clock) -> None:
    """What takes long to be pickled is not pickled for each of many calls; for each map it is."""
    known, dice, function = made(2 * CHEAP_BYTES)
    clock.step_ns = 1000
    first = known.named(function, "call")
    dice.random()
    clock.step_ns = 0
    assert known.named(function, "call") is first
    clock.now_ns += REST * 1000
    second = known.named(function, "call")
    assert second is not first
    before = known.named(function, "one")
    dice.random()
    assert known.named(function, "one") is not before


def test_calls_look_each_time_where_that_is_cheap(clock: Clock) -> None:
    known, dice, function = made()
    clock.step_ns = 1000
    first = known.named(function, "call")
    dice.random()
    assert known.named(function, "call") is not first


def _long() -> tuple[Any, Callable[[], None]]:
    numbers = [0] * 5_000
    return numbers, lambda: numbers.__setitem__(3_000, 1)


def _many() -> tuple[Any, Callable[[], None]]:
    rows = [{"a": 0} for _ in range(500)]
    return rows, lambda: rows[300].update(a=1)


def _deep() -> tuple[Any, Callable[[], None]]:
    innermost: list[Any] = []
    nested: list[Any] = innermost
    for _ in range(10):
        nested = [nested]
    return nested, lambda: innermost.append(1)


def _table() -> tuple[Any, Callable[[], None]]:
    table = {str(number): 0 for number in range(5_000)}
    return table, lambda: table.update({"3000": 1})


def _functions() -> tuple[Any, Callable[[], None]]:
    factor = 1

    def times(number: int) -> int:
        return factor * number

    def change() -> None:
        nonlocal factor
        factor = 2

    return {"a": {"b": times}}, change


@pytest.mark.parametrize("made_of", [_long, _many, _deep, _table, _functions])
@pytest.mark.parametrize("style", ["one", "call"])
def test_what_is_too_large_to_be_looked_at_is_pickled_to_know(
    made_of: Callable[[], tuple[Any, Callable[[], None]]], style: str, clock: Clock
) -> None:
    """It had the state of the first map for ever."""
    value, change = made_of()
    backend: Any = ByBytes()
    known, function = Functions(backend), lambda number: value
    clock.step_ns = 1000
    first = known.named(function, style)
    assert known.named(function, style) is first
    change()
    second = known.named(function, style)
    assert second is not first
    assert known.named(function, style) is second


def test_a_function_of_a_module_that_was_loaded_anew_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in each pool, for those that had workers before; others are left alone."""
    (tmp_path / "allcores_tests_edited.py").write_text("def work(number): return number\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module: Any = importlib.import_module("allcores_tests_edited")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    known, _, _ = made()
    known.named(module.work, "one")
    importlib.reload(module)
    known.named(len, "one")
    with pytest.warns(RuntimeWarning, match="module allcores_tests_edited was loaded anew") as caught:
        known.named(functools.partial(module.work, 1), "call")
        known.named(module.work, "one")
    assert len(caught) == 1
    later, _, _ = made()
    later.named(module.work, "one")
