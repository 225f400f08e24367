"""Functions that fail in many ways, for the tests of combinations. Workers import this module, so it is light."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple


class Point(NamedTuple):
    x: int
    y: int


class Refusal(Exception):
    """It needs more than a message to be made."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.number = number
        self.reason = reason


class Unread:
    """It can be pickled and not unpickled."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return refuse_to_load, (self.number,)


def refuse_to_load(number: int) -> None:
    raise LookupError(f"cannot load {number}")


def value_of(number: int, kind: str) -> Any:
    if kind == "none":
        return None
    if kind == "text":
        return str(number) * (number % 40)
    if kind == "own":
        return Point(number, -number)
    if kind == "large":
        return number.to_bytes(4, "big") * 30_000
    if kind == "array":
        import numpy as np

        return np.arange(number % 50) + number
    return number


def work(number: int, kind: str, fault: str, folder: str, shift: int = 0) -> Any:
    """The value of a number, or what its fault brings."""
    if fault == "once":
        try:
            (Path(folder) / str(number)).touch(exist_ok=False)
        except FileExistsError:
            fault = ""
        else:
            fault = "raise"
    if fault == "raise":
        raise ValueError(number)
    if fault == "own":
        refusal = Refusal(number, "as told")
        refusal.add_note(f"told by {number}")
        raise refusal
    if fault == "exit":
        raise SystemExit(number)
    if fault == "sealed":
        return threading.Lock()
    if fault == "unread":
        return Unread(number)
    return value_of(number + shift, kind)


def work_row(row: Any, shift: int = 0) -> Any:
    number, kind, fault, folder = row
    return work(number, kind, fault, folder, shift)


def work_rows(rows: Any, shift: int = 0) -> list[Any]:
    return [work_row(row, shift) for row in rows]


def work_columns(*columns: Any, shift: int = 0) -> list[Any]:
    return [work_row(row, shift) for row in zip(*columns, strict=True)]


def list_row(row: Any, shift: int = 0) -> list[Any]:
    return [work_row(row, shift)]


def list_rows(rows: Any, shift: int = 0) -> list[list[Any]]:
    return [[work_row(row, shift)] for row in rows]


def extend(left: list[Any], right: list[Any]) -> list[Any]:
    """Changes the left one."""
    left.extend(right)
    return left
