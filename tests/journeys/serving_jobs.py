"""Starts `allcores serve` and its like as a user does, and asks it over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.process.scripts import PATHS, Ended
from tests.process.waiting import PATIENCE_S, listens, wait_until
from tests.process.warm import Interpreter, Program

FINAL = {"succeeded", "failed", "timed_out", "cancelled", "quarantined"}
TOKEN = "a-token-for-tests-0123456789"

TASKS = '''\
import os, signal, time
from allcores.jobs import task

@task
def add(a: int, b: int = 1) -> int:
    return a + b

@task
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "woken"

@task
def fail(text: str = "no") -> None:
    raise ValueError(text)

@task
def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

@task(timeout=0.5)
def endless() -> None:
    while True:
        pass

@task
def note(folder: str, name: str) -> str:
    """Leaves a mark for each time that it ran."""
    with open(os.path.join(folder, name), "a") as file:
        file.write("x")
    return name
'''


def environment(**more: str) -> dict[str, str]:
    """That of this process, with allcores in sight."""
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), "PYTHONUNBUFFERED": "1", **more}
    for name in [
        name for name in found if name.startswith(("COVERAGE_", "PYTEST_", "ALLCORES_STORE", "ALLCORES_TOKEN"))
    ]:
        del found[name]
    return found


class Server:
    """A server that was started: its address, its log, and requests to it."""

    def __init__(self, process: subprocess.Popen[bytes] | Program, log: Path, token: str) -> None:
        self.process = process
        self.log = log
        self.token = token
        self.address = ""

    def ask(
        self, path: str, body: Any = None, *, method: str | None = None, token: str | None = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (or text) and headers. token: "" for the right one, None for none."""
        data = json.dumps(body).encode() if body is not None else None
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        if data is not None:
            sent["Content-Type"] = "application/json"
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self.token}"
        request = urllib.request.Request(self.address + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                status, text, got = answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                status, text, got = error.code, error.read().decode(), dict(error.headers)
        try:
            return status, json.loads(text), got
        except ValueError:
            return status, text, got

    def submit(self, task: str, **arguments: Any) -> str:
        """A job's id."""
        status, job, _ = self.ask("/api/jobs", {"task": task, "arguments": arguments})
        assert status == 202, (status, job)
        return str(job["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it is now."""
        status, job, _ = self.ask(f"/api/jobs/{job_id}")
        assert status == 200, (status, job)
        found: dict[str, Any] = job
        return found

    def ended(self, job_id: str, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """The job, once it is at its end."""
        try:
            wait_until(lambda: self.job(job_id)["state"] in FINAL, seconds=seconds)
        except AssertionError:
            raise AssertionError(f"{self.job(job_id)}\n{self.log.read_text()}") from None
        return self.job(job_id)

    def listens(self) -> bool:
        """Whether something takes connections at its address."""
        return listens(int(self.address.rpartition(":")[2]))

    def supervisor(self) -> int:
        """The pid of the supervisor, once there is one."""
        found: list[int] = []

        def look() -> bool:
            _, health, _ = self.ask("/healthz")
            supervisor = health.get("supervisor") or {}
            if supervisor.get("alive") and supervisor.get("pid"):
                found.append(supervisor["pid"])
            return bool(found)

        wait_until(look)
        return found[-1]


@contextmanager
def started(
    command: Sequence[str],
    folder: Path,
    pattern: str,
    token: str = TOKEN,
    **environ: str,
) -> Iterator[Server]:
    """A server for as long as the block lasts, from a command for Python; it is ready when its log has the pattern.

    The pattern's first group is the port.
    """
    log = folder / f"log-{time.monotonic_ns()}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment(**environ),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    with _answering(process, log, pattern, token) as server:
        yield server


@contextmanager
def _answering(process: subprocess.Popen[bytes] | Program, log: Path, pattern: str, token: str) -> Iterator[Server]:
    server = Server(process, log, token)
    try:
        wait_until(lambda: process.poll() is not None or re.search(pattern, log.read_text()) is not None)
        found = re.search(pattern, log.read_text())
        assert found is not None, log.read_text()
        server.address = f"http://127.0.0.1:{found[1]}"
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            except (subprocess.TimeoutExpired, TimeoutError):
                process.kill()
                process.wait()


@contextmanager
def serving(
    folder: Path, *options: str, tasks: str | None = None, interpreter: Interpreter | None = None
) -> Iterator[Server]:
    """`allcores serve` in a folder, with the tasks above unless it has others.

    With an interpreter that has imported all, it is a fork of that: for what does not depend on how it is started.
    """
    path = folder / "tasks.py"
    if tasks is not None or not path.exists():
        path.write_text(tasks or TASKS)
    command = ["serve", "tasks.py", "--host", "127.0.0.1", "--port", "0"]
    command += ["--store", "jobs.sqlite", "--token", TOKEN, *options]
    pattern = r"http://127\.0\.0\.1:(\d+)/"
    if interpreter is None:
        with started(["-m", "allcores", *command], folder, pattern) as server:
            yield server
        return
    log = folder / f"log-{time.monotonic_ns()}"
    with log.open("wb") as file:
        out = file.fileno()
        process = interpreter.begin(None, *command, folder=folder, environ=environment(), stdout=out, stderr=out)
    with _answering(process, log, pattern, TOKEN) as server:
        yield server


def at_shell(folder: Path, *arguments: str, code: int = 0) -> str:
    """What `allcores` with these arguments prints, in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", "allcores", *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return printed(Ended(done.returncode, done.stdout, done.stderr), code)


def printed(done: Ended, code: int = 0) -> str:
    """What a command printed that ended as it should: of one that fails, its sentence as well."""
    assert done.code == code, f"{done.code}: {done.out}{done.err}"
    assert "Traceback" not in done.err, done.err
    return done.out if code == 0 else done.out + done.err


def check_file(store: Path) -> None:
    """SQLite finds nothing wrong with the store's file."""
    connection = sqlite3.connect(store)
    try:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def descendants(pid: int) -> set[int]:
    """Of a process, itself left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = list(children.get(pid, ()))
    for each in found:
        found += children.get(each, ())
    return set(found)


def kill_quietly(pid: int, number: int = signal.SIGKILL) -> None:
    """It may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def all_of(server: Server, job_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Jobs, once all are at their end."""
    return [server.ended(job_id) for job_id in job_ids]
