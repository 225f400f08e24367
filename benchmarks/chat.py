"""`allcores chat preprocess` on files: how busy the cores are, what the whole pipeline takes, and duplicates.

Each measurement is the command itself, on a file of messages made from chatterbot-corpus.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.chat_watch import STARTED_S, TreeWatch
from benchmarks.nlp import NEEDED, messages
from benchmarks.rows import Row, in_turn
from benchmarks.settings import Settings

CORES = 2
#: stages that take some hundred microseconds each: what the program itself takes counts for most there
LIGHT = "unicode,lang,pii,tokens,sentiment"


@dataclass(frozen=True)
class Done:
    """One run of the command.

    Attributes:
        wall: Seconds.
        busy: Of the cores, from `STARTED_S` after the start to the end.
        largest_mb: Of one of its processes.
        peak_mb: Of all of them together, shared pages counted once.
        summary: As `--json` prints it.
        digest: Of the output.
    """

    wall: float
    busy: float
    largest_mb: float
    peak_mb: float
    summary: dict[str, Any]
    digest: str


def preprocess(folder: Path, source: Path, *more: str) -> Done:
    """Run the command on a file."""
    output = folder / "out.jsonl"
    words = ["chat", "preprocess", str(source), "-o", str(output), "--json", "-q", *more]
    environ = {**os.environ, "ALLCORES_HOME": str(folder / "home")}
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "allcores", *words], stdout=subprocess.PIPE, env=environ) as process:
        watch = TreeWatch(process.pid)
        try:
            assert process.stdout is not None
            text = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            watch.end()
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode != 0:
        raise RuntimeError(f"the command ended with {process.returncode}")
    digest = hashlib.blake2b(output.read_bytes(), digest_size=16).hexdigest()
    cpu = usage.ru_utime + usage.ru_stime - watch.started_cpu_s
    busy = cpu / max(wall - STARTED_S, 1e-9) / CORES
    return Done(wall, busy, usage.ru_maxrss / 1000, watch.peak_mb, json.loads(text), digest)


def _program(what: str, source: Path, folder: Path) -> tuple[float, float]:
    """The number that `benchmarks.chat_program` prints, and the most memory that it and its workers had, MB."""
    command = [sys.executable, "-m", "benchmarks.chat_program", what, str(source), str(CORES)]
    environ = {**os.environ, "ALLCORES_HOME": str(folder / "home")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) as process:
        watch = TreeWatch(process.pid)
        try:
            text = process.communicate()[0]
        finally:
            watch.end()
    if process.returncode != 0:
        raise RuntimeError(f"the program ended with {process.returncode}")
    return float(text), watch.peak_mb


def rows(settings: Settings) -> list[Row]:
    """`chat-file`, `chat-whole`, `chat-duplicates`, `chat-memory`."""
    missing = [name for name in (*NEEDED, "rensa") if importlib.util.find_spec(name) is None]
    if missing:
        settings.say(f"chat: needs {', '.join(missing)}; skipped")
        return []
    made = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if settings.wants("chat", "chat-file"):
            made.append(_file(settings, folder))
        if settings.wants("chat", "chat-whole"):
            made.append(_whole(settings, folder))
        if settings.wants("chat", "chat-duplicates"):
            made.append(_duplicates(settings, folder))
        if settings.wants("chat", "chat-memory"):
            made.append(_memory(settings, folder))
    return made


def _written(folder: Path, count: int) -> Path:
    path = folder / f"{count}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(messages(count)):
            file.write(json.dumps({"id": str(number), "text": text, "conversation_id": str(number // 9)}) + "\n")
    return path


def _file(settings: Settings, folder: Path) -> Row:
    count = settings.size(200_000, 500)
    row = Row(
        "chat-file",
        f"One file of {count:,} messages, stages {LIGHT}",
        "seconds",
        f"From the start of the command to its end. Busy: CPU seconds of all processes from {STARTED_S:g} s on, by"
        f" seconds and {CORES} cores.",
    )
    found = _runs(settings, row, folder, _written(folder, count), "--stages", LIGHT, "--no-journal")
    row.judge("busy", [done.busy for done in found], least=0.95)
    row.judge("MB of the largest process", [done.largest_mb for done in found], most=400)
    return row


def _whole(settings: Settings, folder: Path) -> Row:
    count = settings.size(25_000, 60)
    source = _written(folder, count)
    row = Row(
        "chat-whole",
        f"All default stages over {count:,} messages",
        "seconds",
        "From the start of the command to its end. The limit, beside the seconds that the command tells, which are with"
        f" loading the models: seconds of all stages by {CORES}. Memory: of all processes, shared pages counted once,"
        " by that of one process that runs the same stages over the same messages. The first row: from when the models"
        " are loaded, of a program that takes rows as they come.",
    )
    found = _runs(settings, row, folder, source)
    limits = [sum(done.summary["stage_seconds"].values()) / CORES for done in found]
    ratios = [done.summary["seconds"] / limit for done, limit in zip(found, limits, strict=True)]
    row.judge("seconds over the limit", ratios, most=1.1)
    if found:
        # Once: all messages on one core take more than all rounds of a part of the other rows.
        _, alone_mb = _program("one", source, folder)
        row.judge("memory over one process", [done.peak_mb / alone_mb for done in found], most=1.25)
        firsts = [_program("first", source, folder)[0] for _ in found]
        row.judge("seconds to the first row", firsts, most=1.0)
        row.notes["memory"] = f"{found[0].peak_mb:,.0f} MB, one process {alone_mb:,.0f} MB"
    return row


def _runs(settings: Settings, row: Row, folder: Path, source: Path, *more: str) -> list[Done]:
    """Fill a row with the seconds of the command; what else is known of each run."""
    found: list[Done] = []

    def measure() -> float:
        found.append(preprocess(folder, source, "--workers", str(CORES), *more))
        return found[-1].wall

    in_turn(row, {"allcores": measure}, settings.rounds, settings)
    return found


def _duplicates(settings: Settings, folder: Path) -> Row:
    count = settings.size(100_000, 500)
    source = _written(folder, count)
    row = Row(
        "chat-duplicates",
        f"Exact and near duplicates among {count:,} messages",
        "seconds",
        "From the start of the command to its end. The outputs are the same bytes, or it is no result.",
    )
    digests: set[str] = set()

    def measure(workers: int) -> float:
        done = preprocess(folder, source, "--stages", "unicode,duplicates", "--workers", str(workers), "--no-journal")
        digests.add(done.digest)
        if len(digests) > 1:
            raise RuntimeError("another number of workers gave other groups")
        return done.wall

    ways = {f"{workers} workers": partial(measure, workers) for workers in (1, 2, 4)}
    in_turn(row, ways, settings.rounds, settings)
    row.judge("seconds of 2 workers", row.samples["2 workers"], most=60)
    return row


#: a stage that says how much memory its worker has
WATCH = """
from allcores import nlp

def watch(record):
    with open("/proc/self/statm") as file:
        return {"pages": int(file.read().split()[1])}

watch = nlp.Stage("watch", each=watch, gives={"pages": "int64"})
"""


def _memory(settings: Settings, folder: Path) -> Row:
    (folder / "watch.py").write_text(WATCH)
    row = Row(
        "chat-memory",
        "Memory of workers over messages of thirty words that were never met before",
        "ratio",
        "Resident pages of a worker at most in the last third of the messages, by those in the middle third. Rules keep"
        " the words that they have met, up to a limit that is reached before; a model forgets them with each batch.",
    )
    ways = {
        "rules (tokens)": partial(_growth, folder, "tokens", settings.size(20_000, 400)),
        "a model (lemmas)": partial(_growth, folder, "lemmas", settings.size(4_000, 100)),
    }
    in_turn(row, ways, settings.rounds, settings)
    for name in ways:
        row.judge(f"growth with {name}", row.samples[name], most=1.05)
    return row


def _growth(folder: Path, stage: str, count: int) -> float:
    source = folder / "words.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for number in range(count):
            words = " ".join(f"word{30 * number + place}" for place in range(30))
            file.write(json.dumps({"text": f"I think that {words} are new to you."}) + "\n")
    stages = f"unicode,lang,{stage},{folder / 'watch.py'}:watch"
    preprocess(folder, source, "--stages", stages, "--workers", str(CORES), "--no-journal")
    with (folder / "out.jsonl").open(encoding="utf-8") as file:
        pages = [json.loads(line)["pages"] for line in file]
    part = max(1, count // 3)
    return float(max(pages[-part:]) / max(pages[part : 2 * part]))
