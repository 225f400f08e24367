"""Functions of batches. Workers import this module, so it is light."""

from __future__ import annotations

import array
import itertools
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from tests.process.waiting import note, ring, wait_at


def double(batch: list[int]) -> list[int]:
    assert type(batch) is list
    return [number * 2 for number in batch]


def sizes(batch: list[Any]) -> list[int]:
    """Each item's result is how many were in its call."""
    return [len(batch)] * len(batch)


def add(firsts: list[int], seconds: list[int]) -> list[int]:
    return [first + second for first, second in zip(firsts, seconds, strict=True)]


def prefix(loaded: str, batch: list[int]) -> list[str]:
    return [f"{loaded}{number}" for number in batch]


def load() -> str:
    return "loaded "


# --- what is returned ---


def as_generator(batch: list[int]) -> Iterator[int]:
    for number in batch:
        yield number * 2


def as_tuple(batch: list[int]) -> tuple[int, ...]:
    return tuple(double(batch))


def as_array(batch: list[int]) -> array.array[int]:
    return array.array("q", double(batch))


def as_map(batch: list[int]) -> map[int]:
    return map(int.__add__, batch, batch)


def one_short(batch: list[int]) -> list[int]:
    return batch[1:]


def one_more(batch: list[int]) -> list[int]:
    return [*batch, 0]


def without_end(batch: list[int]) -> Iterator[int]:
    return itertools.count()


def nothing(batch: list[int]) -> None:
    """Does not return one result per item."""


def text(batch: list[int]) -> str:
    return "x" * len(batch)


def mapping(batch: list[int]) -> dict[int, int]:
    return {number: number for number in batch}


def members(batch: list[int]) -> set[int]:
    return set(batch)


def total(batch: list[int]) -> int:
    return sum(batch)


class Table:
    """What pandas and polars have: rows, and iteration over the names of columns."""

    def __init__(self, rows: int) -> None:
        self.columns = [f"column {number}" for number in range(rows)]
        self.shape = rows, rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


def table(batch: list[int]) -> Table:
    return Table(len(batch))


# --- what fails ---


def refuse_sevens(batch: list[int]) -> list[int]:
    for number in batch:
        if number % 100 == 7:
            raise ValueError(f"no {number}")
    return batch


def refuse_midway(batch: list[int]) -> Iterator[int]:
    for number in batch:
        if number % 100 == 7:
            raise ValueError(f"no {number}")
        yield number


def refuse_together(batch: list[int]) -> list[int]:
    if len(batch) > 1:
        raise MemoryError("too many")
    return batch


def exit_at_seven(batch: list[int]) -> list[int]:
    if 7 in batch:
        raise SystemExit(3)
    return batch


def crash_at_seven(batch: list[int]) -> list[int]:
    if 7 in batch:
        os._exit(3)
    return batch


def crash_at_sevens(batch: list[int]) -> list[int]:
    if any(number % 50 == 7 for number in batch):
        os.abort()
    return batch


def hang_at_seven(batch: list[int]) -> Iterator[int]:
    """Not in the call, but while its results are asked for."""
    for number in batch:
        if number == 7:
            time.sleep(1_000)
        yield number


class Flaky:
    """Fails at an item, in its first calls with that item alone."""

    def __init__(self, path: str, item: int, times: int) -> None:
        self.path = path
        self.item = item
        self.times = times

    def __call__(self, batch: list[int]) -> list[int]:
        if batch == [self.item]:
            note(self.path, "alone")
            with open(self.path) as file:
                if len(file.readlines()) <= self.times:
                    raise ValueError("not yet")
        elif self.item in batch:
            raise ValueError("with others")
        return batch


def end_at_seven(how: str, batch: list[int]) -> list[int]:
    """Given what `setup` returned: how the process ends."""
    if 7 in batch:
        if how == "exit":
            os._exit(3)
        elif how == "abort":
            os.abort()
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


def note_batches(path: str, batch: list[int]) -> list[int]:
    """Given a file by `setup`: notes each call in it."""
    note(path, ",".join(map(str, batch)))
    return crash_at_seven(batch)


def hold_memory(batch: list[int]) -> Iterator[int]:
    """30 MB for each item, all at once."""
    held = [b"x" * 30_000_000 for _ in batch]
    time.sleep(0.2)
    yield from (len(each) for each in held)


def wait_after_the_first(path: str, batch: list[int]) -> list[int]:
    """Given a bell by `setup`: rings, and does not return, unless it has the first item."""
    if 0 not in batch:
        ring(path)
        time.sleep(1_000)
    return batch


def pass_gate(paths: tuple[str, str], batch: list[int]) -> list[int]:
    """Given a bell and a gate by `setup`: rings, and waits."""
    ring(paths[0])
    wait_at(paths[1])
    return batch


def take_a_while(batch: list[int]) -> Iterator[int]:
    """A quarter of a second each."""
    for number in batch:
        time.sleep(0.25)
        yield number


def scaled(batch: list[int], factor: int = 1, left_out: int = 0) -> list[int]:
    return [number * factor for number in batch[left_out:]]


def first_line(lines: Any) -> str:
    return str(next(iter(lines)))


def first_lines(batch: list[Any]) -> list[str]:
    return [first_line(lines) for lines in batch]
