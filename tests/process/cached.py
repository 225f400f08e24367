"""A program with a cache, for tests that kill it or take its disk away: `python -m tests.process.cached SETTINGS`.

It prints whether its results are right. Settings: backend, folder, computed (where tasks write what they compute),
first, count; kill_at (the number of the failpoint at which it is killed), file_bytes (no file may be larger),
seconds (of an item).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from typing import Any

from tests.contract.cache_tasks import note

import allcores
from allcores import failpoints


class Work:
    def __init__(self, computed: str, seconds: float) -> None:
        self.computed = computed
        self.seconds = seconds

    def __call__(self, number: int) -> str:
        note(self.computed, number)
        if self.seconds:
            time.sleep(self.seconds)
        return str(number) * 200


def killing(at: int) -> None:
    """Kill this process at the failpoint of this number."""
    passed = 0

    def reached(_: str) -> None:
        nonlocal passed
        passed += 1
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.install(reached)


def main(settings: dict[str, Any]) -> None:
    if at := settings.get("kill_at"):
        killing(at)
    if size := settings.get("file_bytes"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    cache = allcores.Cache(settings["folder"], max_bytes=settings.get("max_bytes", 1 << 30))
    work = Work(settings["computed"], settings.get("seconds", 0))
    first, count = settings.get("first", 0), settings["count"]
    with allcores.Pool(2, backend=settings["backend"]) as pool:
        found = pool.map(work, range(first, first + count), cache=cache, chunk=settings.get("chunk"))
    print("right" if found == [str(number) * 200 for number in range(first, first + count)] else found)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
