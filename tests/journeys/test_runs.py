"""Runs as a shell sees them: ended, resumed, looked at, removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.process.warm import Interpreter

from allcores.cli.exits import Exit

ROOT = Path(__file__).resolve().parents[2]
WORK = """
import os, signal, time

def picky(x):
    if int(x) in (3, 30) and not os.path.exists("mended"):
        raise ValueError(f"no {x}")
    return {"n": int(x)}

def slow(x):
    time.sleep(0.01)
    return int(x)

def kills_all(x):
    # the program that runs the map, and then the worker itself
    if x == "30" and not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(int(os.environ["ALLCORES_TEST_PARENT"]), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.002)
    return int(x)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(40)))
    return tmp_path


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    # The shell tells its own number, which is the program's after exec.
    program = 'export ALLCORES_TEST_PARENT=$$; exec "$@"'
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "ALLCORES_HOME": str(folder / "home")}
    command = ["sh", "-c", program, "sh", sys.executable, "-m", "allcores", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class Shell:
    """In the folder."""

    def __init__(self, warm: Interpreter, folder: Path) -> None:
        self._warm = warm
        self._folder = folder

    def call(self, *words: str) -> tuple[int, str, str]:
        done = self._warm.run(*words, folder=self._folder, environ={"ALLCORES_HOME": str(self._folder / "home")})
        assert "Traceback" not in done.err or "ValueError" in done.err, done.err
        return done.code, done.out, done.err

    def as_json(self, *words: str) -> Any:
        code, out, err = self.call(*words, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def shell(warm: Interpreter, folder: Path) -> Shell:
    return Shell(warm, folder)


def numbers(count: int = 40) -> str:
    return "".join(f"{n}\n" for n in range(count))


@pytest.mark.quick
def test_killed_and_resumed(shell: Shell, folder: Path) -> None:
    """The worker kills the program and itself; --resume goes on, and the output is whole."""
    words = ("run", "work.py:kills_all", "in.txt", "-o", "out.jsonl", "--chunk", "1")
    killed = start(folder, *words)
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL and not (folder / "out.jsonl").exists()
    (run,) = shell.as_json("runs")
    assert run["state"] == "interrupted"
    code, _, err = shell.call(*words, "--resume")
    assert (code, (folder / "out.jsonl").read_text()) == (Exit.OK, numbers()), err
    assert run["id"] in err or run["settled"] == 0
    (run,) = shell.as_json("runs", "list")
    assert (run["state"], run["ok"], run["total"], run["sessions"]) == ("finished", 40, 40, 2)


def test_ctrl_c_is_resumed(shell: Shell, folder: Path) -> None:
    """What was running is kept, and the way on is told."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "allcores", "run", "work.py:slow", "-", "-o", "out.jsonl"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "ALLCORES_HOME": str(folder / "home")},
        stdin=reading,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(reading)
    given = 0
    while not any(run["settled"] for run in shell.as_json("runs")):
        # One by one: while the input is waited for, what is finished waits, too.
        os.write(writing, f"{given}\n".encode())
        given += 1
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    os.close(writing)
    assert process.returncode == Exit.INTERRUPTED and "allcores runs resume" in err
    words = ("run", "work.py:slow", "in.txt", "-o", "out.jsonl", "--resume")
    code, _, err = shell.call(*words)
    assert code == Exit.USAGE and "the input was Lines - " in err and "--accept-changes" in err
    code, _, err = shell.call(*words, "--accept-changes")
    assert (code, (folder / "out.jsonl").read_text()) == (Exit.OK, numbers()), err


def test_failures_are_shown_exported_and_retried(shell: Shell, folder: Path) -> None:
    """Grouped by cause, with the first item of each; retried, only they run."""
    code, _, _ = shell.call("run", "work.py:picky", "in.txt", "-o", "out.csv", "--on-error", "skip")
    assert code == Exit.SOME_FAILED and len((folder / "out.csv").read_text().splitlines()) == 39
    shown = shell.as_json("runs", "show", "latest")
    (group,) = shown["failures_by_cause"]
    assert (group["cause"], group["count"], group["first"]["index"]) == ("ValueError: no N", 2, 3)
    assert "2 × failed: ValueError: no N" in shell.call("runs", "show", "latest")[1]
    exported = [json.loads(line) for line in shell.call("runs", "failures", shown["id"])[1].splitlines()]
    assert [each["item"] for each in exported] == ["3", "30"] and "Traceback" in exported[0]["traceback"]
    assert shell.as_json("runs", "failures", "latest", "--kind", "timed_out") == []
    (folder / "mended").touch()
    code, out, err = shell.call("runs", "resume", "latest", "--retry-failed", "--json")
    assert code == Exit.OK, err
    assert (json.loads(out)["items"], json.loads(out)["resumed"]) == (2, 40)
    assert len((folder / "out.csv").read_text().splitlines()) == 41


def test_json_may_stand_before_the_command(shell: Shell, folder: Path) -> None:
    """As `--runs-dir` may, whatever the command."""
    (folder / "in.txt").write_text(numbers(6))
    assert shell.call("run", "work.py:picky", "in.txt", "-o", "out.jsonl", "--on-error", "skip")[0] in (0, 1)
    for words in (["list"], ["show", "latest"], ["failures", "latest"]):
        code, out, _ = shell.call("runs", "--json", *words)
        assert code == Exit.OK
        assert json.loads(out) == shell.as_json("runs", *words)
    (run,) = shell.as_json("runs")
    assert json.loads(shell.call("runs", "--json", "rm", "latest")[1]) == {"removed": [run["id"]]}


def test_runs_are_removed(shell: Shell, folder: Path) -> None:
    """Their journals, not their outputs; what is not there is said."""
    shell.call("run", "work.py:slow", "in.txt", "-o", "out.jsonl", "--quiet")
    name = shell.as_json("runs")[0]["id"]
    assert shell.as_json("runs", "rm", name) == {"removed": [name]}
    assert (folder / "out.jsonl").read_text() == numbers() and shell.as_json("runs") == []
    for words in (("show", name), ("resume", "latest"), ("rm",)):
        code, _, err = shell.call("runs", *words)
        assert code == Exit.USAGE and err.startswith("allcores: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--resume"], "name a file with -o"),
        (["-o", "out.jsonl", "--no-journal", "--resume"], "you gave --no-journal"),
        (["-o", "out.jsonl", "--retry-failed"], "add --resume"),
        (["-o", "out.csv", "--on-error", "record"], "JSON lines"),
    ],
)
def test_options_that_make_no_sense(shell: Shell, folder: Path, words: list[str], sentence: str) -> None:
    """One sentence with the way out; nothing is begun."""
    code, _, err = shell.call("run", "work.py:slow", "in.txt", *words)
    assert code == Exit.USAGE and sentence in err and not (folder / "home").exists()


def test_without_a_journal_nothing_is_kept(shell: Shell, folder: Path) -> None:
    """The output is the same, and published whole, too."""
    code, _, err = shell.call("run", "work.py:slow", "in.txt", "-o", "out.jsonl", "--no-journal")
    assert (code, (folder / "out.jsonl").read_text()) == (Exit.OK, numbers()), err
    assert not (folder / "home").exists()


def test_bad_records_are_left_out_and_reported(shell: Shell, folder: Path) -> None:
    """By line, in the run's report."""
    (folder / "in.jsonl").write_text("1\n{oops\n3\n")
    words = ("run", "work.py:slow", "in.jsonl", "-o", "out.jsonl")
    code, _, err = shell.call(*words)
    assert code == Exit.USAGE and "line 2" in err
    code, _, err = shell.call(*words, "--bad-records", "skip")
    assert code == Exit.OK and (folder / "out.jsonl").read_text() == "1\n3\n"
    assert "1 bad record" in err and "in.jsonl, line 2" in shell.call("runs", "show", "latest")[1]
