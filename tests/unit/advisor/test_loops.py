"""Calls in this process: whatever a function raises, no thread is left behind, and none waits for one that ended."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from allcores.advisor.measuring import in_worker, loops
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
        (lambda: loops.in_threads(exits, range(6), 2, 1)[1], 2),
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
        lambda: loops.in_threads(ends, range(6), 2, 1),
        lambda: loops.in_threads(ends, range(6), 2, 0),
        lambda: loops.lateness(ends, range(6)),
    ],
)
def test_what_ends_a_measurement_ends_its_threads(run: Callable[[], Any]) -> None:
    with pytest.raises(Ended):
        run()
    assert not threads_left()


def test_a_thread_that_cannot_be_started_leaves_none_that_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_one(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    with pytest.raises(RuntimeError, match="can't start"):
        loops.in_threads(abs, range(6), 2)
    assert started and not threads_left()


def threads_left() -> list[str]:
    """Names of the measurement's threads that do not end."""
    found = [each for each in threading.enumerate() if each.name in ("allcores-ticker", "allcores-trial")]
    for each in found:
        each.join(30)
    return [each.name for each in found if each.is_alive()]
