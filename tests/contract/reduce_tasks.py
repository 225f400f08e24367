"""Functions and ways to merge, for the tests of reduce. Workers import this module, so it is light."""

from __future__ import annotations

import copy
import os
import signal
import time
from collections import Counter
from typing import Any

from tests.process.waiting import lines, note


def letters(word: str) -> Counter[str]:
    return Counter(word)


def one(number: int) -> list[int]:
    return [number]


def one_unless_seven(number: int) -> list[int]:
    if number % 10 == 7:
        raise ValueError(f"no {number}")
    return [number]


def ones_unless_seven(numbers: list[int]) -> list[list[int]]:
    return [one_unless_seven(number) for number in numbers]


def too_few(numbers: list[int]) -> list[list[int]]:
    return [[number] for number in numbers[1:]]


def times(number: int, factor: int = 1) -> int:
    return number * factor


def one_unless_rare(number: int) -> list[int]:
    """A few of very many fail."""
    if number % 997 == 5:
        raise ValueError(f"no {number}")
    return [number]


def one_at_third_try(job: tuple[str, int]) -> list[int]:
    """Every fifth item fails twice."""
    path, number = job
    if number % 5 == 0:
        note(f"{path}-{number}", "try")
        if len(lines(f"{path}-{number}")) < 3:
            raise ValueError(f"not yet {number}")
    return [number]


def one_unless_killed(job: tuple[str, int]) -> list[int]:
    """Every fortieth item kills its worker, the first time."""
    path, number = job
    if number % 40 == 13 and not os.path.exists(f"{path}-{number}"):
        note(f"{path}-{number}", "killed")
        os.kill(os.getpid(), signal.SIGKILL)
    return [number]


def one_or_hang(number: int) -> list[int]:
    if number == 30:
        time.sleep(600)
    return [number]


def concat(left: list[int], right: list[int]) -> list[int]:
    return left + right


def extend(left: list[int], right: list[int]) -> list[int]:
    """Changes the left one."""
    left.extend(right)
    return left


def forget(left: list[int], right: list[int]) -> Any:
    left.extend(right)


def refuse(left: list[int], right: list[int]) -> list[int]:
    raise RuntimeError("these do not go together")


def unpicklable(number: int) -> Any:
    return lambda: number


class Unsendable:
    """Refuses to be pickled, in one of several ways, or to be read."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        if self.how == "unread":
            return fail_to_load, ()
        raise SystemExit(3) if self.how == "exit" else RuntimeError("not me")


def fail_to_load() -> None:
    raise LookupError("cannot be read")


def one_or_unsendable(number: int, how: str = "") -> Any:
    (value,) = ones_or_unsendable([number], how)
    return value


def noted_ones(numbers: list[int], path: str) -> list[list[int]]:
    """Writes down with what it was called."""
    note(path, " ".join(map(str, numbers)))
    return [[number] for number in numbers]


def unsendable(left: Any, right: Any) -> Any:
    """Merges into what cannot be pickled."""
    return Unsendable("refused")


def ones_or_unsendable(numbers: list[int], how: str = "") -> Any:
    """Every tenth value, from the sixth on, cannot be sent."""
    return [[Unsendable(how)] if number % 10 == 5 else [number] for number in numbers]


def keep_left(left: Any, right: Any) -> Any:
    return left


def table(number: int) -> Counter[int]:
    """Some 20 KB, pickled."""
    return Counter(dict.fromkeys(range(5000), number))


def fresh_array(number: int) -> Any:
    """400 KB."""
    import numpy as np

    if number % 20 == 13:
        raise ValueError("thirteen")
    return np.full(50_000, float(number))


_filled: list[Any] = []


def array_filled_again(number: int) -> Any:
    """The same array each time."""
    made = fresh_array(number)
    if not _filled:
        _filled.append(made)
    _filled[0][:] = made
    return _filled[0]


def array_and_count(number: int) -> Any:
    return fresh_array(number), 1


def added(left: Any, right: Any) -> Any:
    return left + right


def added_in_parts(left: Any, right: Any) -> Any:
    return left[0] + right[0], left[1] + right[1]


class Each:
    """A function of batches: of those that it gives several of, no two are one object."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def __call__(self, numbers: list[int]) -> list[Any]:
        if len(numbers) == 1:
            return [self.fn(numbers[0])]
        return [copy.deepcopy(self.fn(number)) for number in numbers]


ARRAYS = {
    "fresh": (fresh_array, added),
    "filled again": (array_filled_again, added),
    "parts": (array_and_count, added_in_parts),
}
