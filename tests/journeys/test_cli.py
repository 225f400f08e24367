"""`allcores run` and `allcores doctor` as a shell sees them, and their page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from allcores.cli.exits import Exit

ROOT = Path(__file__).resolve().parents[2]
WORK = """
import time

def double(x):
    return 2 * int(x)

def picky(x):
    if int(x) == 3:
        raise ValueError("three")
    return int(x)

def slow(x):
    time.sleep(60 if x == "2" else 0)
    return x

def length(path):
    return len(open(path).read())

def load(factor):
    return int(factor)

def twice(factor):
    return 2 * factor

def scale(factor, x):
    return factor * int(x)

def unwritable(x):
    return {1, 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "numbers.txt").write_text("".join(f"{n}\n" for n in range(6)))
    return tmp_path


def run(folder: Path, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "ALLCORES_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "allcores", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, timeout=120
    )


@pytest.mark.quick
def test_lines_of_a_file_through_a_function_of_a_script(folder: Path) -> None:
    """Values come out in input order, one a line, and a summary tells how it went."""
    done = run(folder, "run", "work.py:double", "numbers.txt", "-o", "out.jsonl")
    assert done.returncode == Exit.OK, done.stderr
    assert (folder / "out.jsonl").read_text() == "0\n2\n4\n6\n8\n10\n"
    assert "6" in done.stderr


def test_standard_input_streams_to_standard_output(folder: Path) -> None:
    """`-` reads items from standard input, as JSON if asked to."""
    done = run(folder, "run", "work.py:double", "-", "--format", "jsonl", "--quiet", stdin='1\n"2"\n')
    assert (done.returncode, done.stdout, done.stderr) == (Exit.OK, "2\n4\n", "")


def test_paths_are_items(folder: Path) -> None:
    """--files makes the matching paths the items."""
    done = run(folder, "run", "work.py:length", "--files", "*.txt", "--quiet")
    assert (done.returncode, done.stdout) == (Exit.OK, "12\n")


def test_setup_gives_each_worker_its_value(folder: Path) -> None:
    """The setup function's value is the first argument of every call."""
    words = ("--setup", "work.py:load", "--setup-arg", "10", "--quiet")
    assert run(folder, "run", "work.py:scale", "numbers.txt", *words).stdout.split() == [
        "0",
        "10",
        "20",
        "30",
        "40",
        "50",
    ]


def test_preload_gives_all_workers_one_value(folder: Path) -> None:
    """The preload function's value is the first argument of every call, and of the setup function."""
    expected = ["0", "10", "20", "30", "40", "50"]
    words = ("--preload", "work.py:load", "--preload-arg", "10", "--quiet")
    assert run(folder, "run", "work.py:scale", "numbers.txt", *words).stdout.split() == expected
    words = ("--preload", "work.py:load", "--preload-arg", "5", "--setup", "work.py:twice", "--quiet")
    assert run(folder, "run", "work.py:scale", "numbers.txt", *words).stdout.split() == expected
    done = run(folder, "run", "work.py:scale", "numbers.txt", "--preload-arg", "10")
    assert (done.returncode, "--preload-arg needs --preload" in done.stderr) == (Exit.USAGE, True)


@pytest.mark.parametrize(
    ("choice", "code", "lines"),
    [("skip", Exit.SOME_FAILED, 5), ("record", Exit.SOME_FAILED, 6), ("stop", Exit.STOPPED, 3)],
)
def test_failures_stop_are_skipped_or_recorded(folder: Path, choice: str, code: Exit, lines: int) -> None:
    """--on-error decides; what was written to standard output before stays."""
    done = run(folder, "run", "work.py:picky", "numbers.txt", "--on-error", choice)
    assert done.returncode == code, done.stderr
    written = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(written) == lines
    if choice == "record":
        assert written[3]["index"] == 3 and "three" in json.dumps(written[3])


def test_an_item_that_hangs_costs_itself(folder: Path) -> None:
    """--timeout ends one item; --json tells of it for machines."""
    words = ("--timeout", "2", "--on-error", "skip", "--json", "-o", "out.jsonl")
    done = run(folder, "run", "work.py:slow", "numbers.txt", *words)
    assert done.returncode == Exit.SOME_FAILED, done.stderr
    assert "timed_out" in json.dumps(json.loads(done.stdout))
    assert len((folder / "out.jsonl").read_text().splitlines()) == 5


def test_bad_input_is_one_sentence(folder: Path) -> None:
    """What is wrong, where, and no traceback; outcomes already written to standard output stay."""
    (folder / "bad.jsonl").write_text("1\n2\n{oops\n")
    done = run(folder, "run", "work.py:double", "bad.jsonl", "--quiet")
    assert done.returncode == Exit.USAGE
    assert "bad.jsonl" in done.stderr and "3" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "2\n4\n"
    for words in (
        ("work.py:duoble", "numbers.txt"),
        ("work.py:double", "nowhere.txt"),
        ("nowhere:double", "numbers.txt"),
    ):
        done = run(folder, "run", *words)
        assert done.returncode == Exit.USAGE
        assert done.stderr.strip() and "Traceback" not in done.stderr


def test_a_value_that_json_cannot_hold_is_a_failure(folder: Path) -> None:
    """A clear sentence, not a traceback of the encoder."""
    done = run(folder, "run", "work.py:unwritable", "numbers.txt")
    assert done.returncode == Exit.STOPPED
    assert "Traceback" not in done.stderr and "set" in done.stderr


def test_doctor_tells_what_the_machine_gives(folder: Path) -> None:
    """In words, and as JSON."""
    assert "Core budget" in run(folder, "doctor").stdout
    assert json.loads(run(folder, "doctor", "--json").stdout)


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_every_option_and_exit_code_is_on_the_page(folder: Path, command: str) -> None:
    """docs/cli.md is complete."""
    page = (ROOT / "docs" / "cli.md").read_text()
    words = run(folder, command, "--help").stdout.replace(",", " ").replace("/", " ").split()
    missing = {word for word in words if word.startswith("--") and word.strip("()") not in page and len(word) > 3}
    assert not missing
    for code in Exit:
        assert f"| {int(code)} |" in page
