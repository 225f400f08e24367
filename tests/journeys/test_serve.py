"""`allcores serve` and `allcores jobs`, as a user meets them: HTTP and the shell, and what is left at the end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest
from tests.journeys.serving_jobs import (
    at_shell,
    check_file,
    descendants,
    environment,
    kill_quietly,
    printed,
    serving,
)
from tests.process.waiting import PATIENCE_S, wait_gone, wait_until
from tests.process.warm import Interpreter

pytest.importorskip("flask")
pytest.importorskip("waitress")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is for Linux")]


def test_pages_are_told_of_changes_and_hold_the_end_up_by_nothing(tmp_path: Path, warm_jobs: Interpreter) -> None:
    with serving(tmp_path, interpreter=warm_jobs) as server:
        request = urllib.request.Request(
            server.address + "/events", headers={"Authorization": f"Bearer {server.token}"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as stream:
            assert stream.readline() == b"retry: 2000\n"
            first = int(stream.readline().removeprefix(b"data: "))
            server.submit("add", a=1, b=2)
            assert stream.readline() == b"\n"
            assert int(stream.readline().removeprefix(b"data: ")) > first
            server.process.send_signal(signal.SIGTERM)
            assert stream.read().endswith(b"\n")
            assert server.process.wait(PATIENCE_S) == 143


def test_a_job_from_outside(tmp_path: Path) -> None:
    """Submitted, run, read, listed, cancelled, tried again; with a token, and not without one."""
    with serving(tmp_path) as server:
        status, job, headers = server.ask("/api/jobs", {"task": "add", "arguments": {"a": 40, "b": 2}})
        assert status == 202
        assert job["state"] in {"queued", "running", "succeeded"}
        assert headers["Location"].endswith(f"/api/jobs/{job['id']}")
        done = server.ended(job["id"])
        assert (done["state"], done["result"], done["attempts"], done["crashes"]) == ("succeeded", 42, 1, 0)

        failed = server.submit("fail", text="not today")
        assert server.ended(failed)["state"] == "failed"
        crashed = server.ended(server.submit("crash"))
        assert (crashed["state"], crashed["crashes"]) == ("quarantined", 3)
        assert server.ended(server.submit("endless"))["state"] == "timed_out"

        long = server.submit("sleep", seconds=600)
        wait_until(lambda: server.job(long)["state"] == "running")
        assert server.ask(f"/api/jobs/{long}/cancel", {}, method="POST")[0] in (200, 202)
        assert server.ended(long)["state"] == "cancelled"

        assert server.ask(f"/api/jobs/{failed}/retry", {}, method="POST")[0] in (200, 202)
        assert server.ended(failed)["state"] == "failed"

        status, page, _ = server.ask("/api/jobs?state=failed")
        assert (status, [each["id"] for each in page["jobs"]]) == (200, [failed])
        assert server.ask("/healthz", token=None)[0] == 401
        assert server.ask("/healthz")[0] == 200
        assert server.ask("/metrics")[0] == 200
        assert server.ask("/api/jobs", {"task": "os.system", "arguments": {}})[0] == 422
        for path in ("/", "/api/jobs", "/metrics"):
            assert server.ask(path, token=None)[0] == 401
            assert server.ask(path, token="wrong")[0] == 401
        children = descendants(server.process.pid)
        assert children
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 143
        wait_gone(children)
    check_file(tmp_path / "jobs.sqlite")


def test_the_terminal_twin(tmp_path: Path, warm_jobs: Interpreter) -> None:
    """`allcores jobs` sees and does the same on the same store, for people and for machines; `work` is refused."""
    with serving(tmp_path, interpreter=warm_jobs) as server:

        def jobs(*arguments: str, code: int = 0) -> str:
            return printed(warm_jobs.run("jobs", "--store", "jobs.sqlite", *arguments, folder=tmp_path), code)

        # One in an interpreter of its own, as a user has it.
        made = at_shell(
            tmp_path, "jobs", "--store", "jobs.sqlite", "submit", "--tasks", "tasks.py", "add", "a=1"
        ).strip()
        assert jobs("wait", made).split()[:2] == [made, "succeeded"]
        assert server.job(made)["result"] == 2
        shown = json.loads(jobs("show", made, "--json"))
        assert (shown["state"], shown["result"], shown["arguments"]["a"]) == ("succeeded", 2, 1)
        assert "result 2" in jobs("show", made[:-6])
        assert json.loads(jobs("submit", "add", "a=5", "--key", "k", "--wait", "--json"))["result"] == 6
        again = json.loads(jobs("submit", "add", "a=5", "--key", "k", "--json"))
        assert (again["replayed"], again["state"]) == (True, "succeeded")
        assert "a" in jobs("submit", "--tasks", "tasks.py", "add", "a=one", code=2)
        assert "did you mean 'add'" in jobs("submit", "--tasks", "tasks.py", "ad", "a=1", code=2)

        failed = json.loads(jobs("submit", "fail", "--wait", "--json", code=1).partition("allcores:")[0])
        assert failed["error"]["type"] == "ValueError"
        assert jobs("retry", failed["id"]) == ""
        assert "failed" in jobs("wait", failed["id"], code=1)

        long = jobs("submit", "sleep", "seconds=600").strip()
        assert long in jobs("wait", long, "--timeout", "0.05", code=8)
        assert jobs("cancel", long) == ""
        assert "cancelled" in jobs("wait", long, code=1)
        listed = json.loads(jobs("list", "--state", "cancelled", "--json"))
        assert [each["id"] for each in listed["jobs"]] == [long]
        assert long in jobs("list")
        found = json.loads(jobs("stats", "--json"))
        assert found["by_state"]["succeeded"] == 2
        assert found["total"] == 4
        assert "succeeded" in jobs("stats")
        jobs("rm", long)
        assert "no job" in jobs("show", long, code=2)
        assert "no job" in jobs("cancel", "ffff", code=2)
        assert "is not a valid State" in jobs("list", "--state", "done", code=2)
        # A second supervisor is told which one has the store.
        said = printed(warm_jobs.run("work", "tasks.py", "--store", "jobs.sqlite", folder=tmp_path), 6)
        assert str(server.supervisor()) in said


def test_a_supervisor_that_dies_is_replaced_and_its_jobs_go_on(tmp_path: Path, warm_jobs: Interpreter) -> None:
    with serving(tmp_path, interpreter=warm_jobs) as server:
        first = server.supervisor()
        long = server.submit("sleep", seconds=1)
        wait_until(lambda: server.job(long)["state"] == "running")
        below = descendants(first)
        os.kill(first, signal.SIGKILL)
        wait_gone([first, *below])
        done = server.ended(long)
        assert (done["state"], done["result"]) == ("succeeded", "woken")
        assert server.supervisor() != first
        assert "SIGKILL" in server.log.read_text()


def test_a_console_that_dies_leaves_nothing_running(tmp_path: Path, warm_jobs: Interpreter) -> None:
    """`kill -9` of the command: its supervisor ends too and gives back what it ran, which the next one goes on with."""
    with serving(tmp_path, "--grace", "0.2", interpreter=warm_jobs) as server:
        supervisor = server.supervisor()
        long = server.submit("sleep", seconds=3)
        wait_until(lambda: server.job(long)["state"] == "running")
        below = descendants(supervisor)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        wait_gone([supervisor, *below])
    with serving(tmp_path, interpreter=warm_jobs) as server:
        done = server.ended(long)
        assert (done["state"], done["result"], done["crashes"]) == ("succeeded", "woken", 0)


def test_a_second_command_on_the_same_store_is_its_console_and_takes_over(
    tmp_path: Path, warm_jobs: Interpreter
) -> None:
    with serving(tmp_path, interpreter=warm_jobs) as one:
        first = one.supervisor()
        with serving(tmp_path, interpreter=warm_jobs) as other:
            wait_until(lambda: "another supervisor" in other.log.read_text())
            assert other.supervisor() == first
            made = other.submit("add", a=1)
            assert other.ended(made)["result"] == 2
            one.process.send_signal(signal.SIGTERM)
            one.process.wait(PATIENCE_S)
            assert other.ended(other.submit("add", a=2))["result"] == 3
            assert other.supervisor() != first


def test_ctrl_c_gives_running_jobs_their_time_and_twice_does_not(tmp_path: Path, warm_jobs: Interpreter) -> None:
    with serving(tmp_path, "--grace", "60") as server:
        short = server.submit("sleep", seconds=1)
        wait_until(lambda: server.job(short)["state"] == "running")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 130
    with serving(tmp_path, "--grace", "600", interpreter=warm_jobs) as server:
        assert server.ended(short)["state"] == "succeeded"
        long = server.submit("sleep", seconds=600)
        wait_until(lambda: server.job(long)["state"] == "running")
        children = descendants(server.process.pid)
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: not server.listens())
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 130
        wait_gone(children)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--host", "0.0.0.0"], "give a token of your own"),
        (["--host", "0.0.0.0", "--token", "short"], "at least 16 characters"),
        (["--token", ""], "the token is empty"),
        (["--app", "tasks.py:add"], "has no allcores extension"),
    ],
)
def test_what_is_refused(options: list[str], sentence: str, tmp_path: Path, warm_jobs: Interpreter) -> None:
    (tmp_path / "tasks.py").write_text("from allcores.jobs import task\n@task\ndef add(a: int) -> int: return a\n")
    words = "serve", "tasks.py", "--store", "jobs.sqlite", "--port", "0", *options
    said = printed(warm_jobs.run(*words, folder=tmp_path), 2)
    assert sentence in said


def test_a_port_that_is_taken(tmp_path: Path, warm_jobs: Interpreter) -> None:
    (tmp_path / "tasks.py").write_text("from allcores.jobs import task\n@task\ndef add(a: int) -> int: return a\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = "serve", "tasks.py", "--store", "jobs.sqlite", "--port", port
        said = printed(warm_jobs.run(*words, folder=tmp_path), 2)
    assert f"port {port}" in said


@pytest.mark.parametrize("token", ["12345678901234567890", "a+b&c=d#e%41 and more"])
def test_an_app_of_ones_own_has_the_token_that_is_given(token: str, tmp_path: Path, warm_jobs: Interpreter) -> None:
    """Also one of digits, which Flask would read as a number; the address that is printed opens the console."""
    (tmp_path / "app.py").write_text(
        "from flask import Flask\nfrom allcores.web import Allcores\n"
        "app = Flask('shop')\napp.config.from_prefixed_env()\nAllcores(app, tasks='tasks')\n"
    )
    with serving(tmp_path, "--app", "app.py:app", "--token", token, interpreter=warm_jobs) as server:
        assert server.ask("/jobs/api/counts", token=token)[0] == 200
        printed = re.search(r"http://\S+(/jobs/\?token=\S+)", server.log.read_text())
        assert printed is not None
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(server.address + printed[1], timeout=PATIENCE_S) as answer:
            assert (answer.status, "Overview" in answer.read().decode()) == (200, True)


def test_without_options_there_is_a_token_all_the_same(tmp_path: Path) -> None:
    """The store is the user's own, the token is kept with it, and is the same the next time."""
    (tmp_path / "tasks.py").write_text("from allcores.jobs import task\n@task\ndef add(a: int) -> int: return a\n")
    seen = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "allcores", "serve", "tasks.py", "--port", "0"],
            cwd=tmp_path,
            env=environment(ALLCORES_HOME=str(tmp_path / "home")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        with process.stdout:
            seen.append(process.stdout.readline().partition("?token=")[2].strip())
            kill_quietly(process.pid, signal.SIGTERM)
            process.wait(PATIENCE_S)
    assert len(seen[0]) >= 32
    assert seen[0] == seen[1]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are set")
def test_large_bodies_and_answers_while_temporary_files_have_no_room(tmp_path: Path) -> None:
    """The folder for temporary files may be full while the store's disk is not: bodies are refused with a sentence."""
    with serving(tmp_path) as server:
        for number in range(5):
            assert server.ask("/api/jobs", {"task": "fail", "arguments": {"text": f"{number}" * 300_000}})[0] == 202
        pid = server.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4_096, resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]))
        host = server.address.removeprefix("http://")
        headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "multipart/form-data; boundary=b"}
        head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        # The first is in waitress's memory, and in a temporary file of werkzeug's.
        for size in (515_000, 600_000, 3_000_000):
            body = head + b"x" * size + b"\r\n--b--\r\n"
            for sent in (body, [body[:400_000], body[400_000:]]):
                connection = http.client.HTTPConnection(host, timeout=PATIENCE_S)
                with contextlib.closing(connection):
                    connection.request("POST", "/api/jobs", sent, headers)
                    answer = connection.getresponse()
                    told = json.loads(answer.read())["error"]
                assert (answer.status, told["code"]) == (507, "no_room"), told
                assert tempfile.gettempdir() in told["message"] and "too large" in told["message"]
        status, page, _ = server.ask("/api/jobs")
        assert (status, len(page["jobs"])) == (200, 5)
        assert "Traceback" not in server.log.read_text()
