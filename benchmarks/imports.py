"""How long `import` takes, in a fresh interpreter each time."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.contenders import CONTENDERS
from benchmarks.processes import ROOT, RUN, environment
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings

_PROGRAM = "import time; before = time.perf_counter(); import {}; print(time.perf_counter() - before)"
#: an import that has loaded what the first call needs
_READY = _PROGRAM.format("allcores; allcores.Pool; allcores.map")


def import_ms(program: str) -> float:
    """ms, as the fresh interpreter itself measured them."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(RUN),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise ImportError(done.stderr.strip().rpartition("\n")[2])
    return float(done.stdout) * 1000


def rows(settings: Settings) -> list[Row]:
    """`import`."""
    rounds = settings.size(max(settings.rounds, 9), 2)
    row = Row(
        "import",
        "Time of `import` in a fresh interpreter",
        "ms",
        f"The modules' compiled forms are on disk and in memory. {rounds} rounds. allcores loads its "
        "parts when "
        "they are first needed; `allcores.Pool` is the time with the pool and the engine loaded as well.",
    )
    programs = {name: _PROGRAM.format(name) for name in ("concurrent.futures.process", "multiprocessing.pool")}
    for name in settings.names():
        package = CONTENDERS[name].package
        if package is not None:
            programs[name] = _PROGRAM.format(package)
    if "allcores" in programs:
        programs["allcores.Pool"] = _READY
    for program in programs.values():
        try:
            import_ms(program)
        except ImportError as error:
            settings.say(f"warming up: {error}")
    in_turn(row, {name: partial(import_ms, program) for name, program in programs.items()}, rounds, settings)
    row.judge(
        "allcores / concurrent.futures.process",
        row.ratios("allcores", "concurrent.futures.process"),
        most=1.0,
    )
    row.judge(
        "for comparison, the same with allcores.Pool loaded",
        row.ratios("allcores.Pool", "concurrent.futures.process"),
        most=1.0,
    )
    for peer in ("joblib", "mpire"):
        if peer in row.samples:
            row.judge(f"{peer} / allcores", row.ratios(peer, "allcores"), least=4.0)
    return [row]
