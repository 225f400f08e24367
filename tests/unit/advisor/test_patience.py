"""An input that gives nothing is not waited for without end."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from allcores.advisor.measuring.patience import Patience, TooLong
from allcores.advisor.measuring.sample import Sample
from allcores.cli import measured
from allcores.cli.exits import CommandError
from allcores.errors import UsageError


@pytest.fixture(autouse=True)
def no_timer() -> Iterator[None]:
    """That of the test run itself would be the program's."""
    seconds, again = signal.setitimer(signal.ITIMER_REAL, 0.0)
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, seconds, again)


def blocking(count: int) -> Iterator[int]:
    yield from range(count)
    threading.Event().wait()


def test_an_input_that_gives_nothing_is_told_of() -> None:
    with pytest.raises(UsageError, match=r"the input gave no item for 0\.01 s, half of the budget"):
        Sample(blocking(0), patience_s=0.01)
    with pytest.raises(CommandError, match=r"the input gave no item for 0\.01 s"):
        measured._read(blocking(0), Patience(0.01))


def test_what_came_before_it_fell_silent_is_measured() -> None:
    found = Sample(blocking(3), patience_s=0.01)
    assert (found.count, found.whole) == (3, False)
    assert measured._read(blocking(3), Patience(0.01)) == ([0, 1, 2], False, None)


def test_a_silent_pipe_is_read_no_longer() -> None:
    read, write = os.pipe()
    with open(read) as lines, pytest.raises(TooLong), Patience(0.01) as patience:
        list(patience.of(lines))
    os.close(write)


@pytest.mark.parametrize("seconds", [60.0, math.inf])
def test_nothing_of_the_timer_is_left(seconds: float) -> None:
    with Patience(seconds) as patience:
        assert list(patience.of(iter([1, 2]))) == [1, 2]
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_timer_of_the_program_stays_its_own() -> None:
    def handler(number: int, frame: Any) -> None:
        """It is the program's."""

    signal.signal(signal.SIGALRM, handler)
    with Patience(0.001):
        assert signal.getsignal(signal.SIGALRM) is handler
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
