"""The programs of examples/web behind real servers: right answers, deadlines, and an end that leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.process.scripts import PATHS
from tests.process.waiting import PATIENCE_S, listens

WEB = Path(__file__).parents[2] / "examples" / "web"
GUNICORN = "gunicorn --bind 127.0.0.1:0 --workers 2 --threads 4"
UVICORN = "uvicorn fastapi_app:app --port 0"
FLASK = [
    "flask --app flask_app run --port 0",
    f"{GUNICORN} flask_app:app",
    f"{GUNICORN} --preload flask_app:app",
]
FASTAPI = [UVICORN, f"{UVICORN} --workers 2"]
DJANGO = [f"{GUNICORN} django_app:application", f"{GUNICORN} --preload django_app:application"]
#: Of each program and each kind of server one is asked for what is too much, which costs two seconds of a core. With
#: --preload rather than without: a fork may lose what was there before it.
WITH_TOO_MUCH = {FLASK[0], FLASK[2], FASTAPI[0], DJANGO[1]}
#: more than two seconds on any machine, ended by the deadline
TOO_MUCH = 100_000_000


@contextmanager
def serving(command: str, log: Path) -> Iterator[str]:
    """A server for as long as the block lasts: its address. Then it is asked to end, as by an init system."""
    program, *arguments = command.split()
    for needed in (program, re.findall(r"(flask|fastapi|django)_app", command)[0]):
        pytest.importorskip(needed)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([*PATHS, str(WEB)]), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", program, *arguments],
            cwd=log.parent,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        address = None
        until = time.monotonic() + PATIENCE_S
        while address is None and process.poll() is None and time.monotonic() < until:
            address = re.search(r"http://127\.0\.0\.1:([1-9]\d*)", log.read_text())
            if address is not None and not listens(int(address[1])):
                # uvicorn's parent says the port before its server processes listen there
                address = None
            time.sleep(0.02)
        assert address is not None, log.read_text()
        yield address[0]
        process.send_signal(signal.SIGTERM)
        # 0, or the signal where a server passes it on to itself, as uvicorn and Flask's do
        assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM), log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def ask(address: str, body: object = None) -> tuple[int, str]:
    """Status and text of an answer; with a body it is a POST."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.slow
@pytest.mark.parametrize("command", [*FLASK, *FASTAPI, *DJANGO])
def test_a_page_with_heavy_work_behind_it(command: str, tmp_path: Path) -> None:
    with serving(command, tmp_path / "log") as address, ThreadPoolExecutor(8) as clients:
        answers = clients.map(ask, [f"{address}/primes/{limit}" for limit in [10, 100, 1000] * 4])
        found = [(status, json.loads(text).get("primes")) for status, text in answers]
        assert found == [(200, 4), (200, 25), (200, 168)] * 4
        if command in WITH_TOO_MUCH:
            # One that never ends holds nobody up, and gets an answer itself.
            endless = clients.submit(ask, f"{address}/primes/{TOO_MUCH}")
            assert ask(f"{address}/primes/100") == ask(f"{address}/primes/100")
            status, text = endless.result(PATIENCE_S)
            assert status == 503
            assert "this takes longer than 2 s" in text
        if command in FASTAPI:
            is_streamed(address)


def is_streamed(address: str) -> None:
    """An answer of several results comes as lines."""
    status, text = ask(f"{address}/primes", [10, 100, 1000])
    assert status == 200
    assert [json.loads(line)["primes"] for line in text.splitlines()] == [4, 25, 168]
