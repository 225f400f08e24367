"""Ctrl-C in the middle of `map`: what runs is finished, wherever in the program's own work it comes."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from functools import partial

import pytest
from tests.process.interrupting import Interrupting, leading, python_handler

from allcores import Interrupted, Pool
from allcores.pool import result_stream


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
            with pytest.raises(Interrupted) as raised:
                sys.settrace(interrupting)
                pool.map(partial(begin, started), range(20_000), chunk=16)
            sys.settrace(None)
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
            with pytest.raises(Interrupted) as raised:
                sys.settrace(interrupting)
                pool.map(partial(begin, started), range(20_000), chunk=16)
            sys.settrace(None)
            assert raised.value.done == list(range(len(raised.value.done)))
            assert set(raised.value.done) <= set(started)
        assert pool.map(abs, [-1]) == [1]
