"""`allcores tune` and `allcores run --tuned` at the shell: what is printed, exit codes, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process.waiting import PATIENCE_S, wait_until

from allcores.advisor.tuning import tuning as tuning_file

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


def command(folder: Path, *arguments: str) -> list[str]:
    if not (folder / "work.py").exists():
        (folder / "work.py").write_text(WORK)
    (folder / "numbers.txt").write_text("".join(f"{number}\n" for number in range(1_000)))
    return [sys.executable, "-m", "allcores", *arguments]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "ALLCORES_HOME": str(folder / "home")}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
    )


def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(folder, *arguments),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("function", ["square", "loop"])
def test_one_object_and_nothing_else_is_printed(tmp_path: Path, function: str) -> None:
    done = run(tmp_path, "tune", f"work.py:{function}", "numbers.txt", "--json", "--budget", "4")
    found = json.loads(done.stdout)
    assert done.returncode == CODES[found["verdict"]], done.stderr
    assert found["items"] == 1_000
    assert found["function"] == f"work.py:{function}"
    assert (found["kept"] is None) == (found["verdict"] == "unreliable")
    if function == "square":  # so little work that no load of the machine hides it
        assert found["verdict"] == "serial"
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(Path(tuning_file.__file__).with_name("tuning.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(found)


def test_its_text_is_for_people(tmp_path: Path) -> None:
    done = run(tmp_path, "tune", "work.py:loop", "numbers.txt", "--budget", "4")
    assert done.stdout.startswith("work.py:loop: "), done.stderr
    assert "from work import loop" in done.stdout
    assert "printed" not in done.stdout


def test_a_run_uses_what_was_found_and_refuses_it_after_an_edit(tmp_path: Path) -> None:
    refused = run(tmp_path, "run", "work.py:square", "numbers.txt", "--tuned", "-q")
    assert refused.returncode == 2
    assert "was not tuned on this machine" in refused.stderr
    assert "allcores tune work.py:square INPUT" in refused.stderr
    assert run(tmp_path, "tune", "work.py:square", "numbers.txt", "--budget", "20").returncode == 3
    done = run(tmp_path, "run", "work.py:square", "numbers.txt", "--tuned", "-q")
    assert (done.returncode, done.stdout.split()[:4]) == (0, ["0", "1", "4", "9"]), done.stderr
    both = run(tmp_path, "run", "work.py:square", "numbers.txt", "--tuned", "--workers", "2")
    assert both.returncode == 2
    assert "leave --workers 2 out, or --tuned" in both.stderr
    (tmp_path / "work.py").write_text(WORK.replace("** 2", "* 2"))
    edited = run(tmp_path, "run", "work.py:square", "numbers.txt", "--tuned", "-q")
    assert edited.returncode == 2
    assert "does not hold any more: the function's code" in edited.stderr
    assert "Traceback" not in edited.stderr
    assert not edited.stdout


def test_a_run_that_is_resumed_goes_on_with_what_it_began_with(tmp_path: Path) -> None:
    assert run(tmp_path, "tune", "work.py:square", "numbers.txt", "--budget", "20").returncode == 3
    done = run(tmp_path, "run", "work.py:square", "numbers.txt", "--tuned", "-q", "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr
    kept = next((tmp_path / "home" / "tuned").glob("*.json"))
    kept.write_text("nothing of that kind")
    again = run(tmp_path, "runs", "resume", "latest", "--quiet")
    assert again.returncode == 0, again.stderr
    damaged = run(tmp_path, "run", "work.py:square", "numbers.txt", "--tuned", "-q")
    assert damaged.returncode == 2
    assert "is damaged" in damaged.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_was_ended_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    # so many seconds that the busiest machine gets to its runs
    process = begin(tmp_path, "tune", "work.py:loop", "numbers.txt", "--budget", "40")

    def has_runs() -> bool:
        found = list((tmp_path / "home").rglob("*.journal"))
        return bool(found) and found[0].read_bytes().count(b'"run"') >= 3

    wait_until(lambda: has_runs() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "what was measured is kept: the same command goes on" in err
    done = run(tmp_path, "tune", "work.py:loop", "numbers.txt", "--budget", "6", "--json")
    found = json.loads(done.stdout)
    assert found["resumed"] >= 3
    assert "going on with a search that was begun" in done.stderr


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
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "empty.txt").touch()
    done = run(tmp_path, "tune", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "tuned"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    done = run(tmp_path, "tune", "work.py:square", "numbers.txt", "--budget", "3")
    assert done.returncode == 2
    assert "cannot be trusted: others may write to it" in done.stderr
    assert list(folder.iterdir()) == []
