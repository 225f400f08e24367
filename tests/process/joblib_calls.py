"""Functions that are tasks of `joblib.Parallel`."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from tests.process.waiting import PATIENCE_S


def double(x: Any) -> Any:
    return x * 2


def pid(_: object = None) -> int:
    return os.getpid()


def meet(folder: str, count: int) -> int:
    """Wait until as many processes are here."""
    Path(folder, str(os.getpid())).touch()
    until = time.monotonic() + PATIENCE_S
    while len(os.listdir(folder)) < count:
        assert time.monotonic() < until
        time.sleep(0.005)
    return os.getpid()


def die_at(x: int, bad: int) -> int:
    if x == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def leave(kind: type[BaseException]) -> None:
    raise kind(3)  # here it is left


def fail_at(x: int, bad: int) -> int:
    if x == bad:
        raise ValueError(f"no {x}")
    return x


def hang(_: object = None) -> None:
    threading.Event().wait()


def note_and_hang(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    threading.Event().wait()


def look(array: Any) -> tuple[str, bool, float]:
    return type(array).__name__, bool(array.flags.writeable), float(array.sum())


def add_one(array: Any, row: int) -> float:
    array[row] += 1
    return float(array[row])


def add_one_to_row(array: Any, row: int) -> None:
    array[row] += 1


def part(array: Any) -> Any:
    return array[2:5]


def environment(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


def warn(_: object = None) -> str:
    warnings.warn("a word", UserWarning, stacklevel=1)
    return "warned"


def settings(_: object = None) -> bool:
    import sklearn

    return bool(sklearn.get_config()["assume_finite"])


def inner(n: int, backend: str | None = None) -> list[int]:
    import joblib

    found: list[int] = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(double)(i) for i in range(n))
    return found


class DoesNotUnpickle(Exception):
    def __init__(self, one: object, other: object) -> None:
        super().__init__(one)


def raise_odd(_: object = None) -> None:
    raise DoesNotUnpickle(1, 2)


set_here: list[int] = []


def prepare(value: int) -> None:
    set_here.append(value)


def prepared(_: object = None) -> list[int]:
    return list(set_here)
