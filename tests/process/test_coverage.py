"""Lines that run in workers are counted by coverage.py, with `patch = ["subprocess"]` alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process.scripts import PATHS
from tests.process.waiting import PATIENCE_S

pytest.importorskip("coverage")

WORK = """\
def in_pool(n):
    value = n + 1
    return value


def on_the_module(n):
    value = n + 2
    return value


def in_executor(n):
    value = n + 3
    return value


def in_recycled(n):
    value = n + 4
    return value


def never(n):
    value = n + 5
    return value
"""
PROGRAM = """\
import allcores
import work

with allcores.Pool(2{options}) as pool:
    assert pool.map(work.in_pool, range(50))[1] == 2
with allcores.Pool(1, limits=allcores.Limits(items_per_worker=1){options}) as pool:
    assert pool.map(work.in_recycled, range(2)) == [4, 5]
assert allcores.map(work.on_the_module, range(50))[1] == 3
with allcores.Executor(1) as executor:
    assert executor.submit(work.in_executor, 1).result() == 4
"""


def measure(folder: Path, options: str) -> list[int]:
    """The lines of `work` that were not seen to run, of a program that is measured."""
    (folder / "work.py").write_text(WORK)
    (folder / "program.py").write_text(PROGRAM.format(options=options))
    (folder / "pyproject.toml").write_text('[tool.coverage.run]\npatch = ["subprocess"]\nsource = ["work"]\n')
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
    # What measures this suite, if anything does, must not have a say.
    for name in [name for name in environ if name.startswith("COVERAGE_")]:
        del environ[name]
    for command in ("run program.py", "combine -q", "json -q"):
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *command.split()],
            cwd=folder,
            env=environ,
            timeout=PATIENCE_S,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    [file] = json.loads((folder / "coverage.json").read_text())["files"].values()
    missing: list[int] = file["missing_lines"]
    return missing


@pytest.mark.parametrize("start_method", ["template", "spawn", "fork"])
def test_lines_that_ran_in_workers_are_counted(tmp_path: Path, start_method: str) -> None:
    first = WORK.splitlines().index("    value = n + 5") + 1
    assert measure(tmp_path, f", start_method={start_method!r}") == [first, first + 1]


def test_a_forked_worker_leaves_the_only_data_file_alone(tmp_path: Path) -> None:
    """Without a file for each process, what a worker saved would stand in for what the program saves."""
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "program.py").write_text(
        "import os, coverage\n"
        "measured = coverage.Coverage(data_file='only', config_file=False)\n"
        "measured.start()\n"
        "import allcores, work\n"
        "with allcores.Pool(1, start_method='fork') as pool:\n"
        "    pool.map(work.in_pool, [1])\n"
        "print(os.path.exists('only'))\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environ, timeout=PATIENCE_S, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
