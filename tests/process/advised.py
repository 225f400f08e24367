"""Functions whose kind is known, for the advisor."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.process.waiting import ring, wait_at

LARGE = b"x" * (1 << 20)
#: of `hold`
HELD_BYTES = 40 << 20
#: of `briefly`
BRIEFLY_S = 10e-6


def loop(number: int) -> int:
    """Bytecode: holds the interpreter's lock."""
    total = 0
    for each in range(20_000):
        total += each * number
    return total


def square(number: int) -> int:
    """Far too little work."""
    return number * number


def wait(number: int, seconds: float = 0.02) -> int:
    """Waits, and computes nothing."""
    time.sleep(seconds)
    return number


def wait_long(number: int) -> int:
    """Waits so long that it is little to come to a core late, which the busiest machine does."""
    return wait(number, 0.05)


def digest(number: int) -> str:
    """Computes without the interpreter's lock."""
    return hashlib.sha256(LARGE).hexdigest() + str(number)


def first_is_slow(number: int) -> int:
    """Loads something with its first call."""
    global _loaded
    if _loaded is None:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        _loaded = number
    return loop(number)


_loaded: int | None = None


def compute(seconds: float) -> float:
    """Computes for as long as its item says."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds


def briefly(number: int) -> int:
    """Computes for some microseconds."""
    end = time.process_time() + BRIEFLY_S
    while time.process_time() < end:
        pass
    return number


def count_up(number: int) -> int:
    """Takes longer the larger its item is, and nothing for 0."""
    return sum(range(200 * number))


@functools.cache
def known(number: int) -> int:
    """Keeps its results."""
    return loop(number)


def raise_price(row: dict[str, Any]) -> dict[str, Any]:
    """Changes its item, and returns that."""
    row["price"] *= 1.2 + loop(1) / 1e12
    return row


def take_text(row: dict[str, Any]) -> list[str]:
    """Takes something out of its item, and so cannot be called with it again."""
    words: list[str] = row.pop("text").split()
    return words * (loop(1) > 0)


def lock_away(pair: list[Any]) -> int:
    """Changes an item that can be neither sent nor copied."""
    pair[1] = 1
    return loop(1)


async def fetch(item: Any) -> Any:
    """Computes when it is awaited."""
    return item


def rows(item: Any) -> Iterator[Any]:
    """Computes when it is asked for the next one."""
    yield item


def long_list(number: int) -> list[int]:
    """A result that takes longer to bring back than to make."""
    return list(range(number, number + 20_000))


def with_common(pair: tuple[bytes, int]) -> int:
    """Something large is in every item."""
    return loop(pair[1]) + len(pair[0])


def hold(number: int) -> int:
    """Takes memory for as long as it computes, and gives it back."""
    held = bytearray(LARGE) * (HELD_BYTES >> 20)
    return hashlib.sha256(held).digest()[0] + number


def hold_there(bell: str, gate: str) -> int:
    """Takes as much, and holds it until a gate is open."""
    held = bytearray(LARGE) * (HELD_BYTES >> 20)
    ring(bell)
    wait_at(gate)
    return len(held)


def draw(number: int) -> float:
    """Random, and unseeded."""
    return loop(number) + random.random()


def with_lock(pair: tuple[Any, int]) -> int:
    """Items that cannot travel."""
    return loop(pair[1])


def append(line: str) -> int:
    """Notes each call in a file."""
    path, _, number = line.rpartition(" ")
    with open(path, "a") as file:
        file.write(number + "\n")
    return loop(int(number))


def fail(number: int) -> int:
    """Raises for every item."""
    raise ValueError(f"no {number}")


def end(number: int) -> int:
    """Ends its process."""
    os._exit(3)


def hang(number: int) -> int:
    """Never comes back."""
    threading.Event().wait()
    return number


def _imported_for_ever() -> ImportedForEver:
    threading.Event().wait()
    return ImportedForEver()


class ImportedForEver:
    """A function whose unpickling, as the import of a large module, does not end in time."""

    def __reduce__(self) -> tuple[Callable[[], ImportedForEver], tuple[()]]:
        return _imported_for_ever, ()

    def __call__(self, number: int) -> int:
        return number


def items_of(path: Path, count: int) -> list[str]:
    """Items for `append`."""
    return [f"{path} {number}" for number in range(count)]
