"""A program without a loop worth a map is told so, and one that was too short to say anything as well."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.process.profiling.profiled import profile
from tests.process.scripts import finish, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have CPU clocks there")

RECURRENCE = """
import time
value = 1
end = time.process_time() + 1.0
while time.process_time() < end:
    for i in range(20_000):
        value = (value * 31 + i) % 1_000_003
print(value > 0)
"""


def test_a_recurrence_is_no_candidate(tmp_path: Path) -> None:
    """The loop that takes the time is named, with what ties its iterations together."""
    done = profile(RECURRENCE, tmp_path)
    assert (done.ended.out, done.ended.code) == ("True\n", 0)
    assert done.found["verdict"] == "serial"
    loop = done.at(6)
    assert not loop["pays"]
    assert "`value` of one iteration is used in the next" in loop["reasons"]
    assert loop["diff"] is None
    assert "No candidate" in (tmp_path / "report.txt").read_text()


COUNTED = """
from helpers import noted, spun
out = []
for each in range(20):
    out.append(noted(spun(each)))
print(len(out))
"""

HELPERS = """
import time
seen = {}

def spun(number):
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    return number

def noted(number):
    seen[number] = len(seen)
    return number
"""


def test_what_another_file_of_the_program_changes_counts(tmp_path: Path) -> None:
    """Though that takes so little time that no sample is of it."""
    (tmp_path / "helpers.py").write_text(HELPERS)
    done = profile(COUNTED, tmp_path)
    assert (done.ended.out, done.ended.code) == ("20\n", 0)
    loop = done.at(4)
    assert not loop["pays"] and "`noted` changes `seen`" in loop["reasons"]


def test_too_short_to_say(tmp_path: Path) -> None:
    """A program that ends at once gets no verdict."""
    done = profile("print(1)", tmp_path, options=("--rate", "10"))
    assert done.ended.out == "1\n"
    assert done.found["verdict"] == "unreliable"
    assert not [each for each in done.found["candidates"] if each["pays"]]


@pytest.mark.parametrize(
    "arguments", [["missing.py"], [], ["--json", "nowhere/out.json", "script.py"], ["--json", "x" * 300, "script.py"]]
)
def test_wrong_use_runs_nothing(arguments: list[str], tmp_path: Path) -> None:
    """One sentence and exit code 2, before the program is started."""
    (tmp_path / "script.py").write_text("print('ran')")
    with running(["-m", "allcores", "profile", *arguments], folder=tmp_path) as process:
        done = finish(process)
    assert (done.code, done.out) == (2, "")
    assert done.err.strip()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
@pytest.mark.parametrize("option", ["--json", "--report"])
def test_a_file_that_cannot_be_written_costs_that_file_alone(option: str, tmp_path: Path) -> None:
    """The program has run: what was found is on standard error, at the least, and in the others."""
    (tmp_path / "script.py").write_text("print(sum(range(10)))")
    other = {"--json": "--report", "--report": "--json"}[option]
    command = ["-m", "allcores", "profile", option, "/dev/full", other, "other", "script.py"]
    with running(command, folder=tmp_path) as process:
        ended = finish(process)
    assert (ended.code, ended.out) == (0, "45\n")
    assert "cannot be written" in ended.err
    assert (tmp_path / "other").stat().st_size > 0
    assert ("the program ended with 0" in ended.err) is (option == "--report")
