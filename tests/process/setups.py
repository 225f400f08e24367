"""Setup and teardown functions, and functions that use what a setup returned. Workers import this module."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from tests.process import crimes
from tests.process.waiting import note, ring, wait_at


def load() -> None:
    raise ValueError("the model is missing")


def raise_at_once() -> None:
    load()


def note_and_raise(book: str) -> None:
    note(book, "setup")
    load()


def wait_and_raise(bell: str, gate: str) -> None:
    ring(bell)
    wait_at(gate)
    load()


def note_and_commit(book: str, crime: str) -> None:
    note(book, "setup")
    crimes.run(crime)


def ring_and_commit(bell: str, crime: str) -> None:
    ring(bell)
    crimes.run(crime)


def spin_once(bell: str, flag: str) -> str:
    """The first worker never gets through; others do."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "state"
    ring_and_commit(bell, "spin")
    return ""


def raise_it(kind: type[BaseException]) -> None:
    raise kind("in setup")


def raise_something_odd() -> None:
    raise crimes.CannotBeBuiltAgain("spoon", "fork")


def work_once(flag: str) -> str:
    """The first worker starts, no other does."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        load()
    return "state"


def second(state: object, item: Any) -> Any:
    return item


def open_lock() -> dict[str, Any]:
    return {"lock": threading.Lock()}


def use_lock(state: dict[str, Any], item: int) -> int:
    with state["lock"]:
        return item


def note_pid(book: str) -> str:
    note(book, os.getpid())
    return book


def commit(book: str, crime: str | None) -> int:
    if crime is not None:
        crimes.run(crime)
    return os.getpid()


def note_end(book: str) -> None:
    note(book, f"end of {os.getpid()}")


def raise_in_teardown(state: object) -> None:
    raise RuntimeError("the end went wrong")


def exit_in_teardown(state: object) -> None:
    raise SystemExit(3)


def crash_in_teardown(state: object) -> None:
    crimes.segfault()


class Owner:
    """What a setup gets, and keeps no more of than a part: a view of shared memory, say."""


def look_at(owner: Owner) -> None:
    looked_at.append(weakref.ref(owner))


looked_at: list[weakref.ref[Owner]] = []


def is_owner_there(_: int) -> bool:
    return looked_at[0]() is not None
