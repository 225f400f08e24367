"""What is garbage in the program is the program's to finalize: forked workers leave it alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process import scripts

PROGRAM = """
import gc, os, sys
import allcores
from tests.process import crimes

class Told:
    def __init__(self, path):
        self.path, self.home = path, os.getpid()
    def __del__(self):
        if os.getpid() != self.home:
            with open(self.path, "a") as file:
                file.write("finalized elsewhere\\n")

def many(_=None):
    return len([[] for _ in range(200_000)])

def collect(item):
    many()
    return gc.isenabled(), gc.collect() >= 0

os.register_at_fork(after_in_child=many)    # the collector comes, as in hooks of libraries

def garbage():
    cycle = [Told(sys.argv[1])]
    cycle.append(cycle)

if __name__ == "__main__":
    if sys.argv[2] == "off":
        gc.disable()
    gc.collect()
    garbage()
    with allcores.Pool(2, start_method="fork") as pool:
        found = pool.map(collect, range(20), chunk=1)
        garbage()
        list(pool.outcomes(crimes.run, ["exit_at_once"]))   # others are forked in their place
        found += pool.map(collect, range(20), chunk=1)
    print(set(found), gc.isenabled())
"""


@pytest.mark.parametrize("collector", ["on", "off"])
def test_no_worker_finalizes_it(collector: str, tmp_path: Path) -> None:
    """One may wait for a lock that no thread of the worker holds, or undo what the program still needs."""
    ended = scripts.run(PROGRAM, tmp_path, str(tmp_path / "told"), collector)
    enabled = collector == "on"
    assert (ended.out, ended.code) == (f"{ {(enabled, True)} } {enabled}\n", 0), ended.err
    assert not (tmp_path / "told").exists()
