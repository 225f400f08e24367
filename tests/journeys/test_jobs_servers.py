"""The programs of the how-to pages behind gunicorn, uWSGI and Flask's own server, beside one supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import ROOT, blocks
from tests.journeys.serving_jobs import TOKEN, Server, check_file, descendants, environment, printed, started
from tests.process.waiting import PATIENCE_S, wait_gone, wait_until
from tests.process.warm import Interpreter, Program

pytest.importorskip("flask")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is for Linux")]

FIRST = ROOT / "docs/howto/jobs-first.md"
DEPLOY = (ROOT / "docs/howto/jobs-deploy.md").read_text()
UWSGI = Path(sys.executable).with_name("uwsgi")
#: Each process imports all: two show what the page's four do.
GUNICORN = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "app:app", "--workers", "2"]
#: where its log says the port
GUNICORN_SAYS = r"Listening at: http://127\.0\.0\.1:(\d+)"
WORK = ["work", "tasks.py", "--store", "jobs.sqlite"]


def project(folder: Path) -> None:
    """The files of the first page."""
    for block in blocks(FIRST):
        if block.title:
            (folder / block.title).write_text(block.code)


def settings(folder: Path) -> dict[str, str]:
    return {"FLASK_ALLCORES_STORE": str(folder / "jobs.sqlite"), "FLASK_ALLCORES_TOKEN": TOKEN}


@contextmanager
def ended_at_last(process: subprocess.Popen[bytes] | Program, log: Path, codes: Sequence[int]) -> Iterator[None]:
    """A supervisor runs for as long as the block lasts, and ends as it is asked to, with one of these codes."""
    try:
        yield
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) in codes, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def supervisor(
    folder: Path, *command: str, codes: Sequence[int] = (143,), environ: dict[str, str] | None = None
) -> Iterator[int]:
    """`allcores work` on the store, or another command for Python, for as long as the block lasts: its number."""
    with (folder / "log-work").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *(command or ["-m", "allcores", *WORK])],
            cwd=folder,
            env=environment(**(environ or {})),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    with ended_at_last(process, folder / "log-work", codes):
        yield process.pid


@contextmanager
def warm_supervisor(folder: Path, interpreter: Interpreter) -> Iterator[int]:
    """The same, in a fork of an interpreter that has imported all: where the web server is what a test is about."""
    with (folder / "log-work").open("wb") as log:
        out = log.fileno()
        process = interpreter.begin(None, *WORK, folder=folder, environ=environment(), stdout=out, stderr=out)
    with ended_at_last(process, folder / "log-work", (143,)):
        yield process.pid


def start(server: Server, n: int) -> str:
    """POST /start, as a form does; the job's id."""
    data = urllib.parse.urlencode({"n": n}).encode()
    with urllib.request.urlopen(server.address + "/start", data, timeout=PATIENCE_S) as answer:
        assert answer.status == 202
        import json

        return str(json.loads(answer.read())["id"])


def result(server: Server, job_id: str) -> dict[str, Any]:
    status, found, _ = server.ask(f"/result/{job_id}", token=None)
    assert status == 200
    answer: dict[str, Any] = found
    return answer


def use(server: Server) -> None:
    """Twenty clients, whose requests go to whichever process takes them: each gets its own result."""
    with ThreadPoolExecutor(8) as clients:
        ids = list(clients.map(lambda n: start(server, n), [10, 100] * 10))
        wait_until(lambda: all(result(server, each)["state"] == "succeeded" for each in ids))
        assert [result(server, each)["result"] for each in ids] == [4, 25] * 10
    assert len(set(ids)) == 20
    assert server.ask("/jobs/api/jobs", token=None)[0] == 401
    assert server.ask("/jobs/api/jobs?state=succeeded")[0] == 200


def only_web(server: Server) -> None:
    """No process of the server has started anything, or holds a thread that a fork would lose."""
    for pid in descendants(server.process.pid):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert b"allcores" not in command and b"work" not in command


def refused(folder: Path, interpreter: Interpreter, supervisor: int) -> None:
    """A second supervisor is told which one has the store."""
    assert str(supervisor) in printed(interpreter.run(*WORK, folder=folder), 6)


# Without options: see where it is reloaded.
@pytest.mark.parametrize("options", [["--preload"], ["--threads", "4", "--worker-class", "gthread"]], ids=" ".join)
def test_behind_gunicorn(options: list[str], tmp_path: Path, warm_jobs: Interpreter) -> None:
    pytest.importorskip("gunicorn")
    project(tmp_path)
    with (
        warm_supervisor(tmp_path, warm_jobs) as work,
        started([*GUNICORN, *options], tmp_path, GUNICORN_SAYS, **settings(tmp_path)) as server,
    ):
        use(server)
        only_web(server)
        refused(tmp_path, warm_jobs, work)
    check_file(tmp_path / "jobs.sqlite")


@pytest.mark.skipif(not UWSGI.exists(), reason="uWSGI is not installed (pip install uwsgi; it is compiled)")
def test_behind_uwsgi(tmp_path: Path, warm_jobs: Interpreter) -> None:
    shown = "uwsgi --http 127.0.0.1:8000 --master --processes 4 --die-on-term --skip-atexit-teardown --module app:app"
    assert shown in DEPLOY
    project(tmp_path)
    # uWSGI is no Python program: a program of one line becomes it.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = shown.replace("127.0.0.1:8000", f"127.0.0.1:{port}").split()[1:]
    home = f"--home={sys.prefix}"
    program = f"import os, sys; os.execv({str(UWSGI)!r}, ['uwsgi', {home!r}, *sys.argv[1:]])"
    pattern = r"uWSGI http bound on 127\.0\.0\.1:(\d+)"
    with (
        warm_supervisor(tmp_path, warm_jobs),
        started(["-c", program, *words], tmp_path, pattern, **settings(tmp_path)) as server,
    ):
        use(server)
        only_web(server)
    # Its workers heard the signal by which it ends them: those that do not are killed after a minute.
    assert "goodbye to uWSGI" in (said := server.log.read_text()) and "NO MERCY" not in said
    check_file(tmp_path / "jobs.sqlite")


def test_gunicorn_reloads_and_loses_processes_under_load(tmp_path: Path, warm_jobs: Interpreter) -> None:
    """HUP replaces all web processes, kill -9 one or all of them: jobs that were accepted are done, each once.

    Before, all is as with its options.
    """
    pytest.importorskip("gunicorn")
    assert "gunicorn --workers 4 app:app" in DEPLOY
    project(tmp_path)
    # Without their master, web processes wait for half of this before they look after it.
    command = [*GUNICORN, "--timeout", "10"]
    with supervisor(tmp_path) as work, ExitStack() as stack:
        server = stack.enter_context(started(command, tmp_path, GUNICORN_SAYS, **settings(tmp_path)))
        use(server)
        only_web(server)
        refused(tmp_path, warm_jobs, work)
        ids = [start(server, 50) for _ in range(10)]
        before = descendants(server.process.pid)
        server.process.send_signal(signal.SIGHUP)
        wait_gone(before)
        ids += [start(server, 50) for _ in range(10)]
        os.kill(min(descendants(server.process.pid)), signal.SIGKILL)
        wait_until(lambda: server.ask("/result/0", token=None)[0] == 404)
        ids += [start(server, 50) for _ in range(10)]
        rest = descendants(server.process.pid)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        wait_gone(rest)
        again = stack.enter_context(started(command, tmp_path, GUNICORN_SAYS, **settings(tmp_path)))
        wait_until(lambda: all(result(again, each)["state"] == "succeeded" for each in ids))
        assert [result(again, each)["result"] for each in ids] == [15] * 30
    check_file(tmp_path / "jobs.sqlite")


def test_flask_has_the_supervisor_as_a_command(tmp_path: Path, warm_jobs: Interpreter) -> None:
    """`flask --app app allcores work` takes store and tasks from the app, beside Flask's server with its reloader."""
    assert "flask --app app allcores work" in DEPLOY
    project(tmp_path)
    serve = ["-m", "flask", "--app", "app", "run", "--debug", "--port", "0"]
    command = ["-m", "flask", "--app", "app", "allcores", "work", "--workers", "2", "--grace", "5"]
    with (
        supervisor(tmp_path, *command, environ=settings(tmp_path)) as work,
        started(serve, tmp_path, r"http://127\.0\.0\.1:(\d+)", **settings(tmp_path)) as server,
    ):
        use(server)
        only_web(server)
        refused(tmp_path, warm_jobs, work)
    check_file(tmp_path / "jobs.sqlite")
