"""Jobs behind a web page: how many a second, how long one takes, and what a million of them cost.

Each system has a store or server of its own for as long as the row is measured; all of them are up at once and take
turns, and the idle ones wait for work.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.job_peers import SYSTEMS, JobSystem
from benchmarks.jobs_tabs import tabs
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings

#: system -> what has to be installed for it
NEEDED = {"huey, SQLite": "huey", "RQ": "rq", "RQ, SimpleWorker": "rq", "Celery": "celery"}
#: jobs a round: those that take long a job get fewer
JOBS = {"RQ": 100, "RQ, SimpleWorker": 100, "Celery": 300, "huey, SQLite": 1_000}


def rows(settings: Settings) -> list[Row]:
    """`jobs-rate`, `jobs-latency`, `jobs-million`, `jobs-tabs`."""
    return [*_rate_and_latency(settings), _million(settings), tabs(settings)]


@contextlib.contextmanager
def _systems(settings: Settings, notes: dict[str, str]) -> Iterator[dict[str, JobSystem]]:
    with ExitStack() as stack:
        up: dict[str, JobSystem] = {}
        for name, kind in SYSTEMS.items():
            base = name.split(",")[0].lower()
            if settings.wanted is not None and base not in settings.wanted:
                continue
            if name in NEEDED and importlib.util.find_spec(NEEDED[name]) is None:
                continue
            try:
                up[name] = stack.enter_context(kind(settings.workers))
            except Exception as error:
                notes[name] = f"{type(error).__name__}: {error}"
                settings.say(f"jobs: {name} cannot be started: {error}")
        yield up


def _rate_and_latency(settings: Settings) -> list[Row]:
    rate = Row(
        "jobs-rate",
        "Jobs that do nothing, from before the first is submitted until the last has a stored result",
        "jobs a second",
        "Two workers, warm. " + " ".join(f"{name}: {kind.how}." for name, kind in SYSTEMS.items()),
    )
    latency = Row(
        "jobs-latency",
        "One job that does nothing, from before it is submitted until its result can be read, at rest",
        "ms, median of the jobs of a round",
        "The same systems. The program that submits looks for the result every millisecond.",
    )
    slowest = Row(
        "jobs-latency-95",
        "The same, the slowest of twenty",
        "ms, 95th percentile of the jobs of a round",
        "From the same jobs.",
    )
    with _systems(settings, rate.notes) as up:
        sizes = {name: settings.size(JOBS.get(name, 5_000), 20) for name in up}
        in_turn(
            rate,
            {name: partial(_per_second, system, sizes[name]) for name, system in up.items()},
            settings.rounds,
            settings,
            shuffled=True,
        )
        tails: dict[str, float] = {}
        alone = {name: system for name, system in up.items() if name != "allcores, one by one"}
        measures: dict[str, Callable[[], float]] = {
            name: partial(_one, system, settings.size(40, 5), tails, name) for name, system in alone.items()
        }
        in_turn(latency, measures, settings.rounds, settings, shuffled=True)
        slowest.samples = {name: [value] for name, value in tails.items()}
    rate.judge("jobs a second of allcores", rate.samples.get("allcores", []), least=1_000)
    rate.judge("allcores / huey, SQLite", rate.ratios("allcores", "huey, SQLite"), least=10)
    rate.judge("allcores / RQ", rate.ratios("allcores", "RQ"), least=1)
    latency.judge("ms of allcores", latency.samples.get("allcores", []), most=15)
    latency.judge("ms of allcores, NORMAL", latency.samples.get("allcores, NORMAL", []), most=3)
    return [rate, latency, slowest]


def _per_second(system: JobSystem, jobs: int) -> float:
    return jobs / system.run(jobs)


def _one(system: JobSystem, jobs: int, tails: dict[str, float], name: str) -> float:
    taken = sorted(system.run(1) * 1e3 for _ in range(jobs))
    tails[name] = taken[min(len(taken) - 1, int(len(taken) * 0.95))]
    return statistics.median(taken)


#: in a process of its own, so that its memory is its own: asks each page, and prints what it took
_PAGES = """
import json, sys, time
from allcores.web import create_app

store, rounds = sys.argv[1], int(sys.argv[2])
client = create_app(store=store, token="a-token-for-the-bench").test_client()
auth = {"Authorization": "Bearer a-token-for-the-bench"}
found = {}
pages = {
    "overview": "/", "list": "/list", "of a state": "/list?state=failed", "of a task": "/list?task=nothing",
    "json list": "/api/jobs?state=succeeded", "counts": "/api/counts",
}
older = client.get("/api/jobs?limit=500", headers=auth).get_json()
for name, path in pages.items():
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        answer = client.get(path, headers=auth)
        taken.append((time.perf_counter() - started) * 1e3)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
    found[name] = sorted(taken)[int(len(taken) * 0.95)]
tag = client.get("/api/jobs", headers=auth).headers["ETag"]
taken = []
for _ in range(rounds):
    started = time.perf_counter()
    answer = client.get("/api/jobs", headers={**auth, "If-None-Match": tag})
    taken.append((time.perf_counter() - started) * 1e3)
    assert answer.status_code == 304, answer.status_code
found["poll, 304"] = sorted(taken)[int(len(taken) * 0.95)]
# Not ru_maxrss, in which is what the process had that started this one.
found["memory"] = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps(found))
"""


def _million(settings: Settings) -> Row:
    """A store with very many jobs: how long its pages take, and what more submissions cost."""
    jobs = settings.size(1_000_000, 500)
    row = Row(
        "jobs-million",
        f"Pages of a console with {jobs:,} jobs in its store, without a network",
        "ms, 95th percentile of 40 requests",
        "One SQLite file with synchronous=FULL; most jobs succeeded, every hundredth failed. Beside them: `memory` is "
        "what the web process had at most, in MiB; `submit, few` and `submit, many` are the milliseconds of one "
        "submission of 1,000 jobs with 10,000 jobs in the store and with all of them. The store's counts are compared "
        "with those of the rows.",
        comparable=False,
    )
    with tempfile.TemporaryDirectory(prefix="bench-jobs-") as folder:
        path = Path(folder, "jobs.sqlite")
        row.samples |= _filled(path, jobs, settings)
        done = subprocess.run(
            [sys.executable, "-c", _PAGES, str(path), str(settings.size(40, 5))],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[:2])},
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            row.notes["pages"] = done.stderr.strip()[-300:]
            return row
        import json

        row.samples |= {name: [value] for name, value in json.loads(done.stdout).items()}
    for page in ("overview", "list", "of a state", "of a task", "json list"):
        row.judge(f"{page}, ms", row.samples[page], most=50)
    row.judge("poll, 304, ms", row.samples["poll, 304"], most=3)
    row.judge("memory of the web process, MiB", row.samples["memory"], most=120)
    row.judge("submit, many / submit, few", row.ratios("submit, many", "submit, few"), most=1.2)
    return row


def _filled(path: Path, jobs: int, settings: Settings) -> dict[str, list[float | None]]:
    """A store with so many jobs; ms that submitting 1,000 takes with few and with all of them."""
    from allcores.jobs.model import State, Submission
    from allcores.jobs.store import JobStore

    def submission(number: int) -> Submission:
        return Submission("nothing", {"number": number}, tags=("bench",) if number % 1_000 == 0 else ())

    def taken(store: JobStore) -> list[float]:
        found = []
        for _ in range(settings.size(20, 1)):
            started = time.perf_counter()
            store.submit_many([submission(number) for number in range(1_000)])
            found.append((time.perf_counter() - started) * 1e3)
        return found

    few: list[float] = []
    with JobStore.open(path) as store:
        step = min(5_000, jobs // 4)
        for first in range(0, jobs, step):
            store.submit_many([submission(number) for number in range(first, min(first + step, jobs))])
            if not few and first >= min(10_000, jobs // 2):
                few = taken(store)
        many = taken(store)
        _end_all(path)
        counts: Any = store.counts()
        real = _counted(path)
        assert {str(state): number for state, number in counts.by_state.items() if number} == real, "counters are wrong"
        assert counts.by_state[State.SUCCEEDED] > 0
    return {"submit, few": [statistics.median(few)], "submit, many": [statistics.median(many)]}


def _end_all(path: Path) -> None:
    """Bring jobs to an end as one statement: a supervisor would take a quarter of an hour for it."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE allcores_jobs SET state = CASE WHEN seq % 100 = 0 THEN 'failed' ELSE 'succeeded' END, due = 0,"
            " attempt = 1, attempts = 1, started = created, finished = created + 0.01, wait = 0.0,"
            " result = CASE WHEN seq % 100 THEN '1' END,"
            " failure = CASE WHEN seq % 100 = 0 THEN 'exception\nValueError' END"
        )


def _counted(path: Path) -> dict[str, int]:
    import sqlite3

    with contextlib.closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM allcores_jobs GROUP BY state").fetchall())
