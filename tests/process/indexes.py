"""Classes whose objects live in actors. Workers import this module."""

from __future__ import annotations

import os
import signal
import threading
from types import TracebackType
from typing import Any

from tests.process.waiting import PATIENCE_S, note, ring, wait_at


class Refused(Exception):
    def __init__(self, word: str, code: int) -> None:
        super().__init__(word, code)
        self.code = code


class Index:
    """A book of words, with all that may happen to its process."""

    kinds = "words"

    def __init__(self, path: str = "", book: str = "") -> None:
        self.path = path
        self.book = book
        self.count = 0
        if book:
            note(book, "built")

    @property
    def size(self) -> int:
        return self.count

    def search(self, word: str, limit: int = 1) -> list[str]:
        self.count += 1
        return [word] * limit

    def add(self, number: int = 1) -> int:
        self.count += number
        return self.count

    def pid(self) -> int:
        return os.getpid()

    def around(self) -> tuple[str, str | None]:
        return os.getcwd(), os.environ.get("ALLCORES_AROUND")

    def note(self, word: object) -> None:
        note(self.book, str(word))

    def refuse(self, word: str) -> None:
        self.count += 1
        raise Refused(word, 7)

    def die(self, number: int = signal.SIGKILL) -> None:
        os.kill(os.getpid(), number)

    def leave(self, code: int) -> None:
        os._exit(code)

    def hang(self, bell: str = "") -> None:
        if bell:
            ring(bell, "hangs")
        threading.Event().wait()

    def wait(self, bell: str, gate: str, word: object = "") -> object:
        ring(bell, word)
        wait_at(gate)
        return word

    def echo(self, value: Any) -> Any:
        return value

    def none(self) -> None:
        return None

    def close(self) -> str:
        return "its own close"

    def _secret(self) -> None:
        raise AssertionError("it is private")


class Meeting:
    """Its calls wait for each other."""

    def __init__(self, parties: int, book: str = "") -> None:
        self.barrier = threading.Barrier(parties)
        if book:
            note(book, "built")

    def meet(self, number: int) -> int:
        self.barrier.wait(PATIENCE_S)
        return number

    def thread(self) -> str:
        return threading.current_thread().name


class Fussy:
    """Its constructor does what it is told, by a file of words: one for each time it is built."""

    def __init__(self, book: str, deeds: tuple[str, ...]) -> None:
        with open(book, "a+", encoding="utf-8") as file:
            file.seek(0)
            built = len(file.readlines())
            file.write("built\n")
        deed = deeds[min(built, len(deeds) - 1)]
        if deed == "raise":
            raise ValueError("the file is damaged")
        if deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "exit":
            os._exit(3)
        self.built = built

    def number(self) -> int:
        return self.built

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Visit:
    """A context manager that notes when it is entered and left."""

    def __init__(self, book: str) -> None:
        self.book = book

    def __enter__(self) -> Index:
        note(self.book, "entered")
        return Index("inside")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        note(self.book, "left")


class Model:
    def __init__(self, weights: list[int], factor: int) -> None:
        self.weights = weights
        self.factor = factor

    def apply(self) -> int:
        return sum(self.weights) * self.factor


def load_weights(book: str) -> list[int]:
    note(book, "loaded")
    return [1, 2, 3]


def nothing() -> None:
    return None


class Diary:
    """Notes each call before and after, in a file, so that a test can tell which were begun, and how often."""

    def __init__(self, book: str) -> None:
        self.book = book

    def enter(self, number: int) -> int:
        note(self.book, f"{number}")
        return number
