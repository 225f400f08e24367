"""What a journal costs, and how soon a long run goes on after it was killed.

python benchmarks/journal.py build FOLDER ITEMS      a run that stops before its last item
python benchmarks/journal.py resume FOLDER           goes on with it; prints seconds to the first outcome, and MB
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import allcores
from allcores.runs.session import RunSession
from allcores.runs.spec import RunHooks, RunSpec
from allcores.sinks.open import sink_of
from allcores.sources.open import source_of
from benchmarks.memory import status_mb
from benchmarks.processes import RUN, environment
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings
from benchmarks.tasks import add_one


class Numbers:
    """An input that can be read again."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


def one_ms(x: int) -> int:
    """Computes for a millisecond."""
    until = time.perf_counter() + 0.001
    while time.perf_counter() < until:
        pass
    return x


def last_waits(line: str) -> int:
    """Refuses the last item, as long as the file `go` is not there."""
    if line.startswith("last") and not os.path.exists("go"):
        raise ValueError("not yet")
    return len(line)


def map_seconds(pool: allcores.Pool, function: Any, items: int, journal: allcores.Journal | bool) -> float:
    """Seconds of a journalled map, or of one without; the output is checked."""
    with tempfile.TemporaryDirectory(prefix="allcores-bench-") as folder:
        output = os.path.join(folder, "out.jsonl")
        if journal is not False:
            journal = allcores.Journal(folder=os.path.join(folder, "runs"), fsync="commit")
        started = time.perf_counter()
        result = pool.run(function, Numbers(items), output, journal=journal)
        taken = time.perf_counter() - started
        assert result.ok == items, "wrong results"
        with open(output, "rb") as file:
            assert sum(1 for _ in file) == items, "wrong output"
    return taken


def build(folder: str, items: int) -> None:
    """A run of so many items that was ended before its last."""
    os.chdir(folder)
    with open("in.txt", "w") as file:
        file.writelines(f"line number {n}\n" for n in range(items - 1))
        file.write("last\n")
    with allcores.Pool(2) as pool:
        try:
            pool.run(last_waits, "in.txt", "out.jsonl", journal=allcores.Journal(folder="runs"))
        except ValueError:
            return
    raise AssertionError("the run was to stop")


class First(RunHooks):
    """Looks when the first outcome came."""

    def __init__(self) -> None:
        self.when = 0.0

    def settled(self, outcome: Any) -> None:
        self.when = self.when or time.perf_counter()


def resume(folder: str) -> None:
    """Go on with it; print when the first outcome came, and the largest memory."""
    os.chdir(folder)
    Path("go").touch()
    first = First()
    started = time.perf_counter()
    spec = RunSpec(last_waits, source_of("in.txt"), sink_of("out.jsonl"))
    with allcores.Pool(2) as pool, RunSession(spec, allcores.Journal(folder="runs", resume=True)) as run:
        result = run.work(pool, first)
    # Not ru_maxrss, in which is what the process had that started this one.
    peak_mb = status_mb("VmHWM")
    Path("go").unlink()
    facts = {"s": first.when - started, "whole_s": result.seconds, "mb": peak_mb, "items": result.items}
    print(json.dumps(facts))


def resumed(folder: str) -> dict[str, float]:
    """Resume in a program of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "resume", folder],
        env=environment(RUN),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def resume_facts(items: int, *, dirty_maps: bool) -> dict[str, float]:
    """Of one run that stopped before its last item. touched: its input has another time, so it has to be compared."""
    with tempfile.TemporaryDirectory(prefix="allcores-bench-") as folder:
        subprocess.run(
            [sys.executable, __file__, "build", folder, str(items)], env=environment(RUN), timeout=900, check=True
        )
        if dirty_maps:
            os.utime(os.path.join(folder, "in.txt"), (1, 1))
        found = resumed(folder)
    assert found["items"] == items, "items are missing"
    return found


def rows(settings: Settings) -> list[Row]:
    """`journal`, `journal-tiny` and `resume`."""
    rounds = max(settings.rounds, settings.size(7, 1))
    with allcores.Pool(2) as pool:
        pool.map(add_one, range(settings.size(100_000, 1_000)))
        items = settings.size(4_000, 200)
        work = Row(
            "journal",
            f"`Pool.run` over {items:,} items of 1 ms, with a journal and without",
            "s",
            "Two workers, warm; each commit is synced to the disk. Without a journal the output is written alike.",
        )
        in_turn(
            work,
            {
                "journal": partial(map_seconds, pool, one_ms, items, True),
                "no journal": partial(map_seconds, pool, one_ms, items, False),
            },
            rounds,
            settings,
        )
        work.judge("with a journal / without", work.ratios("journal", "no journal"), most=1.05)

        items = settings.size(500_000, 5_000)
        tiny = Row(
            "journal-tiny",
            f"`Pool.run` of x+1 over {items:,} items, with a journal and without",
            "s",
            "Two workers, warm; each commit is synced to the disk.",
        )
        in_turn(
            tiny,
            {
                "journal": partial(map_seconds, pool, add_one, items, True),
                "no journal": partial(map_seconds, pool, add_one, items, False),
            },
            rounds,
            settings,
        )
        pace = [items / each if each else None for each in tiny.samples["journal"]]
        tiny.judge("journalled items a second", pace, least=100_000)

    return [work, tiny, _resume_row(settings)]


def _resume_row(settings: Settings) -> Row:
    small, large = settings.size(1_000_000, 2_000), settings.size(10_000_000, 20_000)
    row = Row(
        "resume",
        f"Going on with a run that was ended before its last item, of {small:,} and of {large:,}",
        "s",
        "From opening the run to its first outcome, in a fresh program, the pool's start included. The input is a file"
        " of lines. Measured once for each. Touched: the file has another time, so what was read of it is compared.",
        comparable=False,
    )
    facts: dict[str, dict[str, float]] = {}
    for count, dirty_maps in ((small, False), (large, False), (large, True)):
        name = f"{count:,} items" + (", file touched" if dirty_maps else "")
        found = facts[name] = resume_facts(count, dirty_maps=dirty_maps)
        row.samples[name] = [found["s"]]
        row.notes[name] = f"{found['mb']:.0f} MB at most; the output again whole after {found['whole_s']:.1f} s"
    first, *long = facts.values()
    row.judge(f"seconds until {large:,} items go on", [found["s"] for found in long], most=5.0)
    row.judge("memory of the long run / of the short one", [found["mb"] / first["mb"] for found in long], most=1.2)
    return row


if __name__ == "__main__":
    build(sys.argv[2], int(sys.argv[3])) if sys.argv[1] == "build" else resume(sys.argv[2])
