"""A supervisor that tests stop, drain, kill: python supervising.py STORE TASKS WORKERS GRACE [FAILPOINT or untold]."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

from allcores import failpoints
from allcores.jobs import JobStore, Supervisor
from allcores.jobs import supervisor as supervisor_module


def dying(store: JobStore, file: str, point: str) -> Callable[[str], None]:
    """Kills this process at a failpoint, once there is a result in a file, and behind the commit also in the store."""

    def reached(at: str) -> None:
        if at != point or not any((store.folder / "results").glob("*/result.json")):
            return
        with contextlib.closing(sqlite3.connect(file)) as db:
            done = db.execute("SELECT count(*) FROM allcores_jobs WHERE state = 'succeeded'").fetchone()[0]
        if done or at == "jobs.commit.before":
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def main(file: str, tasks: str, workers: str, grace: str, point: str = "") -> None:
    """Until it is ended. Says so once the store has its supervisor: the test may be about to be one, too."""
    store = JobStore.open(file)
    supervisor = Supervisor(store, tasks, workers=int(workers), grace=float(grace))
    supervisor.handle_signals()
    take = store.become_supervisor

    def taken() -> Any:
        try:
            return take()
        finally:
            print("ready", flush=True)

    store.become_supervisor = taken  # type: ignore[method-assign]
    if point == "untold":
        # As if each of its jobs was over before the store is told which process runs it.
        supervisor_module.SLOW_S = float("inf")
    elif point:
        failpoints.install(dying(store, file, point))
    supervisor.run()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
