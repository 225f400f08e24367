"""`allcores advise` at the shell: its object for machines, its text, its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from tests.process.scripts import Ended
from tests.process.warm import Interpreter

from allcores.advisor import advice as advice_file
from allcores.advisor import probing
from allcores.cli.main import main
from allcores.errors import BrokenPool, SetupError

pytestmark = pytest.mark.slow

WORK = """
import threading, time

print("printed when imported")

def square(line):
    # Not each time: what several threads print at a time, Python before 3.12 mixes up with bytes from anywhere.
    if int(line) % 1000 == 1:
        print("printed when called")
    return int(line) ** 2

def loop(line):
    total = 0
    for each in range(20_000):
        total += each * int(line)
    return total

def hang(line):
    threading.Event().wait()

def wait(line):
    time.sleep(0.05)

def note(line):
    with open("notes.txt", "a") as file:
        file.write(line + "\\n")
    return int(line)

def fail(line):
    raise ValueError(line)

def two(one, other):
    pass
"""


Advise = Callable[..., Ended]


@pytest.fixture
def advise(warm: Interpreter, tmp_path: Path) -> Advise:
    """The command, on a file of functions and one of numbers."""
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "numbers.txt").write_text("".join(f"{number}\n" for number in range(2_000)))
    return partial(warm.run, "advise", folder=tmp_path)


def test_one_object_and_nothing_else_is_printed(advise: Advise, tmp_path: Path) -> None:
    done = advise("work.py:square", "numbers.txt", "--json", "--budget", "8")
    found = json.loads(done.out)
    assert found["verdict"] == "serial", done.err
    assert done.code == 3
    assert found["recommendation"]["pattern"] == "serial"
    assert found["items"] == 2_000
    assert found["calls"] > 0
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(found, json.loads(Path(advice_file.__file__).with_name("advice.schema.json").read_text()))


def test_the_code_that_is_printed_runs(advise: Advise, tmp_path: Path) -> None:
    found = json.loads(advise("work.py:square", "numbers.txt", "--json", "--budget", "8").out)
    program = tmp_path / "program.py"
    program.write_text(found["code"] + "assert results == [number**2 for number in range(2_000)]\n")
    subprocess.run([sys.executable, str(program)], cwd=tmp_path, check=True, capture_output=True, timeout=120)


def test_a_folder_means_its_files(advise: Advise, tmp_path: Path) -> None:
    """As with `run`; the code that is printed finds the same."""
    (tmp_path / "more" / "inside").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "inside/c.txt"):
        (tmp_path / "more" / name).write_text("text")
    (tmp_path / "sizes.py").write_text("def size(path):\n    return len(open(path).read())\n")
    done = advise("sizes.py:size", "more", "--json", "--budget", "4")
    found = json.loads(done.out)
    assert found["items"] == 3, done.err
    program = tmp_path / "program.py"
    program.write_text(found["code"] + "assert results == [4] * 3, results\n")
    subprocess.run([sys.executable, str(program)], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    for given, said in (
        (["more", "numbers.txt"], "one kind at a time"),
        (["more", "--format", "csv"], "says how files"),
    ):
        done = advise("sizes.py:size", *given)
        assert (done.code, done.out) == (2, "") and said in done.err


@pytest.mark.parametrize("command", ["advise", "tune"])
def test_a_function_and_an_input_that_are_wrong_are_both_told(warm: Interpreter, tmp_path: Path, command: str) -> None:
    (tmp_path / "work.py").write_text(WORK)
    done = warm.run(command, "work.py:nope", "missing.txt", folder=tmp_path)
    assert done.code == 2
    assert "has no function 'nope'" in done.err and "missing.txt" in done.err


@pytest.mark.parametrize(
    ("function", "budget", "verdicts"), [("hang", "1", {"unreliable"}), ("wait", "4", {"parallel", "unreliable"})]
)
def test_its_exit_code_is_its_verdict(advise: Advise, function: str, budget: str, verdicts: set[str]) -> None:
    """0 only where it pays and that was measured; a machine that is busy may make threads late."""
    done = advise(f"work.py:{function}", "numbers.txt", "--json", "--budget", budget)
    found = json.loads(done.out)
    assert found["verdict"] in verdicts, done.err
    assert done.code == {"parallel": 0, "serial": 3, "unreliable": 4}[found["verdict"]]
    if found["verdict"] == "parallel":
        assert found["recommendation"]["pattern"] == "threads"
        assert found["measured"]["low"] > 1


@pytest.fixture
def burnt() -> Iterator[None]:
    """Half of the cores are somebody else's."""
    code = "print(flush=True)\nwhile True: pass"
    count = max(1, len(os.sched_getaffinity(0)) // 2) if hasattr(os, "sched_getaffinity") else 1
    with ExitStack() as stack:
        for _ in range(count):
            burner = stack.enter_context(subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE))
            stack.callback(burner.kill)
            assert burner.stdout is not None
            assert burner.stdout.readline() == b"\n"
        yield


@pytest.mark.skipif(sys.platform != "linux", reason="others' processor time is read from /proc")
def test_with_half_of_the_cores_burnt_there_is_no_verdict_that_a_quiet_run_reverses(
    advise: Advise, burnt: None
) -> None:
    busy = json.loads((done := advise("work.py:loop", "numbers.txt", "--json", "--budget", "3")).out)
    assert (busy["verdict"], done.code) == ("unreliable", 4), busy["reasons"]
    assert busy["machine"].get("others", 1) >= 0.2
    # That which is far too little work for any worker is so on any machine.
    sure = json.loads((done := advise("work.py:square", "numbers.txt", "--json", "--budget", "3")).out)
    assert (sure["verdict"], done.code) in {("serial", 3), ("unreliable", 4)}


def test_effects_are_told_on_the_terminal(advise: Advise, tmp_path: Path) -> None:
    done = advise("work.py:note", "numbers.txt", "--json", "--budget", "2", "--no-repeat")
    assert (
        "note: the function writes to notes.txt. It is called on many items from here on, none of them twice"
        in done.err
    )
    lines = (tmp_path / "notes.txt").read_text().split()
    assert len(lines) == len(set(lines)) > 0
    assert json.loads(done.out)["calls"] >= len(lines)


def test_its_text_is_for_people(advise: Advise, tmp_path: Path) -> None:
    done = advise("work.py:square", "numbers.txt", "--budget", "8", "--no-repeat")
    assert done.code == 3, done.err
    assert done.out.startswith("work.py:square: Don't: stay with the loop.")
    assert "from work import square" in done.out


def test_its_page_is_written_beside_the_text(advise: Advise, tmp_path: Path) -> None:
    done = advise("work.py:square", "numbers.txt", "--budget", "8", "--html", "advice.html")
    assert done.code == 3, done.err
    assert "work.py:square" in (tmp_path / "advice.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["work.py:fail", "numbers.txt"], "the function raises ValueError"),
        (["work.py:two", "numbers.txt"], "is called with the item"),
        (["work.py:square", "nothing.txt"], "nothing.txt"),
        (["work.py:square"], "no INPUT"),
        (["work.py:square", "numbers.txt", "--html", "nowhere/advice.html"], "nowhere/advice.html cannot be written"),
        (["work.py:square", "empty.txt"], "has no items"),
        (["work.py:square", "numbers.txt", "--budget", "0.1"], "budget"),
        (["work.py:square", "numbers.txt", "--files", "*.txt"], "cannot be combined"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(advise: Advise, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "empty.txt").touch()
    done = advise(*arguments)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("error", [BrokenPool, SetupError])
def test_workers_that_cannot_be_started_are_no_mistake_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[Exception]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error("no process can be started")

    monkeypatch.setattr(probing, "Pool", refused)
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"no_{error.__name__}.py").write_text(WORK)
    (tmp_path / "numbers.txt").write_text("1\n2\n")
    assert main(["advise", f"no_{error.__name__}.py:square", "numbers.txt"]) == 5
    assert capsys.readouterr().err.splitlines()[-1] == "allcores: no process can be started"
