"""The suite's leak check sees what it should, and nothing else: pytest is run on tests that leak."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

TESTS = """
import os, pytest, signal, subprocess, sys, threading

kept = []

def test_clean_before():
    pass

def test_leaks_a_process():
    kept.append(subprocess.Popen(["sleep", "30"]))

def test_leaks_an_orphan():
    subprocess.run("sleep 30 & exit", shell=True)

def test_leaks_an_orphan_that_was_only_forked():
    if os.fork() == 0:
        if os.fork() == 0:
            os.closerange(0, 100)
            threading.Event().wait(30)
        os._exit(0)
    os.wait()

def test_leaks_a_zombie():
    os.fork() or os._exit(0)

def test_leaks_a_thread():
    threading.Thread(target=threading.Event().wait, args=(30,), daemon=True).start()

def test_leaks_a_pipe():
    os.pipe()

def test_leaks_a_handler():
    signal.signal(signal.SIGINT, lambda *_: None)

def test_leaks_shared_memory():
    open(f"/dev/shm/allcores-leak-check-{os.getppid()}", "w").close()

def test_clean_beside_another_program():
    open("go", "w").close()  # waits for whoever opens the other end
    open("made").close()

def test_clean_since_it_ends_soon():
    process = subprocess.Popen(["sleep", "0.1"])
    threading.Timer(0.1, process.wait).start()

@pytest.mark.leaks_allowed
def test_clean_since_allowed():
    os.pipe()

@pytest.fixture(scope="module")
def pipe():
    ends = os.pipe()
    yield ends
    os.close(ends[0]), os.close(ends[1])

def test_clean_with_a_fixture(pipe):
    os.write(pipe[1], b"x")

def test_clean_with_a_cycle():
    files = [os.fdopen(end) for end in os.pipe()]
    files.append(files)
"""

#: makes a named semaphore during the test of that name, and keeps it
PEER = """
import multiprocessing, sys
open("go").close()
lock = multiprocessing.get_context("spawn").Lock()
open("made", "w").close()
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_each_leak_fails_its_own_test(tmp_path: Path) -> None:
    """A test that leaves something is named and told what it left; those around it pass."""
    # The leaked block is passed over by the checks of everybody else, who may run at the same time.
    checker = CONFTEST.read_text().replace("PATIENCE_S = 60.0", "PATIENCE_S = 0.5").replace("|leak-check", "")
    (tmp_path / "conftest.py").write_text(checker)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\nmarkers = leaks_allowed: none\npythonpath = {CONFTEST.parents[1]}\n"
    )
    os.mkfifo(tmp_path / "go")
    os.mkfifo(tmp_path / "made")
    peer = subprocess.Popen([sys.executable, "-c", PEER], cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-rE", "-p", "no:cacheprovider", "test_it.py"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        try:
            peer.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            peer.kill()
            peer.communicate()
        Path(f"/dev/shm/allcores-leak-check-{os.getpid()}").unlink(missing_ok=True)
    failed = re.findall(r"^ERROR test_it.py::(\w+)", done.stdout, re.MULTILINE)
    assert failed == re.findall(r"test_leaks\w+", TESTS), done.stdout
    assert f"{TESTS.count('def test_')} passed, {len(failed)} errors" in done.stdout, done.stdout
    for what in [
        "sleep 30",
        "a zombie that nobody waited for",
        "<Thread(",
        "the handler of SIGINT <function test_leaks_a_handler",
        "2 × descriptor of pipe:",
        "/dev/shm/allcores-leak-check",
    ]:
        assert what in done.stdout, done.stdout
