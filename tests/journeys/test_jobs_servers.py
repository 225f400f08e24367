"""The programs of the how-to pages behind gunicorn, uWSGI and Flask's own server, beside one supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import ROOT, blocks
from tests.journeys.serving_jobs import TOKEN, Server, check_file, descendants, environment, printed, started
from tests.process.waiting import PATIENCE_S, wait_gone, wait_until
from tests.process.warm import Interpreter

pytest.importorskip("flask")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is for Linux")]

FIRST = ROOT / "docs/howto/jobs-first.md"
DEPLOY = (ROOT / "docs/howto/jobs-deploy.md").read_text()
UWSGI = Path(sys.executable).with_name("uwsgi")
GUNICORN = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "app:app"]
#: name -> what starts it, and where its log says the port. Each process imports all: two show what the page's four do.
SERVERS = {
    "gunicorn": ([*GUNICORN, "--workers", "2"], r"Listening at: http://127\.0\.0\.1:(\d+)"),
    "gunicorn --preload": ([*GUNICORN, "--workers", "2", "--preload"], r"Listening at: http://127\.0\.0\.1:(\d+)"),
    "gunicorn --threads": (
        [*GUNICORN, "--workers", "2", "--threads", "4", "--worker-class", "gthread"],
        r"Listening at: http://127\.0\.0\.1:(\d+)",
    ),
    "flask run --debug": (
        ["-m", "flask", "--app", "app", "run", "--debug", "--port", "0"],
        r"http://127\.0\.0\.1:(\d+)",
    ),
}


def project(folder: Path) -> None:
    """The files of the first page."""
    for block in blocks(FIRST):
        if block.title:
            (folder / block.title).write_text(block.code)


def settings(folder: Path) -> dict[str, str]:
    return {"FLASK_ALLCORES_STORE": str(folder / "jobs.sqlite"), "FLASK_ALLCORES_TOKEN": TOKEN}


@contextmanager
def supervisor(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`allcores work` on the store, for as long as the block lasts."""
    with (folder / "log-work").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "allcores", "work", "tasks.py", "--store", "jobs.sqlite"],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
        assert process.poll() is None, (folder / "log-work").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 143, (folder / "log-work").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


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


@pytest.mark.parametrize("name", SERVERS)
def test_web_processes_and_one_supervisor(name: str, tmp_path: Path, warm_jobs: Interpreter) -> None:
    command, pattern = SERVERS[name]
    if name.startswith("gunicorn"):
        pytest.importorskip("gunicorn")
        assert "gunicorn --workers 4 app:app" in DEPLOY
    project(tmp_path)
    with supervisor(tmp_path) as work, started(command, tmp_path, pattern, **settings(tmp_path)) as server:
        use(server)
        only_web(server)
        said = printed(warm_jobs.run("work", "tasks.py", "--store", "jobs.sqlite", folder=tmp_path), 6)
        assert str(work.pid) in said
    check_file(tmp_path / "jobs.sqlite")


@pytest.mark.skipif(not UWSGI.exists(), reason="uWSGI is not installed (pip install uwsgi; it is compiled)")
def test_behind_uwsgi(tmp_path: Path) -> None:
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
    with supervisor(tmp_path), started(["-c", program, *words], tmp_path, pattern, **settings(tmp_path)) as server:
        use(server)
        only_web(server)
    check_file(tmp_path / "jobs.sqlite")


def test_gunicorn_reloads_and_loses_processes_under_load(tmp_path: Path) -> None:
    """HUP replaces all web processes, kill -9 one or all of them: jobs that were accepted are done, each once."""
    pytest.importorskip("gunicorn")
    project(tmp_path)
    command, pattern = SERVERS["gunicorn"]
    with supervisor(tmp_path) as work, ExitStack() as stack:
        server = stack.enter_context(started(command, tmp_path, pattern, **settings(tmp_path)))
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
        again = stack.enter_context(started(command, tmp_path, pattern, **settings(tmp_path)))
        wait_until(lambda: all(result(again, each)["state"] == "succeeded" for each in ids))
        assert [result(again, each)["result"] for each in ids] == [15] * 30
        assert work.poll() is None
    check_file(tmp_path / "jobs.sqlite")


def test_flask_has_the_supervisor_as_a_command(tmp_path: Path) -> None:
    """`flask --app app allcores work` takes store and tasks from the app."""
    assert "flask --app app allcores work" in DEPLOY
    project(tmp_path)
    serve, pattern = SERVERS["flask run --debug"]
    command = ["-m", "flask", "--app", "app", "allcores", "work"]
    with started(serve, tmp_path, pattern, **settings(tmp_path)) as server:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment(**settings(tmp_path)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            made = start(server, 100)
            wait_until(lambda: result(server, made)["state"] == "succeeded")
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=PATIENCE_S)
            assert process.returncode in (0, 143, -15), said
            assert b"Traceback" not in said
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
