"""Nobody outlives anybody, and nothing hangs: ends of parents, forks, interrupts, interpreters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import allcores
from allcores.errors import PoolClosed

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
METHODS = ["template", "spawn", "forkserver", "fork"]

PARENT = """
import os, subprocess, sys, time
import allcores

def work(folder):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    with open(os.path.join(folder, "pids"), "a") as file:
        file.write(f"{os.getpid()} {child.pid} {os.getppid()}\\n")
    time.sleep(300)

pool = allcores.Pool(2, start_method=sys.argv[2])
futures = [pool.submit(work, sys.argv[1]) for _ in range(2)]
time.sleep(300)
"""

INTERRUPTED = """
import sys, time
import allcores

def work(number):
    time.sleep(0.3 if number < 2 else float(sys.argv[1]) if len(sys.argv) > 1 else 0.3)
    return number

pool = allcores.Pool(2)
pool.map(abs, range(10))
print("ready", flush=True)
try:
    pool.map(work, range(1000), chunk=1)
except KeyboardInterrupt as interrupt:
    print(type(interrupt).__name__, getattr(interrupt, "done", None), flush=True)
pool.close()
"""


def start(code: str, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    command = [sys.executable, "-c", code, *words]
    # A session of its own: a signal to it reaches nobody else.
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rsplit(b")", 1)[1].split()[0] != b"Z"
    except OSError:
        return False


def wait_until(condition: object, seconds: float) -> bool:
    """Look until `condition()` holds, at most `seconds`."""
    assert callable(condition)
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > until:
            return False
        pause.wait(0.01)
    return True


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_parent_leaves_nothing(tmp_path: Path, method: str) -> None:
    """After kill -9 of the parent its workers, its template and what tasks have forked are gone."""
    parent = start(PARENT, str(tmp_path), method)
    pids = tmp_path / "pids"
    try:
        assert wait_until(lambda: pids.exists() and len(pids.read_text().splitlines()) == 2, 30)
        found = {int(word) for word in pids.read_text().split()} - {parent.pid}
        assert all(map(alive, found))
    finally:
        parent.kill()
        parent.communicate()
    # A second is promised; a machine that is busy with other tests gets some more.
    assert wait_until(lambda: not any(map(alive, found)), 5), [pid for pid in found if alive(pid)]


def test_ctrl_c_finishes_what_runs_and_gives_what_is_done() -> None:
    """The first Ctrl-C during map: running items finish, their results are inside the exception."""
    process = start(INTERRUPTED)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    threading.Event().wait(0.1)  # into the middle of the first items, which last 0.3 s
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    name, done = out.strip().split(" ", 1)
    assert name == "Interrupted"
    assert done in ("[0, 1]", "[0, 1, 2, 3]", "[]", "[0]", "[0, 1, 2]")
    assert process.returncode == 0


def test_ctrl_c_twice_stops_now() -> None:
    """The second Ctrl-C does not wait for items that take minutes."""
    process = start(INTERRUPTED, "300")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    threading.Event().wait(1.0)  # the first two items are done, two that last 300 s run
    process.send_signal(signal.SIGINT)
    threading.Event().wait(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert "Interrupt" in out
    assert process.returncode == 0


def test_a_forked_copy_of_the_parent_may_not_use_its_pool() -> None:
    """It gets a sentence; the parent's pool goes on, and ends although the copy lives."""
    with allcores.Pool(2) as pool:
        assert pool.map(abs, [-1]) == [1]
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                pool.map(abs, [-1])
            except PoolClosed as error:
                code = 0 if "forked" in str(error) else 2
            finally:
                os.close(write)
                os.read(read, 1)
                os._exit(code)
        os.close(read)
        assert pool.map(abs, [-2]) == [2]
    os.close(write)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_pool_that_is_dropped_closes_itself() -> None:
    """No close(), no block: the workers end all the same (the leak check looks)."""
    pool = allcores.Pool(2)
    assert pool.map(abs, [-3]) == [3]
    del pool


@pytest.mark.parametrize(
    "code",
    [
        "import allcores; pool = allcores.Pool(2); print(pool.map(abs, [-1]))",
        "import allcores; print(allcores.map(abs, [-1]))",
        "import allcores, itertools; s = allcores.imap(abs, itertools.count()); print([next(s)+1])",
        "import allcores, time; p = allcores.Pool(2); f = p.submit(time.sleep, 300); print([1])",
        "import allcores; p = allcores.Pool(2); print([1]); raise SystemExit",
    ],
)
def test_an_interpreter_ends_whatever_is_open(code: str) -> None:
    """Unclosed pools, streams and calls do not keep a program alive."""
    process = start(code)
    out, _ = process.communicate(timeout=30)
    assert (out, process.returncode) == ("[1]\n", 0)


def test_other_threads_with_locks_do_not_matter() -> None:
    """Threads that hold locks all the time do not deadlock workers that are started meanwhile."""
    import logging

    stop = threading.Event()
    log = logging.getLogger("allcores.test.noise")
    log.addHandler(logging.NullHandler())

    def noise() -> None:
        while not stop.is_set():
            log.error("noise")

    threads = [threading.Thread(target=noise) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            with allcores.Pool(2) as pool:
                assert pool.map(log_and_square, range(20)) == [n * n for n in range(20)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def log_and_square(number: int) -> int:
    import logging

    logging.getLogger("allcores.test.noise").debug("square %d", number)
    return number * number
