"""A program with a journalled map, for tests that kill it: python journalled.py '{"what": "it is to do"}'."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
import time
from collections import Counter
from typing import Any

import allcores
from allcores import failpoints
from allcores.runs import index

SETTINGS: dict[str, Any] = {
    "source": "in.txt",
    "sink": "out.jsonl",
    "backend": "serial",
    "pause": 0.0,
    "text": False,  # the function returns text
    "kill": None,  # [point, how often it is passed before]
    "full": None,  # the same, for a disk that is full from then on
    "file_bytes": None,  # largest size of a file
    "journal": {},
    "on_error": "skip",
    "batch": None,
}


def work(item: str) -> dict[str, int]:
    """What is computed; every 97th item is refused, unless a file called `mended` is there."""
    number = int(item)
    if PAUSE:
        time.sleep(PAUSE)
    if number % 97 == 5 and not os.path.exists("mended"):
        raise ValueError(f"{number} is refused")
    return {"n": number, "square": number * number}


def in_batches(items: list[str]) -> list[dict[str, int]]:
    """The same for many; one that is refused spoils its batch."""
    return [work(item) for item in items]


def as_text(item: str) -> str:
    """The same, for a sink that is a folder."""
    return json.dumps(work(item))


def hook_for(settings: dict[str, Any]) -> Any:
    """Kills or fills at a named moment."""
    passed: Counter[str] = Counter()

    def hook(name: str) -> None:
        passed[name] += 1
        if settings["kill"] and settings["kill"][0] == name and passed[name] > settings["kill"][1]:
            os.kill(os.getpid(), signal.SIGKILL)
        if settings["full"] and settings["full"][0] == name and passed[name] > settings["full"][1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return hook


def main() -> None:
    """One session; prints what became of it."""
    settings = SETTINGS | json.loads(sys.argv[1])
    failpoints.install(hook_for(settings))
    index.CHECKPOINT_COMMITS = 2
    if settings["file_bytes"]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (settings["file_bytes"], resource.RLIM_INFINITY))
    journal = allcores.Journal(**{"folder": "runs", "resume": True, "commit_s": 0.01} | settings["journal"])
    os.environ["PAUSE"] = str(settings["pause"])
    with allcores.Pool(2, backend=settings["backend"], limits=allcores.Limits(items_in_flight=200)) as pool:
        try:
            function = in_batches if settings["batch"] else as_text if settings["text"] else work
            result = pool.run(
                function,
                settings["source"],
                settings["sink"],
                journal=journal,
                on_error=settings["on_error"],
                batch=settings["batch"],
            )
        except allcores.AllcoresError as error:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
            sys.exit(1)
    print(json.dumps({"run": result.id, "resumed": result.resumed, "counts": dict(result.counts)}))


PAUSE = float(os.environ.get("PAUSE", "0"))
if __name__ == "__main__":
    PAUSE = float(json.loads(sys.argv[1]).get("pause", 0))
    os.environ["PAUSE"] = str(PAUSE)
    main()
