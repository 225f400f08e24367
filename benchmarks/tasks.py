"""The functions that workers call. At module level, so that every peer can pickle them by name."""

from __future__ import annotations

import hashlib
import os
import signal
import struct
import time
from collections.abc import Callable
from typing import Any


def add_one(x: int) -> int:
    """The least a task can do."""
    return x + 1


def spin_for(us: int) -> None:
    """Keep a core for so many µs."""
    until = time.perf_counter_ns() + us * 1000
    while time.perf_counter_ns() < until:
        pass


def count_primes(limit: int) -> int:
    """Number of primes below `limit`, by trial division."""
    found = 0
    for candidate in range(2, limit):
        divisor = 2
        while divisor * divisor <= candidate:
            if candidate % divisor == 0:
                break
            divisor += 1
        else:
            found += 1
    return found


def hash_item(number: int) -> str:
    """SHA-256 of the number's text, 200 times over: some 100 µs."""
    digest = str(number).encode()
    for _ in range(200):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


def spin(steps: int) -> int:
    """`steps` turns of an empty loop.

    Counted, not timed: a loop that ends by the clock would not notice that somebody else (say, the
    parent) had taken its core meanwhile.
    """
    total = 0
    for step in range(steps):
        total += step & 1
    return total


def cpu_seconds(fn: Callable[[int], object], item: int) -> float:
    """Seconds of processor time that `fn(item)` takes."""
    before = time.thread_time()
    fn(item)
    return time.thread_time() - before


def array_plus_one(array: Any) -> Any:
    """A new array."""
    return array + 1.0


def array_sum(array: Any) -> int:
    """Of an array of ones, how many one number in 512 is: a look at each page."""
    return int(array[::512].sum())


def array_itself(array: Any) -> Any:
    """What came."""
    return array


def nap(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def first_is_slow(x: int) -> int:
    """x + 1, but the first item of a stream takes two seconds."""
    if x == 0:
        time.sleep(2.0)
    return x + 1


def die_and_tell(path: str) -> None:
    """Write the time (CLOCK_MONOTONIC, ns) to `path` and end this worker at once."""
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, struct.pack("=q", time.monotonic_ns()), 0)
    os.kill(os.getpid(), signal.SIGKILL)
