"""Whether `allcores profile` ranks the right loop first, and what its diff gives: part of `--profile`.

Ten unmodified programs run under it. Of five, the diff that it shows is applied, and the whole program runs with and
without, in pairs of shuffled order; the output has to be the same.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from benchmarks.advice.profile_overhead import ROOT
from benchmarks.advice.programs import CHANGED, NEEDS, PROGRAMS, line_of, patched

#: pairs of a program and the changed one
PAIRS = 5


def profiled(name: str, folder: Path) -> dict[str, Any]:
    """The JSON of the report about a program."""
    (folder / "script.py").write_text(PROGRAMS[name])
    options = ["--json", "profile.json", "--report", "report.txt"]
    _run(["-m", "allcores", "profile", *options, "script.py", _data(folder)], folder)
    found: dict[str, Any] = json.loads((folder / "profile.json").read_text())
    return found


def _run(arguments: Sequence[str], folder: Path) -> tuple[float, str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it failed"])[-1])
    return perf_counter() - start, done.stdout


def _data(folder: Path) -> str:
    (folder / "data").mkdir(exist_ok=True)
    return "data"


def measure(name: str, pairs: int, numbers: Random) -> dict[str, Any]:
    """Whether the marked loop is first, and for some what the diff gives the whole program."""
    need = NEEDS.get(name)
    found: dict[str, Any] = {"program": name}
    if need is not None and importlib.util.find_spec(need) is None:
        return {**found, "left_out": f"{need} is not installed"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        try:
            report = profiled(name, folder)
            marked, candidates = line_of(PROGRAMS[name]), report["candidates"]
            paying = [each for each in candidates if each["pays"]]
            found["first"] = paying[0]["line"] if paying else None
            found["right"] = found["first"] == marked
            if name in CHANGED and found["right"]:
                found |= _gain(name, paying[0], folder, pairs, numbers)
        except (RuntimeError, subprocess.TimeoutExpired) as problem:
            found |= {"right": False, "problem": str(problem)}
    return found


def _gain(name: str, first: dict[str, Any], folder: Path, pairs: int, numbers: Random) -> dict[str, Any]:
    if first["diff"] is None:
        return {"problem": "no diff"}
    (folder / "changed.py").write_text(patched(PROGRAMS[name], first["diff"]))
    ratios = []
    for _ in range(pairs):
        order = ["script.py", "changed.py"]
        numbers.shuffle(order)
        taken = {each: _run([each, _data(folder)], folder) for each in order}
        if taken["script.py"][1] != taken["changed.py"][1]:
            return {"problem": "the changed program prints something else"}
        ratios.append(taken["script.py"][0] / taken["changed.py"][0])
    measured = statistics.median(ratios)
    predicted = first["predicted"]
    return {
        "predicted": predicted,
        "gain": round(measured, 3),
        "off": round(abs(predicted["speedup"] / measured - 1), 3),
        "holds": predicted["low"] <= measured <= predicted["high"],
    }


def all_of_them(
    names: Sequence[str] = tuple(PROGRAMS), *, pairs: int = PAIRS, say: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """Each program."""
    numbers = Random(4)
    found = []
    for name in names:
        found.append(measure(name, pairs, numbers))
        say(str(found[-1]))
    return found


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many are right, and how many gains came within 15 %."""
    gains = [each for each in found if "off" in each]
    return {
        "programs": sum("right" in each for each in found),
        "right_first": sum(each.get("right", False) for each in found),
        "wrong": [each["program"] for each in found if not each.get("right", True)],
        "gains": len(gains),
        "gains_within_15_percent": sum(each["off"] <= 0.15 for each in gains),
        "problems": {each["program"]: each["problem"] for each in found if "problem" in each},
    }
