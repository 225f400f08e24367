"""Kills processes of a job system again and again at random moments, under load, then counts. Stops by itself.

python benchmarks/jobs_soak.py                  500 kills, about three minutes
python benchmarks/jobs_soak.py --kills 50 --seed 7 --who supervisor,child

gunicorn serves an app, `allcores work` runs its jobs, and clients submit with idempotency keys until each is accepted.
SIGKILL strikes the supervisor, a process below it, a web process or gunicorn's own; what is not replaced by itself is
started again. At the end all are left in peace until no job waits, and then: each accepted job is there, at an end,
with the right result; none came to an end twice; the file has no fault; no process is left.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.processes import end_all, environment, marked  # noqa: E402

TOKEN = "a-token-for-the-soak-0123456789"
WHO = ("supervisor", "child", "web", "master")
#: seconds in which a kill follows the one before
PAUSES_S = (0.05, 0.4)
#: jobs that are accepted between one kill and the next
LEAST_ACCEPTED = 4
#: seconds in which a supervisor, and gunicorn, have processes below them
START_S = 10.0
#: seconds that jobs have to come to their ends when all is quiet
END_S = 120.0
#: jobs that may wait: clients hold back above it
MOST_WAITING = 300

TASKS = """
import time
from allcores.jobs import task

@task(retries=0)
def double(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return 2 * number
"""
APP = """
from flask import Flask
from allcores.web import Allcores

app = Flask(__name__)
app.config.from_prefixed_env()
Allcores(app, tasks="tasks")
"""
#: each time that a job comes to an end leaves a row
ENDS = """
CREATE TABLE soak_ends (id TEXT, state TEXT);
CREATE TRIGGER soak_ends AFTER UPDATE OF state ON allcores_jobs
WHEN new.state NOT IN ('queued', 'running') BEGIN INSERT INTO soak_ends VALUES (new.id, new.state); END;
"""


class Soak:
    """The system that is struck, and what it accepted."""

    def __init__(self, folder: Path, seed: int, preload: bool) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.mark = f"soak-{uuid.uuid4().hex}"
        self.port = 0
        self.preload = preload
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.accepted: dict[str, int] = {}
        self.refused: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "tasks.py").write_text(TASKS)
        (folder / "app.py").write_text(APP)
        self.store = folder / "jobs.sqlite"
        from allcores.jobs.store import JobStore

        JobStore.open(self.store).close()
        with sqlite3.connect(self.store) as connection:
            connection.executescript(ENDS)
        connection.close()

    def launch(self, name: str) -> None:
        """Start the supervisor or gunicorn, if it does not run."""
        process = self.processes.get(name)
        if process is not None and process.poll() is None:
            return
        command = {
            "supervisor": ["-m", "allcores", "work", "tasks.py", "--store", str(self.store), "--workers", "2"],
            # Web processes whose master was killed serve on, until they look after it: every half of the timeout. The
            # next one shares the port with them, or it would be in use.
            "master": [
                *("-m", "gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{self.port}", "app:app"),
                *("--reuse-port", "--timeout", "10"),
                *(["--preload"] if self.preload else []),
            ],
        }[name]
        with (self.folder / f"log-{name}").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=environment(self.mark) | {"FLASK_ALLCORES_STORE": str(self.store), "FLASK_ALLCORES_TOKEN": TOKEN},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self) -> None:
        """Both, and gunicorn's port."""
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.launch("master")
        self.launch("supervisor")

    def submit_until_told(self, client: int) -> None:
        """One client: a key again and again until the server says that it has it."""
        chance = random.Random(client)
        number = client * 1_000_000
        while not self.ending.is_set():
            number += 1
            key = f"{client}-{number}"
            body = {"task": "double", "arguments": {"number": number, "seconds": round(chance.expovariate(100), 4)}}
            while not self.ending.is_set():
                found = self.request("POST", "/jobs/api/jobs", body, key)
                if isinstance(found, dict):
                    with self.lock:
                        self.accepted[str(found["id"])] = number
                    break
                self.refused[found] += 1
                self.ending.wait(0.05)
            while self.waiting() > MOST_WAITING and not self.ending.wait(0.1):
                pass

    def request(self, method: str, path: str, body: Any, key: str) -> dict[str, Any] | str:
        """The answer, or why there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Idempotency-Key": key}
            connection.request(method, path, json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 202:
                found: dict[str, Any] = json.loads(text)
                return found
            return f"status {answer.status}: {text[:200].decode(errors='replace')}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            return type(error).__name__
        finally:
            connection.close()

    def rows(self, query: str) -> list[Any]:
        """What the file says; read only."""
        connection = sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=20)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def waiting(self) -> int:
        """Jobs that are not at an end."""
        return int(self.rows("SELECT count(*) FROM allcores_jobs WHERE state IN ('queued', 'running')")[0][0])

    def strike(self, who: str) -> None:
        """Kill one, if there is one; start again what nothing else does."""
        supervisor, master = self.processes["supervisor"], self.processes["master"]
        if who in ("supervisor", "master"):
            targets = [self.processes[who].pid] if self.processes[who].poll() is None else []
        else:
            above, until = (supervisor if who == "child" else master).pid, time.monotonic() + START_S
            while not (targets := _below(above)) and time.monotonic() < until:
                time.sleep(0.02)  # just started: it has none yet
        if targets:
            _kill(self.random.choice(targets))
            self.kills[who] += 1
        for name in ("supervisor", "master"):
            if who == name:
                self.processes[name].wait()
            self.launch(name)

    def close(self) -> list[str]:
        """Ask all to end; a sentence for each that does not, or leaves something."""
        wrong = []
        for name, process in self.processes.items():
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                wrong.append(f"{name} does not end")
        until = time.monotonic() + 10
        while marked(self.mark) and time.monotonic() < until:
            time.sleep(0.05)
        left = marked(self.mark)
        if left:
            wrong.append(f"processes are left: {[_command(pid) for pid in left]}")
        end_all(self.mark)
        for process in self.processes.values():
            process.wait()
        return wrong

    def wrong(self) -> list[str]:
        """What is not as it has to be; empty if nothing is."""
        found = {row[0]: row[1:] for row in self.rows("SELECT id, state, result FROM allcores_jobs")}
        wrong = [f"accepted, and not there: {job}" for job in self.accepted if job not in found]
        # A client that had no answer submits the key again; only those that it gave up at the end are unknown.
        strangers = len(found.keys() - self.accepted.keys())
        if strangers > CLIENTS:
            wrong.append(f"{strangers} jobs are there that no client had an answer for")
        for job, (state, result) in found.items():
            if state not in ("succeeded", "quarantined"):
                wrong.append(f"{job} is {state}")
            elif state == "succeeded" and job in self.accepted and json.loads(result) != 2 * self.accepted[job]:
                wrong.append(f"{job} has the result {result}")
        ends = Counter(row[0] for row in self.rows("SELECT id FROM soak_ends"))
        wrong += [f"{job} came to an end {count} times" for job, count in ends.items() if count != 1]
        if len(ends) != len(found):
            wrong.append(f"{len(found)} jobs, {len(ends)} ends")
        if (told := self.rows("PRAGMA integrity_check")) != [("ok",)]:
            wrong.append(f"the file is damaged: {told}")
        counted = dict(self.rows("SELECT state, sum(n) FROM allcores_counters GROUP BY state HAVING sum(n) > 0"))
        real = dict(self.rows("SELECT state, count(*) FROM allcores_jobs GROUP BY state"))
        if counted != real:
            wrong.append(f"counters say {counted}, the rows are {real}")
        return wrong


CLIENTS = 4


def _below(pid: int) -> list[int]:
    found = _children(pid)
    for each in found:
        found += _children(each)
    return found


def _children(pid: int) -> list[int]:
    # Each thread has those that it started. To look through all processes of the machine would take from the load.
    found: list[int] = []
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, entry.read_text().split())
        except OSError:
            continue
    return found


def _kill(pid: int) -> None:
    import os

    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    except OSError:
        return str(pid)


def soak(folder: Path, kills: int, *, seed: int = 1, who: tuple[str, ...] = WHO, preload: bool = True) -> list[str]:
    """Strike so many times, each kind once before one comes again; what was wrong at the end, a sentence each."""
    system = Soak(folder, seed, preload)
    started = time.monotonic()
    clients = [threading.Thread(target=system.submit_until_told, args=(number,)) for number in range(CLIENTS)]
    try:
        system.start()
        for client in clients:
            client.start()
        turns: list[str] = []
        while sum(system.kills.values()) < kills:
            # Under load: where no job is accepted in between, most strikes would meet programs that just start.
            accepted, last = len(system.accepted), time.monotonic() + END_S
            while len(system.accepted) < accepted + LEAST_ACCEPTED and time.monotonic() < last:
                time.sleep(0.02)
            time.sleep(system.random.uniform(*PAUSES_S))
            if not turns:
                turns = system.random.sample(who, len(who))
            system.strike(turns.pop())
        system.ending.set()
        for client in clients:
            client.join()
        until = time.monotonic() + END_S
        while system.waiting() and time.monotonic() < until:
            for name in ("supervisor", "master"):
                system.launch(name)
            time.sleep(0.1)
        wrong = [f"{waiting} jobs are not at an end"] if (waiting := system.waiting()) else []
    finally:
        system.ending.set()
        for client in clients:
            if client.ident is not None:
                client.join()
        left = system.close()
    wrong += left + system.wrong()
    states = dict(system.rows("SELECT state, count(*) FROM allcores_jobs GROUP BY state"))
    refused = sum(system.refused.values())
    print(
        f"{sum(system.kills.values())} kills ({', '.join(f'{name} {n}' for name, n in sorted(system.kills.items()))})"
        f" in {time.monotonic() - started:.0f} s; {len(system.accepted):,} jobs accepted, {states};"
        f" {refused:,} requests were not answered or refused: {dict(system.refused.most_common(4))}"
    )
    for sentence in wrong[:20]:
        print(f"WRONG: {sentence}")
    return wrong


def main() -> int:
    """0 if nothing was lost, done twice or left behind; else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--who", default=",".join(WHO), help=f"of {', '.join(WHO)}")
    parser.add_argument("--no-preload", action="store_true", help="gunicorn without --preload")
    parser.add_argument("--keep", action="store_true", help="keep the folder, with store and logs")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # asked to end, take the processes along
    folder = Path(tempfile.mkdtemp(prefix="allcores-jobs-soak-"))
    print(f"seed {options.seed}, in {folder}", flush=True)
    wrong = soak(
        folder, options.kills, seed=options.seed, who=tuple(options.who.split(",")), preload=not options.no_preload
    )
    if not options.keep and not wrong:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
