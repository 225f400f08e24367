"""A process that `multiprocessing` has made ends as a program does, as far as its pools are concerned."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process import scripts

SCRIPT = """
import multiprocessing, sys, threading
from multiprocessing import util
from pathlib import Path
import allcores

def write(path): Path(path).touch()

def calls(folder):
    global kept
    kept = allcores.Executor(1)
    for number in range(3):
        kept.submit(write, f"{folder}/call {number}")

def tears_down(folder):
    global kept
    kept = allcores.Pool(1, teardown=lambda: write(f"{folder}/teardown"))
    kept.map(abs, [1])

def goes_on(folder):
    ending = threading.Event()
    util.Finalize(None, ending.set, exitpriority=200)
    def maps():
        ending.wait(60)
        allcores.map(write, [f"{folder}/thread"])
    allcores.map(abs, [1])
    threading.Thread(target=maps).start()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    folder = Path(sys.argv[2])
    for function in (calls, tears_down, goes_on):
        process = context.Process(target=function, args=(str(folder),))
        process.start()
        process.join()
        assert process.exitcode == 0
    print(sorted(each.name for each in folder.iterdir()))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_calls_are_done_and_workers_leave_in_good_order(tmp_path: Path, method: str) -> None:
    """Such a process ends without `atexit`, by two of three start methods."""
    folder = tmp_path / "done"
    folder.mkdir()
    ending = scripts.run(SCRIPT, tmp_path, method, str(folder))
    done = ["call 0", "call 1", "call 2", "teardown", "thread"]
    assert (ending.out, ending.err, ending.code) == (f"{done}\n", "", 0)
