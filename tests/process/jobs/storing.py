"""A program with a store of jobs, for tests that kill it: `python -m tests.process.jobs.storing SETTINGS`.

It prints each thing that it was told is committed, as a line of JSON. Settings: store, action, count; kill_at (name of
the failpoint at which it is killed, and how often it was passed before), file_bytes (no file may be larger), hold
(seconds for which the lock is held).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sqlite3
import sys
from typing import Any

from allcores import failpoints
from allcores.jobs.errors import StoreError, StoreFull
from allcores.jobs.model import Finished, State, Submission
from allcores.jobs.store import JobStore


def killing(name: str, passed: int) -> None:
    """Kill this process at a failpoint, once it was passed so often."""
    left = passed

    def reached(at: str) -> None:
        nonlocal left
        if at == name:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    failpoints.install(reached)


def tell(what: Any) -> None:
    print(json.dumps(what), flush=True)


def submit(store: JobStore, settings: dict[str, Any]) -> None:
    for i in range(settings["count"]):
        tell(store.submit("f", {"i": i, "text": "x" * settings.get("size", 10)}).job.id)


def whole_life(store: JobStore, settings: dict[str, Any]) -> None:
    """Submits, claims and finishes, two jobs at a time."""
    with store.become_supervisor():
        tell(["recovered", [job.id for job in store.recover()]])
        for i in range(settings["count"]):
            for each in store.submit_many([Submission("f", {"i": i})] * 2):
                tell(["submitted", each.job.id])
            for claim in store.claim(2, ["f"]):
                tell(["claimed", claim.job.id])
                store.report_worker(claim, os.getpid())
                if store.finish(claim, Finished(State.SUCCEEDED, result=i)):
                    tell(["finished", claim.job.id])


def supervise(store: JobStore, settings: dict[str, Any]) -> None:
    """Takes the submissions of others, until it is killed."""
    with store.become_supervisor():
        store.recover()
        tell("ready")
        sys.stdin.read()


def hold(store: JobStore, settings: dict[str, Any]) -> None:
    """Holds the lock until its input ends."""
    with contextlib.closing(sqlite3.connect(settings["store"], isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        tell("held")
        sys.stdin.read()
        db.execute("ROLLBACK")


def fill(store: JobStore, settings: dict[str, Any]) -> None:
    """Submits until no file may grow any more, and again when they may."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (settings["file_bytes"], hard))
    done = []
    try:
        for i in range(10_000):
            done.append(store.submit("f", {"i": i, "text": "x" * 5_000}).job.id)
    except StoreFull as error:
        tell(["full", str(error)])
    except StoreError as error:
        tell(["other", type(error).__name__, str(error)])
    tell(["readable", store.counts().total == len(done) and store.get(done[-1]) is not None])
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    store.submit("f", {"i": 0})
    tell(["again", store.counts().total == len(done) + 1])


ACTIONS = {each.__name__: each for each in (submit, whole_life, supervise, hold, fill)}


def main(settings: dict[str, Any]) -> None:
    if "kill_at" in settings:
        killing(*settings["kill_at"])
    with JobStore.open(settings["store"]) as store:
        tell("open")
        if settings.get("gate"):
            sys.stdin.readline()
        ACTIONS[settings["action"]](store, settings)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
