"""Functions whose results are kept in a cache; each writes down what it computes."""

from __future__ import annotations

import os
from typing import Any


def note(path: str, text: object) -> None:
    """One line, in one write: several processes do so at the same time."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


class Noted:
    """Writes to `path` what is computed: in the key of each function that has it."""

    def __init__(self, path: str) -> None:
        self.path = path


class Double(Noted):
    def __call__(self, number: int) -> int:
        note(self.path, number)
        return number * 2


class Doubles(Noted):
    """Of batches."""

    def __call__(self, numbers: list[int]) -> list[int]:
        note(self.path, len(numbers))
        if 13 in numbers:
            raise ValueError("no 13")
        return [number * 2 for number in numbers]


class Add(Noted):
    def __call__(self, left: int, right: int, more: int = 0) -> int:
        note(self.path, (left, right))
        return left + right + more


class Adds(Noted):
    """Of batches."""

    def __call__(self, left: list[int], right: list[int]) -> list[int]:
        note(self.path, len(left))
        return [a + b for a, b in zip(left, right, strict=True)]


class Refuse(Noted):
    """Raises for what is odd."""

    def __call__(self, number: int) -> int:
        note(self.path, number)
        if number % 2:
            raise ValueError(f"no {number}")
        return number


class Prefix(Noted):
    """With what was loaded."""

    def __call__(self, loaded: str, number: int) -> str:
        note(self.path, number)
        return f"{loaded} {number}"


class Total(Noted):
    """Of an array; what it gives is an array as well."""

    def __call__(self, values: Any) -> Any:
        note(self.path, values.shape)
        import numpy as np

        return np.array([values.sum(), values.size])


class Generate(Noted):
    """Cannot be pickled, what it returns."""

    def __call__(self, number: int) -> Any:
        note(self.path, number)
        return (each for each in range(number))


def load() -> str:
    return "loaded"
