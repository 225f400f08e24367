"""`allcores advise` at the shell: its object for machines, its text, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from allcores.advisor import advice as advice_file
from allcores.advisor import probing
from allcores.cli.main import main
from allcores.errors import BrokenPool, SetupError

pytestmark = pytest.mark.slow

WORK = """
print("printed when imported")

def square(line):
    print("printed when called")
    return int(line) ** 2

def fail(line):
    raise ValueError(line)

def two(one, other):
    pass
"""


def advise(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "work.py").write_text(WORK)
    (folder / "numbers.txt").write_text("".join(f"{number}\n" for number in range(2_000)))
    command = [sys.executable, "-m", "allcores", "advise", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_one_object_and_nothing_else_is_printed(tmp_path: Path) -> None:
    done = advise(tmp_path, "work.py:square", "numbers.txt", "--json", "--budget", "8")
    found = json.loads(done.stdout)
    assert found["verdict"] == "serial", done.stderr
    assert done.returncode == 3
    assert found["recommendation"]["pattern"] == "serial"
    assert found["items"] == 2_000
    assert found["calls"] > 0
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(found, json.loads(Path(advice_file.__file__).with_name("advice.schema.json").read_text()))


def test_the_code_that_is_printed_runs(tmp_path: Path) -> None:
    found = json.loads(advise(tmp_path, "work.py:square", "numbers.txt", "--json", "--budget", "8").stdout)
    program = tmp_path / "program.py"
    program.write_text(found["code"] + "assert results == [number**2 for number in range(2_000)]\n")
    subprocess.run([sys.executable, str(program)], cwd=tmp_path, check=True, capture_output=True, timeout=120)


def test_its_text_is_for_people(tmp_path: Path) -> None:
    done = advise(tmp_path, "work.py:square", "numbers.txt", "--budget", "8", "--no-repeat")
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("work.py:square: Don't: stay with the loop.")
    assert "from work import square" in done.stdout


def test_its_page_is_written_beside_the_text(tmp_path: Path) -> None:
    done = advise(tmp_path, "work.py:square", "numbers.txt", "--budget", "8", "--html", "advice.html")
    assert done.returncode == 3, done.stderr
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
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "empty.txt").touch()
    done = advise(tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


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
