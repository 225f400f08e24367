"""Batch jobs as nodes: what is given to SLURM, and that it makes a node. Jobs are run by what stands in for SLURM."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process.scripts import PATHS

# Its import takes Ctrl-C for itself, so it is not imported here.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("dask_jobqueue") is None, reason="needs dask-jobqueue")

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "clusters"

#: What stands in for SLURM: each job is a session of its own on this machine, and its number is that of the process.
#: The script is copied, as SLURM does: it is removed when it was given.
SBATCH = (
    '#!/bin/sh\ncp "$1" "$0.job"\nsetsid bash "$0.job" >/dev/null 2>&1 </dev/null &\necho "Submitted batch job $!"\n'
)
SCANCEL = '#!/bin/sh\nkill -- "-$1"\n'


def printed(code: str, folder: Path) -> str:
    """What a program prints that has the example."""
    program = folder / "program.py"
    program.write_text("from slurm import slurm\n" + code)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*PATHS, str(EXAMPLES)]),
            "PATH": f"{folder}:{os.environ['PATH']}",
            "DASK_DISTRIBUTED__DASHBOARD__LINK": "",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_script_of_a_job_asks_for_one_node_with_all_of_its_cores(tmp_path: Path) -> None:
    """As the page shows it."""
    script = printed(
        "if __name__ == '__main__':\n    with slurm(0) as cluster:\n        print(cluster.job_script())", tmp_path
    )
    lines = script.split("\n")
    assert [line for line in lines if line.startswith("#SBATCH")] == [
        "#SBATCH -J dask-worker",
        "#SBATCH -p normal",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=16",
        "#SBATCH --mem=60G",
        "#SBATCH -t 02:00:00",
        "#SBATCH --exclusive",
    ]
    command = next(line for line in lines if "dask_worker" in line)
    assert command.startswith(f"{sys.executable} -m distributed.cli.dask_worker tcp://")
    assert re.search(r" --nthreads 16 --memory-limit \S+ --nanny --death-timeout 60$", command.strip())
    assert "--nworkers" not in command
    page = (EXAMPLES.parents[1] / "howto" / "clusters.md").read_text()
    assert "\n".join(line for line in lines if line.startswith("#SBATCH")) in page
    assert command.strip().partition(" --nthreads")[2] in page


def test_a_job_with_that_script_is_a_node(tmp_path: Path) -> None:
    """The pool has it as soon as it runs, and the job ends with the cluster."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    code = """
import allcores
def square(n):
    return n * n
if __name__ == "__main__":
    with slurm(1) as cluster, allcores.Pool(1, backend="dask", address=cluster) as pool:
        print(sum(pool.imap(square, range(1000))), pool.submit(square, 12).result())
"""
    assert printed(code, tmp_path) == "332833500 144\n"
