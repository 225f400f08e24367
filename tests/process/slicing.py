"""Functions that look at their own worker while it has a slice, and a file that is bad to its readers."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

from tests.process.waiting import ring, wait_at

from allcores.slices.source import SlicedFile, Stamp


def touch_ends(array: Any) -> int:
    """The first and the last number; nothing between them is read."""
    return int(array[0]) + int(array[-1])


def sum_and_pid(array: Any) -> tuple[int, int]:
    return int(array.sum()), os.getpid()


def mapped_bytes(array: Any) -> int:
    """Reads all of it; bytes of files that this process then has in memory by mapping them."""
    array.sum()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[2]) * os.sysconf("SC_PAGE_SIZE")


def open_descriptors(thing: Any) -> int:
    len(thing)
    return len(os.listdir("/proc/self/fd"))


def truncate_and_touch(array: Any) -> int:
    """Cuts the file off that the array is mapped from, if it is the third one, and then reads it."""
    if array[0] == 2:
        os.truncate("/proc/self/fd/" + _descriptor_of("victim"), 0)
    return int(array.sum())


def _descriptor_of(name: str) -> str:
    folder = "/proc/self/fd"
    return next(fd for fd in os.listdir(folder) if os.path.basename(os.readlink(f"{folder}/{fd}")) == name)


def divide(array: Any) -> float:
    return 1 / (len(array) - 10)


def itself(thing: Any) -> Any:
    return thing


@dataclass(frozen=True, slots=True)
class HardToRead(SlicedFile):
    """Reading slice 2 hangs at a gate, kills its reader, or exits; a format of somebody else's making."""

    stamp: Stamp
    way: str
    bell: str = ""
    gate: str = ""

    def open(self) -> Any:
        return open(self.stamp.path, "rb")

    def read(self, handle: Any, start: int, stop: int) -> int:
        if start == 2:
            if self.way == "hang":
                ring(self.bell)
                wait_at(self.gate)
            elif self.way == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise SystemExit(3)
        return start
