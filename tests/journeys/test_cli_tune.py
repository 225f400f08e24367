"""`allcores tune` and `allcores run --tuned` at the shell: what is printed, exit codes, kills."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.cores import several_cores
from tests.process.scripts import Ended
from tests.process.waiting import PATIENCE_S, wait_until
from tests.process.warm import Interpreter

from allcores.advisor.tuning import tuning as tuning_file
from allcores.tuned.journal import lines_of

pytestmark = pytest.mark.slow

WORK = """
print("printed when imported")

def square(line):
    return int(line) ** 2

def loop(line):
    total = 0
    for each in range(10_000):
        total += each * int(line)
    return total

def fail(line):
    raise ValueError(line)

def two(one, other):
    pass
"""
CODES = {"parallel": 0, "serial": 3, "unreliable": 4}


Run = Callable[..., Ended]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "numbers.txt").write_text("".join(f"{number}\n" for number in range(1_000)))
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {"ALLCORES_HOME": str(folder / "home")}


@pytest.fixture
def run(warm: Interpreter, folder: Path) -> Run:
    return functools.partial(warm.run, folder=folder, environ=environment(folder))


#: `python -m allcores`; what comes before a search may take as long as it needs, but measures little
PROGRAM = """
import runpy
from allcores.advisor.measuring import calls
from allcores.advisor.tuning import searching
searching.LEAST_PROBE_S = 8.0
calls.EACH_PART /= 5
runpy.run_module("allcores", run_name="__main__", alter_sys=True)
"""


def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """In an interpreter of its own, as a user has it."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env={**os.environ, **environment(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("option", ["--html", "--png"])
def test_a_file_that_cannot_be_written_is_refused_at_once(run: Run, option: str) -> None:
    done = run("tune", "work.py:square", "numbers.txt", option, "nowhere/tuning")
    assert done.code == 2
    assert "nowhere/tuning cannot be written" in done.err
    assert "printed when called" not in done.err


@pytest.mark.parametrize("function", ["square", "loop"])
def test_one_object_and_nothing_else_is_printed(run: Run, folder: Path, function: str) -> None:
    page = ["--html", "tuning.html"] if find_spec("jinja2") is not None else []
    done = run("tune", f"work.py:{function}", "numbers.txt", "--json", "--budget", "3", *page)
    assert not page or f"work.py:{function}" in (folder / "tuning.html").read_text()
    found = json.loads(done.out)
    assert done.code == CODES[found["verdict"]], done.err
    assert found["items"] == 1_000
    assert found["function"] == f"work.py:{function}"
    assert (found["kept"] is None) == (found["verdict"] == "unreliable")
    if function == "square":  # so little work that no load of the machine hides it
        assert found["verdict"] == "serial"
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(Path(tuning_file.__file__).with_name("tuning.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(found)


def test_its_text_is_for_people(run: Run, folder: Path) -> None:
    done = run("tune", "work.py:loop", "numbers.txt", "--budget", "2")
    assert done.out.startswith("work.py:loop: "), done.err
    assert "from work import loop" in done.out
    assert "printed" not in done.out


def test_a_run_uses_what_was_found_and_refuses_it_after_an_edit(run: Run, folder: Path) -> None:
    refused = run("run", "work.py:square", "numbers.txt", "--tuned", "-q")
    assert refused.code == 2
    assert "was not tuned on this machine" in refused.err
    assert "allcores tune work.py:square INPUT" in refused.err
    assert run("tune", "work.py:square", "numbers.txt", "--budget", "20").code == 3
    done = run("run", "work.py:square", "numbers.txt", "--tuned", "-q")
    assert (done.code, done.out.split()[:4]) == (0, ["0", "1", "4", "9"]), done.err
    both = run("run", "work.py:square", "numbers.txt", "--tuned", "--workers", "2")
    assert both.code == 2
    assert "leave --workers 2 out, or --tuned" in both.err
    (folder / "work.py").write_text(WORK.replace("** 2", "* 2"))
    edited = run("run", "work.py:square", "numbers.txt", "--tuned", "-q")
    assert edited.code == 2
    assert "does not hold any more: the function's code" in edited.err
    assert "Traceback" not in edited.err
    assert not edited.out


def test_a_run_that_is_resumed_goes_on_with_what_it_began_with(run: Run, folder: Path) -> None:
    assert run("tune", "work.py:square", "numbers.txt", "--budget", "20").code == 3
    done = run("run", "work.py:square", "numbers.txt", "--tuned", "-q", "-o", "out.jsonl")
    assert done.code == 0, done.err
    kept = next((folder / "home" / "tuned").glob("*.json"))
    kept.write_text("nothing of that kind")
    again = run("runs", "resume", "latest", "--quiet")
    assert again.code == 0, again.err
    damaged = run("run", "work.py:square", "numbers.txt", "--tuned", "-q")
    assert damaged.code == 2
    assert "is damaged" in damaged.err


@several_cores
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_was_ended_goes_on(run: Run, folder: Path, number: signal.Signals) -> None:
    # so many seconds that the busiest machine gets to its runs
    process = begin(folder, "tune", "work.py:loop", "numbers.txt", "--budget", "25")

    def has_runs() -> bool:
        found = list((folder / "home").rglob("*.journal"))
        return bool(found) and found[0].read_bytes().count(b'"run"') >= 3

    wait_until(lambda: has_runs() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "what was measured is kept: the same command goes on" in err
    (journal,) = (folder / "home").rglob("*.journal")
    lines, _ = lines_of(journal.read_bytes())
    # Another second: that it goes on is all that is asked.
    budget = 1.0 + sum(line.get("spent", 0.0) for line in lines)
    done = run("tune", "work.py:loop", "numbers.txt", "--budget", str(max(2.0, budget)), "--json")
    found = json.loads(done.out)
    assert found["resumed"] >= 3
    assert "going on with a search that was begun" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["work.py:fail", "numbers.txt"], "the function raises ValueError"),
        (["work.py:two", "numbers.txt"], "is called with the item"),
        (["work.py:square", "nothing.txt"], "nothing.txt"),
        (["work.py:square"], "no INPUT"),
        (["work.py:square", "empty.txt"], "has no items"),
        (["work.py:square", "numbers.txt", "--budget", "0.1"], "budget"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(run: Run, folder: Path, arguments: list[str], words: str) -> None:
    (folder / "empty.txt").touch()
    done = run("tune", *arguments)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_folder_that_others_may_write_to_is_not_used(run: Run, folder: Path) -> None:
    tuned = folder / "home" / "tuned"
    tuned.mkdir(parents=True)
    tuned.chmod(0o777)
    done = run("tune", "work.py:square", "numbers.txt", "--budget", "3")
    assert done.code == 2
    assert "cannot be trusted: others may write to it" in done.err
    assert list(tuned.iterdir()) == []
