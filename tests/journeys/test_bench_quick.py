"""The benchmark scripts run and bring real numbers. How large they are is not a test's business."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from benchmarks import advice, crimes, job_peers, jobs
from benchmarks.advice import itself, programs, what_ifs
from benchmarks.advice import run as sweeps
from benchmarks.settings import Settings

from allcores.advisor.measuring import calls

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`benchmarks/run.py --quick` with more arguments."""
    return subprocess.run(
        [sys.executable, "benchmarks/run.py", "--quick", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def rows(path: Path) -> dict[str, dict[str, Any]]:
    """The JSON file's rows by name."""
    return {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}


@pytest.mark.slow
def test_each_contender_brings_a_number(tmp_path: Path) -> None:
    """allcores, a peer and the baselines are measured, and every aim gets a verdict."""
    target, page = tmp_path / "figures.json", tmp_path / "page.md"
    done = bench(
        "--only", "imap,submit,import", "--contenders", "allcores,multiprocessing",
        "--json", str(target), "--report", str(page),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = rows(target)
    expected = {
        "imap": {"allcores", "multiprocessing", "bare", "serial"},
        "submit": {"allcores", "multiprocessing", "ping-pong", "connection", "naive"},
        "import": {"allcores", "allcores.Pool", "concurrent.futures.process", "multiprocessing.pool"},
    }
    assert set(found) == set(expected)
    for name, contenders in expected.items():
        assert found[name]["notes"] == {}, done.stderr
        assert set(found[name]["samples"]) == contenders
        for samples in found[name]["samples"].values():
            assert samples and all(math.isfinite(sample) and sample > 0 for sample in samples)
    assert {verdict["reached"] for verdict in found["imap"]["aims"]} <= {True, False}
    assert "-> `imap` without a chunk size" in done.stdout
    assert "allcores" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_load_is_compared_with_unconnected_processes(tmp_path: Path) -> None:
    """Efficiency is a ratio to two processes that share nothing."""
    target = tmp_path / "figures.json"
    done = bench("--only", "loads", "--contenders", "allcores", "--json", str(target))
    assert done.returncode == 0, done.stderr
    for row in rows(target).values():
        assert set(row["spreads"]) == {"allcores", "unconnected", "serial"}, done.stderr
        assert row["aims"][0]["spread"]["median"] > 0


@pytest.mark.slow
def test_crimes_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial has a verdict in words, and a pool that hangs ends neither the run nor the others."""
    real = crimes.try_crime

    def sooner(contender: str, crime: str, mode: str, patience: float) -> dict[str, str]:
        """Whoever hangs would still do so in ten seconds."""
        return real(contender, crime, mode, patience if contender == "allcores" else 1.0)

    monkeypatch.setattr(crimes, "try_crime", sooner)
    (row,) = crimes.rows(Settings(quick=True, wanted=("allcores", "multiprocessing")))
    assert row.table["segmentation fault"]["allcores"] == "survived"
    assert row.table["segmentation fault"]["multiprocessing"] == "hangs"


@pytest.mark.quick
def test_an_unknown_row_gets_one_clear_sentence() -> None:
    """A typing error names the rows that there are."""
    done = bench("--only", "imapp")
    assert done.returncode == 2
    assert "no such row: imapp" in done.stderr and "submit" in done.stderr


@pytest.mark.slow
def test_efficiency_is_measured_warm_and_cold(tmp_path: Path) -> None:
    """Each size, the parent's share, and a pool against itself."""
    target = tmp_path / "figures.json"
    done = bench("--only", "efficiency", "--contenders", "allcores,multiprocessing", "--json", str(target))
    assert done.returncode == 0, done.stderr
    found = rows(target)
    sizes = {f"efficiency-{size}ms" for size in ("0.1", "1", "4", "20")}
    assert set(found) == sizes | {"parent", "cold-efficiency", "cold-imap"}
    for name in sizes:
        assert found[name]["notes"] == {}, done.stderr
        assert set(found[name]["spreads"]) == {"allcores", "multiprocessing", "allcores again"}
        assert all(0 < spread["median"] <= 1.05 for spread in found[name]["spreads"].values())


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--seconds", "10,50"]])
def test_batches_are_measured(words: list[str]) -> None:
    """The load that needs no library: each way is run, its results are compared, and its seconds are printed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.batches", "--loads", "plain", "--texts", "40", "--rounds", "1", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    table = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(table) == (2 if words else 5)
    assert all(float(cell) >= 0 for row in table for cell in row[1:])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the supervisor of jobs is for Linux")
def test_jobs_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """From submit to a stored result, one at rest, and the pages over a store; results are compared inside.

    Results are looked for less often than a thousand times a second, which takes a core while servers start.
    """
    pytest.importorskip("flask")
    monkeypatch.setattr(job_peers, "LOOK_S", 0.02)
    made = jobs.rows(Settings(quick=True, rounds=1, wanted=("allcores",)))
    found = {row.name: json.loads(json.dumps(row.as_json())) for row in made}
    assert set(found) == {"jobs-rate", "jobs-latency", "jobs-latency-95", "jobs-million", "jobs-tabs"}
    assert all(row["notes"] == {} for row in found.values()), found
    assert set(found["jobs-rate"]["spreads"]) == {"allcores", "allcores, one by one", "allcores, NORMAL"}
    assert found["jobs-million"]["spreads"]["overview"]["median"] > 0
    assert found["jobs-tabs"]["spreads"]["20 tabs"]["median"] > 0


@pytest.mark.slow
def test_works_over_messages_are_measured(tmp_path: Path) -> None:
    """A loop and allcores, for one work; each a program of its own."""
    pytest.importorskip("spacy")
    target = tmp_path / "figures.json"
    done = bench("--only", "nlp-text", "--contenders", "allcores", "--json", str(target))
    assert done.returncode == 0, done.stderr
    found = rows(target)
    assert set(found) == {"nlp-text"}
    assert set(found["nlp-text"]["spreads"]) == {"a loop", "allcores"}, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read in /proc")
def test_pipelines_are_measured(tmp_path: Path) -> None:
    """Each way in a program of its own; what they give is compared inside."""
    target = tmp_path / "figures.json"
    done = bench("--only", "pipelines", "--contenders", "allcores,executors", "--json", str(target))
    assert done.returncode == 0, done.stderr
    found = rows(target)
    assert set(found) == {"pipelines", "pipelines-memory"}
    ways = {name for name, spread in found["pipelines"]["spreads"].items() if spread["median"] > 0}
    assert ways == {"one stage", "imap", "fused", "apart", "executors"}, done.stderr
    assert set(found["pipelines-memory"]["spreads"]) == {"fused", "apart"}


@pytest.mark.slow
def test_advice_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a sweep, beside itself, applied, and by programs; each aim that there is something for gets a verdict.

    With less than a quick run has of what takes most: a smaller program, fewer items, settings and calls, and shorter
    comparisons.
    """
    name = "list comprehension"
    monkeypatch.setitem(programs.PROGRAMS, name, programs.program(name, 30))
    monkeypatch.setattr(sweeps, "CHUNKS", (1, None))
    monkeypatch.setattr(what_ifs, "CHANGES", (replace(what_ifs.CHANGES[0], part=0.1),))
    # The first worker may take as long as it needs on a busy machine, but little is measured then.
    monkeypatch.setattr(itself, "PROBE_S", 12.0)
    monkeypatch.setattr(calls, "EACH_PART", calls.EACH_PART / 12)
    monkeypatch.setattr(itself, "comparisons", partial(itself.comparisons, seconds=0.5))
    asked = {"advice-best", "advice-interval", "advice-itself", "what-ifs", "tune-best", "profile-ranking"}
    made = advice.rows(Settings(quick=True, rounds=1, only=frozenset(asked)))
    found = {row.name: json.loads(json.dumps(row.as_json())) for row in made}
    assert set(found) == asked
    assert set(found["advice-interval"]["table"]) <= {"three items"}
    assert set(found["what-ifs"]["table"]) <= {"compact results"}
    assert set(found["profile-ranking"]["table"]) == {name}
    assert set(found["tune-best"]["table"]) == {"three items"}
    assert set(found["advice-best"]["table"]) == {"three items"}
    assert {line["verdict"] for line in found["advice-best"]["table"].values()} <= {"serial", "unreliable"}
    assert 0 <= found["advice-itself"]["samples"]["allcores"][0] <= 1
    names = ("advice-best", "advice-itself", "tune-best")  # the others may have nothing to compare on a busy machine
    missing = {verdict["aim"] for name in names for verdict in found[name]["aims"] if not verdict["rounds"]}
    assert missing <= {"half-width of a predicted interval"}
