"""Functions of pipelines, by name: workers import them from here."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any


def increment(number: int) -> int:
    return number + 1


def double(number: int) -> int:
    return number * 2


def is_even(number: int) -> bool:
    return number % 2 == 0


def is_small(number: int) -> bool:
    return number < 50


def repeated(number: int) -> list[int]:
    return [number] * (number % 3)


def counted_down(number: int) -> Iterator[int]:
    yield from range(number % 4)


def nobody(number: int) -> list[int]:
    return []


def as_text(value: object) -> str:
    return repr(value)


def remainder(number: int) -> int:
    return number % 3


def quotient(number: int) -> int:
    return number // 3


def add(state: int, number: int) -> int:
    return state + number


def weight(number: int) -> int:
    return number % 5


def squares(numbers: list[int]) -> list[int]:
    return [number * number for number in numbers]


def fails_at_seven(number: int) -> int:
    if number == 7:
        raise ValueError("seven")
    return number


def crashes_at_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def hangs_at_seven(number: int) -> int:
    if number == 7:
        threading.Event().wait()
    return number


def fails_in_the_generator(number: int) -> Iterator[int]:
    yield number
    if number == 7:
        raise ValueError("seven, in the generator")
    yield -number


def load_table(size: int) -> dict[int, int]:
    return {number: number * 10 for number in range(size)}


def load_offset() -> int:
    return 1000


def load_nothing() -> None:
    return None


def looked_up(table: dict[int, int], number: int) -> int:
    return table[number]


def moved(offset: int, number: int) -> int:
    return offset + number


def where(_: Any) -> int:
    return os.getpid()


def size_of_group(group: tuple[Any, list[Any]]) -> int:
    return len(group[1])
