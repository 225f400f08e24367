"""What a large model costs that all workers need: memory, and time when a worker is replaced."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.model_program import VARIANTS
from benchmarks.processes import Program, ProgramFailed
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings

#: seconds that one program may take
LIMIT_S = 90.0


def _ask(what: str, variant: str, count: int) -> float:
    """The number that benchmarks.model_program finds."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "answer"
        program = Program("benchmarks.model_program", what, variant, str(count), str(target))
        deadline = time.monotonic() + LIMIT_S
        try:
            # The program may not end by itself (a pool left open); its answer is enough.
            while not target.exists():
                if time.monotonic() > deadline:
                    raise ProgramFailed(f"no answer within {LIMIT_S:g} s")
                if program.wait(0.05) is not None and not target.exists():
                    raise ProgramFailed(f"ended with exit code {program.process.returncode}")
            return float(target.read_text())
        finally:
            program.end()


def copies(variant: str, workers: int, one: float) -> float:
    """Memory that the model costs a whole pool, in models. one: bytes of one."""
    return (_ask("memory", variant, workers) - _ask("memory", f"{variant}-little", workers)) / one


def rows(settings: Settings) -> list[Row]:
    """`preload`, `preload-memory`."""
    if sys.platform != "linux" or importlib.util.find_spec("symspellpy") is None:
        settings.say("models: needs /proc/PID/smaps_rollup and symspellpy; skipped")
        return []
    known = settings.names()
    variants = [variant for variant in VARIANTS if variant.partition(":")[0] in known]
    if settings.quick:  # loading takes its time; the others load in the same way
        variants = [variant for variant in variants if variant in ("allcores:preload", "multiprocessing:initializer")]
    crashes, workers = settings.size(3, 1), settings.size(4, 2)
    replaced = Row(
        "preload",
        "A worker killed by SIGKILL whose model takes two seconds to load: time until its replacement has answered",
        "ms",
        f"One worker; the median of {crashes} crashes a round. The model is the English spell checker of symspellpy; "
        "the answer needs it.",
    )
    memory = Row(
        "preload-memory",
        f"Memory that this model costs {workers} workers, in copies of it",
        "copies",
        "Of the program and all that it started, with shared pages counted by share (PSS), after each worker has "
        "looked up words; less the same with a model of seven words; divided by what the model takes in one process.",
    )
    for row in (replaced, memory):
        row.comparable = False
        row.notes = {variant: VARIANTS[variant] for variant in variants if VARIANTS[variant]}
    rounds = min(settings.rounds, 3)
    in_turn(replaced, {name: partial(_ask, "replacement", name, crashes) for name in variants}, rounds, settings)
    # The only worker of a pool that loads in each: the model's own size, without anybody to share it with.
    one = _ask("memory", "allcores:setup", 1) - _ask("memory", "allcores:setup-little", 1)
    memory.how += f" That is {one / 1e6:.0f} MB."
    in_turn(memory, {name: partial(copies, name, workers, one) for name in variants}, rounds, settings)
    mine = "allcores:preload"
    replaced.judge("back at work with a preloaded model, ms", replaced.samples.get(mine, ()), most=50.0)
    memory.judge(f"copies of a preloaded model with {workers} workers", memory.samples.get(mine, ()), most=1.15)
    return [replaced, memory]
