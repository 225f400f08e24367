"""Functions for tests of the `multiprocessing` drop-in; spawned workers import them by name."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any


def square(number: int) -> int:
    return number * number


def add(left: int, right: int = 0) -> int:
    return left + right


def fail_on(bad: int, number: int) -> int:
    if number == bad:
        raise ValueError(number)
    return number


def fail_if_odd(number: int) -> int:
    if number % 2:
        raise ValueError(number)
    return number


def end_if_odd(number: int) -> int:
    """An odd one takes its process along."""
    if number % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def a_lambda(_: Any = None) -> Any:
    return lambda: 42


def process_id(_: Any = None) -> int:
    return os.getpid()


def for_ever(_: Any = None) -> None:
    time.sleep(600)


def pool_in_pool(count: int) -> list[int]:
    from allcores.compat import Pool

    with Pool(2) as pool:
        return pool.map(square, range(count))


def name_and_number(_: Any) -> tuple[str, int]:
    process: Any = multiprocessing.current_process()
    return process.name, process._identity[0]
