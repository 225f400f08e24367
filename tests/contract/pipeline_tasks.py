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


def wrong_at_seven(how: str, number: int) -> int:
    """Fails for one number only, in one of the ways in which a record can fail."""
    if number == 7:
        if how == "raise":
            raise ValueError("seven")
        if how == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hang":
            threading.Event().wait()
        if how == "unpicklable":
            return threading.Lock()  # type: ignore[return-value]
    return number


def fails_once(how: str, folder: str, number: int) -> int:
    """Fails the first time that it gets a number."""
    try:
        os.close(os.open(os.path.join(folder, str(number)), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return number
    if number == 7:
        wrong_at_seven(how, 7)
    return number


def noted_load(path: str) -> int:
    """Loads something, and notes that it did."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    return 1000


def noted_load_of_two(path: str) -> int:
    noted_load(path)
    return 2000


def with_pid(number: int) -> tuple[int, int]:
    return number, os.getpid()


def with_thread(number: int) -> tuple[int, int, str]:
    return number, os.getpid(), threading.current_thread().name


def broken_load() -> None:
    raise OSError("no model here")


def instead(record: Any, error: BaseException) -> tuple[Any, str]:
    return record, type(error).__name__


def instead_raises(record: Any, error: BaseException) -> Any:
    raise LookupError("no other record")


def same(value: Any) -> Any:
    return value


def make_lock(_: Any) -> Any:
    return threading.Lock()


def wrong_for_some(how: str, some: frozenset[int], number: int) -> int:
    """Fails for some numbers."""
    if number in some:
        wrong_at_seven(how, 7)
    return number


def rings_and_waits(bell: str, gate: str, number: int) -> int:
    from tests.process.waiting import ring, wait_at  # few of them need that

    ring(bell, number)
    wait_at(gate)
    return number


def waits_for_one(path: str, number: int) -> int:
    from tests.process.waiting import wait_at

    if number == 1:
        wait_at(path)
    return number


def as_record(number: int) -> dict[str, list[int]]:
    """The number in a list of a record."""
    return {"seen": [number]}


def changed(record: dict[str, list[int]]) -> dict[str, list[int]]:
    """The record itself, with one more number in it."""
    record["seen"].append(len(record["seen"]))
    return record


def all_changed(records: tuple[dict[str, list[int]], ...]) -> list[dict[str, list[int]]]:
    """All of a window, each changed."""
    return [changed(record) for record in records]
