"""Functions for the behaviour suite. Workers import this module, so it is light."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from tests.process.waiting import lines, note, ring, wait_at


class Outer:
    """Has a category of warnings."""

    class Inner(UserWarning):
        """Named by way of the class that it is in."""


def double(number: int) -> int:
    return number * 2


def add(first: int, second: int) -> int:
    return first + second


def describe_call(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def refuse_sevens(number: int) -> int:
    if number % 10 == 7:
        raise ValueError(f"no {number}")
    return number


class Breaking:
    """Its unpickling raises an exception of a type."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return raise_now, (self.kind,)


def raise_now(kind: type[BaseException]) -> None:
    raise kind("broken")


def breaking_for(kind: Any) -> Breaking | None:
    return None if kind is None else Breaking(kind)


def stop_iteration(number: int) -> int:
    if number == 3:
        raise StopIteration(number)
    return number


def end_process(code: int) -> None:
    """`os._exit` itself cannot be sent where coverage.py has put a closure in its place."""
    os._exit(code)


def exit_politely(number: int) -> int:
    if number == 3:
        raise SystemExit(4)
    return number


def interrupt(number: int) -> int:
    if number == 3:
        raise KeyboardInterrupt
    return number


def leave_generator(number: int) -> int:
    if number == 3:
        raise GeneratorExit
    return number


def stop_async_iteration(number: int) -> int:
    if number == 3:
        raise StopAsyncIteration
    return number


class Overdrawn(Exception):
    """An exception with a constructor of its own and with facts, which still pickles."""

    def __init__(self, breakdown: str, cents: int) -> None:
        super().__init__(breakdown, cents)
        self.breakdown = breakdown
        self.cents = cents


def overdraw(number: int) -> int:
    raise Overdrawn("savings", number)


def fail_until_third_try(job: tuple[str, int]) -> int:
    """Fails twice for each item; the tries are noted in a file."""
    path, number = job
    note(f"{path}-{number}", "try")
    if len(lines(f"{path}-{number}")) < 3:
        raise ValueError(f"not yet {number}")
    return number


def fail_by_kind(job: tuple[str, str]) -> str:
    """Each try is noted; the item says what to raise."""
    path, kind = job
    note(f"{path}-{kind}", "try")
    raise {"value": ValueError, "key": KeyError, "system": OSError}[kind](kind)


def wait_for_later_item(job: tuple[str, str, int]) -> int:
    """The first item lasts until item 40 has been run; the others take no time."""
    _bell, gate, number = job
    if number == 0:
        with open(gate, "rb") as pipe:
            pipe.read(1)
    elif number == 40:
        with open(gate, "wb") as pipe:
            pipe.write(b"!")
    return number


def hold(job: tuple[str, str]) -> int:
    """Rings, then waits at the gate; who ran it is the result."""
    bell, gate = job
    ring(bell)
    wait_at(gate)
    return os.getpid()


def swap_meeting(paths: tuple[str, str]) -> bool:
    """Two of these end only if they run at the same time: each opens one end of a pipe."""
    path, mode = paths
    with open(path, mode):
        return True


# --- state ---


def open_breakdown(start: int = 100, path: str | None = None) -> dict[str, Any]:
    if path is not None:
        note(path, "opened")
    return {"balance": start, "thread": threading.get_ident(), "path": path}


def pay_in(breakdown: dict[str, Any], amount: int) -> dict[str, Any]:
    return {**breakdown, "balance": breakdown["balance"] + amount}


def look_at(breakdown: dict[str, Any]) -> None:
    assert breakdown["balance"]


def close_breakdown(breakdown: dict[str, Any]) -> None:
    note(breakdown["path"], "closed")


def balance_plus(breakdown: dict[str, Any], amount: int) -> int:
    return int(breakdown["balance"] + amount)


def balance_plus_two(breakdown: dict[str, Any], first: int, second: int) -> int:
    return int(breakdown["balance"] + first + second)


def falsy_state() -> int:
    return 0


def no_state() -> None:
    return None


def touch(path: str) -> None:
    note(path, "set up")


# --- callables of all sorts ---


class Scale:
    """Has a method, is callable, and is callable as a class."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, number: int) -> int:
        return self.factor * number

    def times(self, number: int) -> int:
        return self.factor * number

    @classmethod
    def tripled(cls, number: int) -> int:
        return cls(3)(number)

    @staticmethod
    def doubled(number: int) -> int:
        return 2 * number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scale) and other.factor == self.factor

    __hash__ = None  # type: ignore[assignment]


# --- pools inside of tasks ---


def sum_by_pool(job: tuple[str, int]) -> int:
    """A nested pool, of another kind or the same."""
    import allcores

    backend, count = job
    with allcores.Pool(2, backend=backend) as pool:
        return sum(pool.imap(double, range(count)))


def sum_by_shared_pool(count: int) -> int:
    import allcores

    return sum(allcores.map(double, range(count)))


def speak(number: int) -> int:
    logging.getLogger("contract.part").info("item %d", number)
    logging.getLogger("contract.part").debug("too quiet")
    return number


def speak_and_wait(job: tuple[str, str]) -> int:
    logging.getLogger("contract.part").info("item of %s", job[1])
    return hold(job)
