"""Open pages beside running jobs: what twenty of them cost the jobs, how long a poll takes, what the web process needs.

The real thing: `allcores serve` with its console and its supervisor, and tabs that ask every two seconds as the
script of a page does.
"""

from __future__ import annotations

import http.client
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.job_peers import JobSystem
from benchmarks.rows import Row
from benchmarks.settings import Settings

TOKEN = "a-token-for-the-bench-0123456789"
TABS, POLL_S = 20, 2.0


class Served(JobSystem):
    """`allcores serve` on a store of its own."""

    def start(self) -> None:
        """The console, and the supervisor below it."""
        from allcores.jobs.store import JobStore

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        store = self.folder / "jobs.sqlite"
        self.store: Any = JobStore.open(store)
        self.launch(
            *(sys.executable, "-m", "allcores", "serve", str(Path(__file__).with_name("job_tasks_allcores.py"))),
            *("--store", str(store), "--workers", str(self.workers), "--port", str(self.port), "--token", TOKEN),
        )

    def run(self, jobs: int) -> float:
        """Seconds that so many jobs of 20 ms take."""
        from allcores.jobs.model import State, Submission

        before = self.store.counts().by_state[State.SUCCEEDED]
        started = time.perf_counter()
        self.store.submit_many([Submission("busy", {"seconds": 0.02}) for _ in range(jobs)])
        self.until(lambda: bool(self.store.counts().by_state[State.SUCCEEDED] - before >= jobs))
        return time.perf_counter() - started

    def memory(self) -> float:
        """MiB that the web process had at most."""
        status = Path(f"/proc/{self.processes[0].pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def stop(self) -> None:
        """Ask it to end, and close the store."""
        for process in self.processes:
            process.terminate()
            process.wait(60)
        if hasattr(self, "store"):
            self.store.close()


@contextmanager
def open_tabs(port: int, tabs: int) -> Iterator[list[float]]:
    """Tabs that look at the overview; gives the milliseconds of their polls."""
    taken: list[float] = []
    over = threading.Event()

    def tab(number: int) -> None:
        tag = ""
        over.wait(POLL_S * number / tabs)
        while not over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            begun = time.perf_counter()
            headers = {"Authorization": f"Bearer {TOKEN}", "X-Poll": "1", "If-None-Match": tag}
            connection.request("GET", "/", headers=headers)
            answer = connection.getresponse()
            answer.read()
            taken.append((time.perf_counter() - begun) * 1e3)
            assert answer.status in (200, 304), answer.status
            tag = answer.headers["ETag"] or tag
            connection.close()
            over.wait(POLL_S)

    threads = [threading.Thread(target=tab, args=(number,)) for number in range(tabs)]
    for each in threads:
        each.start()
    try:
        yield taken
    finally:
        over.set()
        for each in threads:
            each.join()


def tabs(settings: Settings) -> Row:
    """`jobs-tabs`: jobs of 20 ms with no page open and with twenty, in turns."""
    row = Row(
        "jobs-tabs",
        f"Jobs of 20 ms with two workers, and {TABS} open overviews that ask every {POLL_S:g} s",
        "seconds that the jobs took",
        "`allcores serve`, all on one machine; the tabs are threads of the program that measures. Beside them: `poll` "
        "is the 95th percentile of the tabs' requests in ms, most of which get a new page, since jobs run; `memory` is "
        "what the web process had at most, in MiB.",
        comparable=False,
    )
    # A minute of tabs in all, with five rounds.
    jobs = settings.size(1_200, 8)
    alone: list[float | None] = []
    beside: list[float | None] = []
    polls: list[float] = []
    served = Served(settings.workers)
    with served:
        for _ in range(settings.rounds):
            alone.append(served.run(jobs))
            with open_tabs(served.port, TABS) as taken:
                beside.append(served.run(jobs))
            polls += taken
        row.samples = {
            "no tab": alone,
            "20 tabs": beside,
            "poll": [sorted(polls)[int(len(polls) * 0.95)]] if polls else [],
            "memory": [served.memory()],
        }
    row.judge("20 tabs / no tab", row.ratios("20 tabs", "no tab"), most=1.05)
    row.judge("memory of the web process, MiB", row.samples["memory"], most=120)
    return row
