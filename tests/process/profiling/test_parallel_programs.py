"""Programs that use several processes or threads already: one report of all of them, and never a hang."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.installed import needed
from tests.process.profiling.profiled import plain, profile
from tests.process.scripts import finish, running

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="threads have CPU clocks there"),
    pytest.mark.slow,
]

WORK = """
import sys

def work(n):
    total = 0
    for i in range(n):
        total += i * i % 7
    return total
"""
POOL = f"""{WORK}
import multiprocessing
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        print(sum(pool.map(work, [200_000] * 16)))
"""
EXECUTOR = f"""{WORK}
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
if __name__ == "__main__":
    with ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[1])) as pool:
        print(sum(pool.map(work, [200_000] * 16)))
"""
JOBLIB = f"""{WORK}
from joblib import Parallel, delayed
if __name__ == "__main__":
    print(sum(Parallel(n_jobs=2)(delayed(work)(200_000) for _ in range(16))))
"""
OURS = f"""{WORK}
import allcores
if __name__ == "__main__":
    with allcores.Pool(2, start_method=sys.argv[1]) as pool:
        print(sum(pool.map(work, [200_000] * 16)))
"""
PROGRAMS = {
    **{f"Pool, {method}": (POOL, method, "worker of Pool") for method in ("fork", "spawn", "forkserver")},
    **{f"executor, {method}": (EXECUTOR, method, "worker of ProcessPoolExecutor") for method in ("fork", "spawn")},
    "joblib": (JOBLIB, "", "worker of joblib"),
    **{f"allcores, {method}": (OURS, method, "worker of allcores") for method in ("template", "spawn")},
}


@pytest.mark.parametrize(("source", "method", "role"), PROGRAMS.values(), ids=PROGRAMS)
def test_workers_are_in_the_report(source: str, method: str, role: str, tmp_path: Path) -> None:
    """It ends as it does alone, and each worker has a line, whose parts add up to the time that it lived."""
    if "joblib" in source:
        pytest.importorskip("joblib")
    done = profile(source, tmp_path, method)
    assert done.ended == plain(source, tmp_path, method)
    processes = done.found["processes"]
    assert processes[0]["role"] == "program"
    workers = [each for each in processes if each["role"] == role]
    # Who gets how much of so little work is up to the pool: one worker may do it all, and another one end as it starts.
    assert 1 <= len(workers) <= 2, [each["role"] for each in processes]
    assert any(each["main_thread"]["computing"] > 0 for each in workers)
    check_sums(processes)
    assert not [each for each in done.found["candidates"] if each["pays"]]
    assert role in (tmp_path / "report.txt").read_text()


def check_sums(processes: list[dict[str, Any]]) -> None:
    """What main threads did adds up to the seconds of their processes, within 2 %.

    But for the time until the sampler has its first turn, and after its last: on a busy machine that is any part of so
    short a life, so what is missing may be more; more than there was cannot be.
    """
    for each in processes:
        total = sum(each["main_thread"].values())
        assert 0 < total <= 1.02 * each["seconds"] + 0.03, each
        assert total >= 0.98 * each["seconds"] - 0.25, each


PICKLING = """
import multiprocessing
def same(rows):
    return rows
if __name__ == "__main__":
    rows = [{"a": i, "b": str(i), "c": [i, i]} for i in range(40_000)]
    with multiprocessing.Pool(1) as pool:
        for _ in range(8):
            pool.apply(same, (rows,))
"""


def test_pickling_is_told_apart(tmp_path: Path) -> None:
    """A worker that gets and gives large objects, and does nothing with them, is seen to pickle."""
    done = profile(PICKLING, tmp_path)
    worker = next(each for each in done.found["processes"] if each["role"] == "worker of Pool")
    parts = worker["main_thread"]
    assert parts["pickling"] > 5 * parts["computing"]


THREADS = """
import hashlib, threading
data = b"x" * 4_000_000
def work():
    for _ in range(120):
        hashlib.sha256(data).hexdigest()
threads = [threading.Thread(target=work) for _ in range(2)]
for each in threads: each.start()
for each in threads: each.join()
print("done")
"""


def test_threads_are_in_the_report(tmp_path: Path) -> None:
    """What threads compute is told beside what the main thread waits."""
    done = profile(THREADS, tmp_path)
    assert done.ended.out == "done\n"
    program = done.found["processes"][0]
    assert program["other_threads"]["computing"] > 0.5 * program["cpu_seconds"]
    assert not [each for each in done.found["candidates"] if each["pays"]]


FORKS = """
import os, sys, warnings
warnings.simplefilter("error")
for number in range(20):
    child = os.fork()
    if child == 0:
        os._exit(number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == number
print("done")
"""


def test_many_forks(tmp_path: Path) -> None:
    """Children that end at once neither hang nor warn, though the parent has a thread more."""
    assert profile(FORKS, tmp_path).ended == plain(FORKS, tmp_path)


HANGS = f"""{WORK}
import multiprocessing, time
def endless(n):
    end = time.process_time() + 0.3
    while time.process_time() < end:
        work(1000)
    print("working", flush=True)
    while True:
        work(1000)
if __name__ == "__main__":
    with multiprocessing.Pool(1) as pool:
        pool.map(endless, [1])
"""


def test_ctrl_c_in_a_pool_is_reported(tmp_path: Path) -> None:
    """Ctrl-C ends a program with a pool as ever, and what its workers did until then is told."""
    (tmp_path / "script.py").write_text(HANGS)
    command = ["-m", "allcores", "profile", "--report", "report.txt", "script.py"]
    with running(command, folder=tmp_path, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"working\n"
        os.killpg(process.pid, signal.SIGINT)
        finish(process)
    assert "worker of Pool" in (tmp_path / "report.txt").read_text()


def test_a_killed_program_is_reported(tmp_path: Path) -> None:
    """SIGKILL of the program itself: the report is of what was sampled, and the command ends by the same signal."""
    source = (
        f"{WORK}\nimport os, signal\nfor _ in range(20):\n    work(200_000)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = profile(source, tmp_path)
    assert done.ended.code == -signal.SIGKILL
    assert done.found["status"] == -signal.SIGKILL
    assert done.found["samples"] > 10


STARTER = """
import os, sys, time
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
os.execv(sys.executable, [sys.executable, "work.py"])
"""
STARTED = f"""{WORK}
totals = []
for n in range(150):
    totals.append(work(200_000 + n))
print(sum(totals))
"""


def test_a_program_that_becomes_another_is_that(tmp_path: Path) -> None:
    """What starts it by `exec` (a command of a package, say) is sampled for a moment; the loops are the other one's."""
    (tmp_path / "work.py").write_text(STARTED)
    done = profile(STARTER, tmp_path)
    assert done.ended == plain(STARTER, tmp_path)
    assert Path(done.first["file"]).name == "work.py"
    assert {each["role"] for each in done.found["processes"]} == {"program"}


BOTH = f"""{WORK}
import multiprocessing
if __name__ == "__main__":
    totals = []
    for n in range(180):
        totals.append(work(200_000 + n))
    with multiprocessing.Pool(2) as pool:
        print(sum(pool.map(work, [200_000] * 20)) + sum(totals))
"""


def test_its_page_has_loops_changes_and_processes_and_loads_nothing(tmp_path: Path) -> None:
    needed("jinja2")
    done = profile(BOTH, tmp_path, options=("--html", "page.html"))
    assert done.ended.code == 0, done.ended.err
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert "http://" not in text and "https://" not in text
    assert "prefers-color-scheme: dark" in text
    assert "1. script.py:13, for loop: " in text
    assert "allcores.imap(" in text
    assert "Where the seconds of cores went" in text
    for each in done.found["processes"]:
        assert f"{each['pid']} {each['role']}" in text


def test_a_page_that_cannot_be_written_is_refused_before_the_program_runs(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("open('ran', 'w')")
    arguments = ["-m", "allcores", "profile", "--html", "nowhere/page.html", "script.py"]
    with running(arguments, folder=tmp_path) as process:
        ended = finish(process)
    assert ended.code == 2
    assert "nowhere/page.html cannot be written" in ended.err
    assert not (tmp_path / "ran").exists()
