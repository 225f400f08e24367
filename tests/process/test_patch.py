"""Programs as they are, whose pools run on allcores."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.pool
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process.pool_tasks import square
from tests.process.scripts import environment

import allcores
from allcores.adapters import multiprocessing as drop_in

PROGRAM = """
import os, sys
import multiprocessing.pool
from multiprocessing import Pool, get_context
from concurrent.futures import ProcessPoolExecutor

def die_at_three(number):
    if number == 3:
        os._exit(1)
    return number

if __name__ == "__main__":
    with Pool(2) as pool:
        assert isinstance(pool, multiprocessing.pool.Pool)
        results = [pool.apply_async(die_at_three, (number,)) for number in range(6)]
        for result in results:
            try:
                print(result.get(60))
            except Exception as error:
                print(type(error).__name__)
    with get_context("spawn").Pool(1) as pool:
        print(pool.map(abs, [-1]))
    with ProcessPoolExecutor(1) as executor:
        print(executor.submit(abs, -2).result(60), sys.argv[1:], __name__)
"""
PRINTED = "0\n1\n2\nWorkerLost\n4\n5\n[1]\n2 ['--word'] __main__\n"


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "allcores.patch", *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("start", [["program.py"], ["-m", "program"]])
def test_a_program_runs_as_it_is(start: list[str], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run("--report", "report.html", *start, "--word", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, PRINTED), done.stderr
    lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
    assert lines[:5] == [
        "allcores.patch: what ran on allcores",
        "multiprocessing.Pool 2 pools, 7 tasks",
        "ProcessPoolExecutor 1 pool, 1 task",
        "joblib not imported",
        "crashes survived 1 task lost with its worker; all others went on",
    ]
    assert lines[6:] == ["report report.html, of the busiest of 3 pools"]
    assert "<html" in (tmp_path / "report.html").read_text()


def test_a_program_that_fails_says_so_and_its_exit_code_is_kept(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("raise SystemExit(7)")
    done = run("program.py", folder=tmp_path)
    assert done.returncode == 7
    assert "what ran on allcores" in done.stderr
    assert "not used" in done.stderr
    assert run("--quiet", "program.py", folder=tmp_path).stderr == ""


@pytest.mark.parametrize("wrong", [[], ["--unknown"], ["missing.py"], ["--report"]])
def test_what_makes_no_sense_is_said(wrong: list[str], tmp_path: Path) -> None:
    done = run(*wrong, folder=tmp_path)
    assert done.returncode == 2, "1 is what the script ends with that fails"
    assert "allcores.patch" in done.stderr
    assert "Traceback" not in done.stderr


def test_everything_is_restored() -> None:
    base = multiprocessing.context.BaseContext
    before = (base.Pool, multiprocessing.Pool, multiprocessing.pool.Pool, concurrent.futures.ProcessPoolExecutor)
    with allcores.patch(summary=False) as patched:
        assert issubclass(multiprocessing.pool.Pool, drop_in.Pool)
        with multiprocessing.Pool(1) as pool, concurrent.futures.ProcessPoolExecutor(1) as executor:
            assert pool.map(square, [2]) == [4]
            assert isinstance(executor, allcores.Executor)
        with pytest.raises(allcores.UsageError, match="already"):
            allcores.patch()
    after = (base.Pool, multiprocessing.Pool, multiprocessing.pool.Pool, concurrent.futures.ProcessPoolExecutor)
    assert after == before
    assert "1 pool, 1 task" in patched.summary()


JOBLIB = """
import joblib
from joblib import Parallel, delayed

if __name__ == "__main__":
    print(Parallel(n_jobs=2)(delayed(abs)(-number) for number in range(3)))
    print(type(joblib.parallel.get_active_backend()[0]).__name__)
"""


def test_joblib_has_another_default_as_soon_as_it_is_imported(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    (tmp_path / "program.py").write_text(JOBLIB)
    done = run("program.py", folder=tmp_path)
    assert done.stdout == "[0, 1, 2]\nAllcoresBackend\n", done.stderr
    assert "joblib                default backend: allcores" in done.stderr


def test_joblib_has_its_own_default_again() -> None:
    joblib = pytest.importorskip("joblib")
    before = joblib.parallel.DEFAULT_BACKEND
    with allcores.patch(summary=False) as patched:
        assert joblib.parallel.DEFAULT_BACKEND == "allcores"
    assert before == joblib.parallel.DEFAULT_BACKEND
    assert "default backend: allcores" in patched.summary()


OTHERS = """
import multiprocessing, multiprocessing.pool
from multiprocessing.pool import ThreadPool

before = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1)

import allcores
allcores.patch(summary=False)

def inner(count):
    with multiprocessing.Pool(1) as pool:
        return pool.map(abs, range(count))

class Nestable(multiprocessing.pool.Pool):
    def __init__(self, *args, **more):
        super().__init__(*args, context=multiprocessing.get_context("fork"), **more)

if __name__ == "__main__":
    print(before.map(abs, [-1, -2], 1), isinstance(before, multiprocessing.pool.Pool))
    before.terminate()
    before.join()
    with ThreadPool(2) as threads:
        print(threads.map(abs, [-1]), list(threads.imap(abs, [-2])), isinstance(threads, multiprocessing.pool.Pool))
    with Nestable(1) as pool:
        print(pool.map(inner, [2]), type(pool).__name__, isinstance(pool, ThreadPool))
"""


def test_what_stands_on_the_original_goes_on(tmp_path: Path) -> None:
    """Thread pools, pools that were made before, and classes that programs derive."""
    (tmp_path / "program.py").write_text(OTHERS.replace("before = ", "if __name__ == '__main__': before = "))
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "[1, 2] True\n[1] [2] True\n[[0, 1]] Nestable False\n", done.stderr
