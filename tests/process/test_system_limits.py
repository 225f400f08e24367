"""Limits of the system and a working folder that is gone end a command with one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process import scripts

SCRIPT = "def call(item):\n    return {'text': 'x' * 2000, 'n': item}\n"


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A shell command in a folder with a script and an input; `$A` is allcores."""
    (folder / "work.py").write_text(SCRIPT)
    (folder / "in.txt").write_text("line\n" * 2000)
    environment = {**os.environ, "ALLCORES_HOME": str(folder / "home"), "A": f"{sys.executable} -m allcores"}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=55
    )  # fmt: skip


@pytest.mark.parametrize("more", ["-o o.jsonl", "-o o.db --no-journal", "-o o.jsonl --unordered", "> o.txt"])
def test_a_limit_on_the_size_of_files(tmp_path: Path, more: str) -> None:
    """Whatever meets the limit first: one sentence, and the output is not half there."""
    found = run(tmp_path, f"ulimit -f 1024; $A run work.py:call in.txt -q --backend threads {more}")
    assert found.returncode == 4, found.stderr
    assert "File too large" in found.stderr or "disk I/O error" in found.stderr
    assert "Traceback" not in found.stderr and "make room" not in found.stderr
    if "unordered" not in more and ">" not in more:
        assert not (tmp_path / "o.jsonl").exists()


def test_a_limit_below_what_workers_need(tmp_path: Path) -> None:
    """Worker processes share memory in a file without a name, which the limit counts as well."""
    found = run(tmp_path, "ulimit -f 8; $A run work.py:call in.txt -q -o o.jsonl")
    assert found.returncode == 5, found.stderr
    assert found.stderr.count("\n") == 1 and "ulimit -f" in found.stderr


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    """The same sentence for each way to run."""
    gone = tmp_path / "gone"
    gone.mkdir()
    work = tmp_path / "work.py"
    found = run(tmp_path, f"cd gone && rmdir ../gone && $A run {work}:call {tmp_path}/in.txt -o {tmp_path}/o.jsonl")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1), found.stderr
    assert "the working folder is gone" in found.stderr


NO_MORE_FILES = """
import gc, os, resource, sys
import allcores

MOST = 150
resource.setrlimit(resource.RLIMIT_NOFILE, (MOST, MOST))
allcores.map(abs, [1])
for left in range(40):
    taken = []
    while MOST - sum(os.path.lexists(f"/dev/fd/{number}") for number in range(MOST)) > left:
        taken.append(os.dup(0))
    before = {number for number in range(MOST) if os.path.lexists(f"/dev/fd/{number}")}
    kind = ""
    try:
        with allcores.Pool(1) as pool:
            pool.map(abs, [1])
    except BaseException as error:
        kind = type(error).__name__
    pool = None
    gc.collect()
    after = {number for number in range(MOST) if os.path.lexists(f"/dev/fd/{number}")}
    print(kind or "ok", len(after - before))
    for number in taken:
        os.close(number)
    if not kind:
        break
"""


def test_a_pool_that_gets_too_few_descriptors_leaves_none_open(tmp_path: Path) -> None:
    """However many are left: one kind of error, and nothing that would make it fewer the next time."""
    ending = scripts.run(NO_MORE_FILES, tmp_path)
    assert (ending.err, ending.code) == ("", 0)
    assert ending.lines[-1] == "ok 0" and set(ending.lines[:-1]) == {"BrokenPool 0"}
