"""The programs of the tutorial "Is it worth it?" go through `profile`, `advise` and `tune`, as its page says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cores import several_cores
from tests.docs.pages import ROOT
from tests.process.warm import Interpreter

PROGRAMS = ROOT / "docs/examples/worth"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the sampler is for Linux")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in PROGRAMS.glob("*.py"):
        shutil.copy(path, tmp_path)
    return tmp_path


def allcores(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "allcores", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)


def resize(program: Path, items: str, others: str) -> None:
    """Let a program of the page do more, or less: one that takes three seconds shows nothing that one does not."""
    text = program.read_text()
    assert items in text
    program.write_text(text.replace(items, others))


@several_cores
@pytest.mark.parametrize(
    ("program", "items", "fewer", "site", "line"),
    [
        (
            "primes.py",
            "9_000, 10)",
            "9_000, 30)",
            "for loop in main",
            "counts.extend(allcores.imap(count_primes, range(2_000, 9_000, 30)))",
        ),
        ("hashes.py", "40_000", "14_000", "for loop in main", "allcores.imap(main_item, records())"),
        ("model.py", "100_000", "30_000", "comprehension in main", "total = sum(allcores.map(predict, range(30_000)))"),
    ],
)
def test_the_profile_finds_the_loop_and_says_how(
    folder: Path, program: str, items: str, fewer: str, site: str, line: str
) -> None:
    """The first candidate, its change, and the program that comes of it prints the same."""
    resize(folder / program, items, fewer)
    done = allcores(folder, "profile", "--json", "profile.json", program)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "profile.json").read_text())
    first = report["candidates"][0]
    assert f"{first['kind']} in {first['function']}" == site, first
    assert line in first["diff"], first["diff"]
    subprocess.run(["patch", "-p1", "--quiet"], cwd=folder, input=first["diff"], text=True, check=True)
    changed = subprocess.run([sys.executable, program], cwd=folder, capture_output=True, text=True, timeout=240)
    assert changed.stdout == done.stdout and changed.stdout


def test_the_profile_finds_nothing_in_squares(folder: Path) -> None:
    """Too short, each by itself."""
    program = folder / "squares.py"
    # More of them: on a quick machine the program is over before it was sampled often enough to say anything.
    resize(program, "4_000_000", "12_000_000")
    done = allcores(folder, "profile", "squares.py")
    assert "No candidate" in done.stderr and "its iterations are too short" in done.stderr, done.stderr


@several_cores
@pytest.mark.parametrize(
    ("function", "items", "verdicts"),
    [
        ("primes.py:count_primes", [str(limit) for limit in range(2_000, 9_000, 10)], {"parallel", "unreliable"}),
        (
            "hashes.py:digest",
            [json.dumps(f"record {number} " * 50) for number in range(20_000)],
            {"parallel", "unreliable"},
        ),
        ("model.py:predict", [str(number) for number in range(100_000)], {"parallel", "unreliable", "serial"}),
        ("squares.py:square", [str(number) for number in range(100_000)], {"serial", "unreliable"}),
    ],
)
def test_advice_and_tuning_say_what_the_page_says(
    warm: Interpreter, folder: Path, function: str, items: list[str], verdicts: set[str]
) -> None:
    """Processes or nothing, never threads; a machine that is busy with others may give no verdict."""
    (folder / "items.jsonl").write_text("\n".join(items) + "\n")

    def answer(command: str) -> dict[str, Any]:
        # Few seconds: what is asserted is not how sure the answer is.
        words = command, function, "items.jsonl", "--json", "--budget", "2"
        done = warm.run(*words, folder=folder, environ={"ALLCORES_HOME": str(folder / "home")})
        found: dict[str, Any] = json.loads(done.out)
        return found

    advice = answer("advise")
    assert advice["verdict"] in verdicts, advice
    assert advice["recommendation"]["pattern"] in ("serial", "processes")
    tuned = answer("tune")
    assert tuned["verdict"] in {*verdicts, "unreliable"}, tuned
