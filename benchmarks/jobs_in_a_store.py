"""A store of a million jobs: how long pages, counts, claims and submissions take, and that counters are exact.

    python benchmarks/jobs_in_a_store.py [--rows 1000000] [--folder DIR]

It ends with 1 if a page or the counts take more than 50 ms (95 of 100), if a counter is not what count(*) says, if
fewer than 1,000 empty jobs a second go from submit to their committed end, or if retention holds the lock for more than
50 ms. Commits wait for the disk (synchronous=FULL).
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from allcores.jobs import schema
from allcores.jobs.model import Claim, Finished, JobFilter, State, Submission
from allcores.jobs.retention import Retention
from allcores.jobs.store import JobStore
from allcores.jobs.submissions import prepared

TASKS = ("count_primes", "hash_files", "thumbnails", "measure")
#: of the process that submits
THREADS = 32
#: milliseconds that a page or the counts may take
PAGE_MS = 50.0
#: empty jobs a second, from submit to committed
RATE = 1_000.0

problems: list[str] = []


def milliseconds(what: Callable[[], Any], times: int = 60) -> tuple[float, float]:
    """Median and 95 of 100."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        what()
        took.append((time.perf_counter() - begun) * 1000)
    took.sort()
    return took[len(took) // 2], took[int(len(took) * 0.95)]


def show(name: str, value: str, problem: bool = False) -> None:
    print(f"{name:<52} {value}{'   <-- too much' if problem else ''}", flush=True)
    if problem:
        problems.append(name)


def fill(store: JobStore, rows: int) -> None:
    """Jobs in all states, most of them done, as in a store that has been used for a month; triggers count them."""
    chance = random.Random(1)
    begun, now = time.perf_counter(), time.time()
    with store.reading() as connection:
        first = int(connection.execute(text("SELECT last_seq FROM allcores_changes")).scalar() or 0) + 1
    blank = dict.fromkeys(column.name for column in schema.jobs.c)
    for start in range(0, rows, 20_000):
        batch = []
        for number in range(start, min(start + 20_000, rows)):
            created = now - 30 * 86_400 * (1 - number / rows)
            tags = ("nightly",) if chance.random() < 0.1 else ()
            arguments = {"n": chance.randrange(10**6), "folder": f"/data/{chance.randrange(1000)}"}
            row = {**blank, **prepared(Submission(chance.choice(TASKS), arguments, tags=tags), created).row}
            row |= {"seq": number + first, "changed": 1}
            if number < rows * 0.95:
                failed = chance.random() < 0.01
                row |= {
                    "state": "failed" if failed else "succeeded",
                    "due": 0,
                    "started": created + 1,
                    "finished": created + 2,
                    "wait": 1.0,
                    "attempts": 1,
                    "attempt": 1,
                    "result": None if failed else "42",
                    "failure": "exception\nValueError" if failed else None,
                }
            batch.append(row)
        with store.reading() as connection:
            connection.execute(insert(schema.jobs), batch)
            tagged = [{"tag": "nightly", "seq": row["seq"]} for row in batch if row["tags"] != "[]"]
            connection.execute(insert(schema.job_tags), tagged)
            connection.execute(text("UPDATE allcores_changes SET last_seq = :seq"), {"seq": batch[-1]["seq"]})
            connection.commit()
        store.maintain(Retention(None, None, None))
    show("filled", f"{rows:,} jobs in {time.perf_counter() - begun:.0f} s")


def submit_alone(where: str, count: int) -> None:
    """What a web process does: one job by request, in several threads."""
    with JobStore.open(where) as store:
        threads = [
            threading.Thread(target=lambda: [store.submit("noop", {}) for _ in range(count // THREADS)])
            for _ in range(THREADS)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()


def look(store: JobStore) -> None:
    middle = store.change_number() and store.page(limit=1).jobs[0].seq // 2
    pages: dict[str, Callable[[], Any]] = {
        "first page": lambda: store.page(),
        "page in the middle": lambda: store.page(after=middle),
        "page of failed jobs": lambda: store.page(JobFilter(states=(State.FAILED,))),
        "page of three states, in the middle": lambda: store.page(
            JobFilter(states=(State.FAILED, State.SUCCEEDED, State.CANCELLED)), after=middle
        ),
        "page of a task and state": lambda: store.page(JobFilter(states=(State.QUEUED,), task="thumbnails")),
        "page of a task": lambda: store.page(JobFilter(task="measure"), after=middle),
        "page of a tag": lambda: store.page(JobFilter(tag="nightly")),
        "page of a tag and state": lambda: store.page(JobFilter(tag="nightly", states=(State.FAILED,))),
        "page of the last hour": lambda: store.page(JobFilter(since=time.time() - 3600)),
        "job": lambda: store.get(job),
        "counts": store.counts,
        "all of them, to act on": lambda: store.snapshot(JobFilter(states=(State.SUCCEEDED,))),
        "statistics of an hour": store.stats,
        "change number": store.change_number,
    }
    job = store.page(after=middle, limit=1).jobs[0].id
    for name, what in pages.items():
        p50, p95 = milliseconds(what)
        show(name, f"{p50:8.2f} ms, p95 {p95:8.2f} ms", p95 > PAGE_MS)
    begun = time.perf_counter()
    page = store.page(JobFilter(text="no job has this"))
    took = time.perf_counter() - begun
    show("search for text that is nowhere", f"{took * 1000:8.2f} ms, {page.searched:,} jobs were looked at")
    with store.reading() as connection:
        begun = time.perf_counter()
        rows = connection.execute(text("SELECT state, count(*) FROM allcores_jobs GROUP BY state")).all()
        counted = {str(state): int(number) for state, number in rows}
        took = time.perf_counter() - begun
    exact = counted == {state.value: number for state, number in store.counts().by_state.items() if number}
    show("counters are what count(*) says", f"{exact}, which took {took * 1000:.0f} ms", not exact)


def work(store: JobStore, where: str, count: int) -> None:
    """Empty jobs, submitted by another process one by one and finished here, 64 at a time."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=submit_alone, args=(where, count))
    process.start()
    done, begun, change = 0, 0.0, store.change_number()
    ends: list[tuple[Claim, Finished]] = []
    while done < count // THREADS * THREADS:
        # In two commits, as the supervisor does it.
        held = store.finish_many(ends) if ends else []
        claims = store.claim(64, ["noop"])
        done += sum(held)
        ends = [(claim, Finished(State.SUCCEEDED)) for claim in claims]
        if not claims and not held:
            change = store.wait_for_change(change, 1.0)
        elif not begun:
            begun = time.perf_counter()
    rate = done / (time.perf_counter() - begun)
    process.join()
    show("empty jobs, from submit to committed", f"{rate:8,.0f} a second", rate < RATE)
    p50, p95 = milliseconds(lambda: one(store))
    show("one job: submit, claim, finish", f"{p50:8.2f} ms, p95 {p95:8.2f} ms")


def one(store: JobStore) -> None:
    store.submit("noop", {})
    (claim,) = store.claim(1, ["noop"])
    store.finish(claim, Finished(State.SUCCEEDED))


def sweep(store: JobStore, where: str) -> None:
    """How long another process waits for the lock while jobs are removed."""
    ended = store.counts().total
    waits: list[float] = []
    over = threading.Event()

    def other() -> None:
        with JobStore.open(where) as second:
            while not over.is_set():
                # Not by the supervisor: by its own transaction, behind the one that removes.
                begun = time.perf_counter()
                second.put_record("bench", "tick", 1)
                waits.append(time.perf_counter() - begun)
                over.wait(0.01)

    thread = threading.Thread(target=other)
    thread.start()
    begun = time.perf_counter()
    removed = 0
    while removed < 20_000 and (swept := store.maintain(Retention(rows=ended // 2), seconds=2.0)).jobs:
        removed += swept.jobs
    took = time.perf_counter() - begun
    over.set()
    thread.join()
    waits.sort()
    show("removed by retention", f"{removed:,} jobs in {took:.1f} s")
    show(
        "a writer beside it waited",
        f"{waits[len(waits) // 2] * 1000:8.2f} ms, p95 {waits[int(len(waits) * 0.95)] * 1000:8.2f} ms",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the store is made; it stays there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        where = str((arguments.folder or Path(temporary)) / "jobs.sqlite")
        with JobStore.open(where) as store, store.become_supervisor():
            before = milliseconds(lambda: store.submit("first", {}))[0]
            missing = arguments.rows - store.counts().total
            if missing > 0:
                fill(store, missing)
            show("jobs", f"{store.counts().total:,}")
            after = milliseconds(lambda: store.submit("first", {}))[0]
            show("submit alone: among few, and among these", f"{before:.2f} ms, {after:.2f} ms")
            look(store)
            work(store, where, 4_000)
            sweep(store, where)
    print("\n".join(["", *(f"too much: {each}" for each in problems)]) if problems else "\nall as promised")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
