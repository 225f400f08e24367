"""What a system gets that has no fork: threads, one after the other, and one sentence for the rest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.process import scripts

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="takes away what Linux has")

POOLS = """
import asyncio
from allcores import Pipeline

def actor(pool):
    class Sums:
        def __init__(self): self.sum = 0
        def add(self, number): self.sum += number; return self.sum
    with pool.actor(Sums) as sums:
        return [sums.add(number).result() for number in (1, 2)]

async def awaited(pool):
    return [value async for value in pool.aimap(abs, [-1, -2])]

for backend in ("threads", "serial"):
    with allcores.Pool(2, backend=backend) as pool:
        print(pool.map(abs, [-1, -2]), list(pool.imap(abs, [-3])), pool.submit(abs, -4).result())
        print([outcome.ok for outcome in pool.outcomes(int, ["1", "x"])])
        print(asyncio.run(awaited(pool)))
with allcores.Pool(2, backend="threads") as pool:
    print(actor(pool))
stages = Pipeline().map(int, on="threads").filter(bool, on="threads").batch(2)
print(list(stages.imap(["1", "0", "2"])))
print(list(Pipeline().map(int).batch(2).imap(["1", "0", "2"], backend="threads")))
allcores.configure(backend="threads")
print(allcores.map(abs, [-5]))
"""

REFUSED = """
def piped():
    return list(allcores.Pipeline().map(abs).imap([-1]))

for call in (allcores.Pool, lambda: allcores.map(abs, [-1]), lambda: allcores.advise(abs, range(9)), piped):
    try:
        call()
    except allcores.NotSupported as error:
        print(error)
with allcores.Pool(1, backend="threads") as pool:
    try:
        pool.share([1])
    except allcores.NotSupported as error:
        print(error)
"""

COMMANDS = """
from allcores.cli.main import main
for line in (
    "run work:double in.txt -o out.jsonl --backend threads -q",
    "run work:double in.txt -o out.csv --backend threads -q --no-journal",
    "runs list",
    "doctor",
    "run work:double in.txt -o not.jsonl -q",
    "top --once",
    "profile work.py",
):
    print(line.partition(" ")[0], main(line.split()), flush=True)
"""


def ran(folder: Path, script: str) -> tuple[list[str], list[str]]:
    """Lines of both outputs."""
    program = folder / "program.py"
    program.write_text(f"import tests.process.without_posix\nimport allcores\n{script}")
    environ = scripts.environment(ALLCORES_HOME=str(folder / "home"), ALLCORES_PORTABLE="1")
    with scripts.running([str(program)], folder=folder, environ=environ) as process:
        ended = scripts.finish(process)
    assert ended.code == 0, ended.err
    return ended.lines, ended.err.splitlines()


def test_pools_of_threads_and_serial(tmp_path: Path) -> None:
    assert ran(tmp_path, POOLS) == (
        [
            *2 * ["[1, 2] [3] 4", "[True, False]", "[1, 2]"],
            "[1, 3]",
            "[[1, 2]]",
            "[[1, 0], [2]]",
            "[5]",
        ],
        [],
    )


def test_what_needs_a_fork_says_so(tmp_path: Path) -> None:
    lines, _ = ran(tmp_path, REFUSED)
    assert len(lines) == 5
    for line in lines[:4]:
        assert "needs a system with fork (Linux, macOS); use backend='threads' or 'serial' here" in line
        assert "imap(backend=...) or a step's on=... in a pipeline" in line
    assert "memory without a name" in lines[4]


def test_commands(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("def double(line):\n    return {'twice': 2 * int(line)}\n")
    (tmp_path / "in.txt").write_text("1\n2\n")
    lines, errors = ran(tmp_path, COMMANDS)
    codes = [line for line in lines if line.split()[0] in ("run", "runs", "doctor", "top", "profile")]
    assert codes == ["run 0", "run 0", "runs 0", "doctor 0", "run 2", "top 2", "profile 2"]
    assert (tmp_path / "out.jsonl").read_text().split("\n") == ['{"twice": 2}', '{"twice": 4}', ""]
    assert (tmp_path / "out.csv").read_text().split() == ["twice", "2", "4"]
    assert not (tmp_path / "not.jsonl").exists()
    assert all("Traceback" not in line for line in errors)
    assert sum("needs a system with fork" in line for line in errors) == 1
