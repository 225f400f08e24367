"""Calls in this process: whatever a function raises, no thread is left behind, and none waits for one that ended."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest

from allcores.advisor.measuring import in_worker, loops, trials
from allcores.advisor.measuring.calls import Calls
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.tuning.pools import run_loop


def exits(number: int) -> int:
    """Ends its program for each third item, as argparse does where arguments are wrong."""
    if number % 3 == 0:
        sys.exit(2)
    return number


class Ended(BaseException):
    """No Exception, as Ctrl-C is none."""


def ends(number: int) -> int:
    raise Ended


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda: loops.call_all(exits, range(6)), 2),
        (lambda: loops.loop(exits, range(6)).failed, 2),
        (lambda: loops.each(exits, range(6))[0].failed, 2),
        (lambda: run_loop(exits, range(6), 60.0)[0], 4),
        (lambda: in_worker.first_calls(exits, 3, True)["error"], "SystemExit: 2"),
        (lambda: in_worker.warm(exits, 3), None),
        (lambda: in_worker.warm(int, "no number"), None),
    ],
)
def test_a_function_that_exits_has_failed(run: Callable[[], Any], expected: Any) -> None:
    assert run() == expected


@pytest.mark.parametrize(
    "run",
    [
        lambda: trials.of_threads(calls_of(ends), 2, False),
        lambda: loops.lateness(ends, range(6)),
    ],
)
def test_what_ends_a_measurement_ends_its_threads(run: Callable[[], Any]) -> None:
    with pytest.raises(Ended):
        run()
    assert not threads_left()


def calls_of(fn: Callable[[int], Any], count: int = 100, item_s: float = 1e-4) -> Calls:
    calls = Calls(fn, Sample(range(count)), perf_counter(), 20.0)
    calls.item_s = item_s
    return calls


class Clock:
    """Passes only while the function is called."""

    def __init__(self) -> None:
        self.now = 0.0

    def take(self, seconds: float) -> float:
        self.now += seconds
        return seconds


def test_items_that_take_far_longer_than_the_first_ones_are_not_all_called(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(loops, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(loops, "process_time", lambda: clock.now)
    total, times = loops.each(clock.take, [0.25, 0.25, 8.0, 8.0, 8.0], most_s=1.0)
    assert times == [0.25, 0.25, 8.0]
    assert total.wall_s == 8.5


def test_threads_that_exit_for_some_items_are_tried_all_the_same() -> None:
    assert trials.of_threads(calls_of(exits), 2, False) is not None
    assert trials.of_threads(calls_of(exits), 2, True) is not None


def test_what_fails_in_threads_alone_has_no_trial() -> None:
    """It cannot be called by several at a time."""
    main = threading.get_ident()

    def here_alone(number: int) -> int:
        if threading.get_ident() != main:
            raise RuntimeError("in another thread")
        return number

    assert trials.of_threads(calls_of(here_alone), 2, False) is None
    assert not threads_left()


@pytest.mark.parametrize(("count", "expected"), [(99, 96), (64, 64), (31, None)])
def test_each_thread_has_as_many_items_as_the_others(count: int, expected: int | None) -> None:
    """99 items in 32 threads would have three of them work while 29 wait, which `last_round` counts once more."""
    trial = trials.of_threads(calls_of(abs, count, 0.01), 32, True)
    assert (trial and trial.items) == expected


def test_pairs_with_threads_are_as_many_as_the_time_allows() -> None:
    """Each begins with a call in each thread, which is in no pair."""
    calls = calls_of(abs)
    assert trials.of_threads(calls, 2, False) is not None
    called = sum(calls.sample.calls.values())
    assert called == 2 + 2 * trials.PAIRS * 100
    assert trials.of_threads(calls_of(abs, item_s=10.0), 2, False) is None


def arrays(number: int) -> int:
    """Large objects made anew, whose pages the kernel has to find in a loop of the main thread."""
    return len(bytes(4_000_000 + number))


def test_the_page_faults_that_threads_are_spared_are_seconds_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are if the threads meet none, and none if they meet as many."""
    monkeypatch.setattr(loops, "page_faults", lambda: 0)
    spared = trials.of_threads(calls_of(arrays), 2, False)
    counts = itertools.count(0, 1_000_000_000)
    monkeypatch.setattr(loops, "page_faults", lambda: next(counts))
    same = trials.of_threads(calls_of(arrays), 2, False)
    assert spared is not None and same is not None
    assert same.spared_s == 0
    loop = loops.loop(arrays, range(100))
    assert loop.faults == 0 or loop.system_s == 0 or spared.spared_s > 0


def threads_left() -> list[str]:
    """Names of the measurement's threads that do not end."""
    found = [each for each in threading.enumerate() if each.name.startswith("allcores-")]
    for each in found:
        each.join(30)
    return [each.name for each in found if each.is_alive()]
