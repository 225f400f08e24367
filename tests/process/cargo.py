"""Tasks with large arguments and results. Workers import this module, so it is light until numpy is needed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.process.waiting import ring, wait_at

from allcores import failpoints
from allcores.worker.chunk_runner import SEAL_NS

#: what a task keeps although it should not
kept: list[Any] = []


@dataclass
class Box:
    """An array inside of something."""

    name: str
    content: Any


def same(value: Any) -> Any:
    return value


def first(array: Any) -> float:
    return float(array[0])


def total(array: Any) -> float:
    return float(array.sum())


def spoil(array: Any) -> float:
    """Returns what it found, and leaves something else."""
    found = float(array[0])
    array[:] = -1.0
    return found


def make(number: int) -> Any:
    import numpy as np

    return np.full(131_072, float(number))


def make_or_wait(job: Any) -> Any:
    if isinstance(job, str):
        wait_at(job)
        return "waited"
    # Worth being sealed at once, however quick the machine is.
    until = time.monotonic_ns() + 2 * SEAL_NS
    while time.monotonic_ns() < until:
        pass
    return make(job)


def look_later(job: Any) -> None:
    """Forks a process that looks at the array once the gate is open."""
    array, bell, gate = job
    if not os.fork():
        wait_at(gate)
        ring(bell, f"{array.min()} {array.max()}")
        os._exit(0)


def keep(array: Any) -> int:
    kept.append(array)
    return len(kept)


def look_at_kept(_: Any) -> list[tuple[float, float]]:
    return [(float(array.min()), float(array.max())) for array in kept]


def fill(part: Any) -> int:
    part[...] = os.getpid()
    return os.getpid()


def fill_none(part: Any) -> None:
    raise ValueError("not in sequence")


def bump(counter: Any) -> None:
    for _ in range(100):
        counter.add()


def die_with_the_lock(counter: Any) -> None:
    with counter._locked():
        os.kill(os.getpid(), signal.SIGKILL)


def die_if(array: Any) -> float:
    if array[0] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(array[0])


class DiesWhilePickled:
    """Its array is in a block already when its process ends."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __reduce__(self) -> Any:
        return DiesWhilePickled, (self.array, Trap())


class Trap:
    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def return_and_die(array: Any) -> Any:
    return DiesWhilePickled(array) if array[0] == 3 else float(array[0])


class RefusesToLoad:
    """Fails where its array is already viewed."""

    def __init__(self, array: Any, at_home: int) -> None:
        if os.getpid() == at_home:
            raise ValueError("not here")
        self.array = array
        self.at_home = at_home

    def __reduce__(self) -> Any:
        return RefusesToLoad, (self.array, self.at_home)


def return_what_refuses(job: Any) -> Any:
    array, at_home = job
    return RefusesToLoad(array, at_home) if array[0] == 3 else float(array[0])


def spoil_state(state: Any, _: Any) -> float:
    return spoil(state)


def die_with_state(state: Any, _: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str, flag: str) -> None:
    """As setup: the first worker that comes to `point` for the second time is killed there."""
    failpoints.install(killing(point, flag))


def killing(point: str, flag: str) -> Callable[[str], None]:
    """A hook for the moments of a transfer."""
    seen = 0

    def hook(name: str) -> None:
        nonlocal seen
        seen += name == point
        if seen == 2 and name == point:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def note_moments(path: str) -> None:
    """As setup: writes each moment into a file."""

    def hook(name: str) -> None:
        with open(path, "a") as file:
            file.write(f"{name}\n")

    failpoints.install(hook)
