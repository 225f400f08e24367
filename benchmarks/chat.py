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
        cpu: Seconds of all its processes.
        largest_mb: Of one of its processes.
        summary: As `--json` prints it.
        digest: Of the output.
    """

    wall: float
    cpu: float
    largest_mb: float
    summary: dict[str, Any]
    digest: str


def preprocess(folder: Path, source: Path, *more: str) -> Done:
    """Run the command on a file."""
    output = folder / "out.jsonl"
    words = ["chat", "preprocess", str(source), "-o", str(output), "--json", "-q", *more]
    environ = {**os.environ, "ALLCORES_HOME": str(folder / "home")}
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "allcores", *words], stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode != 0:
        raise RuntimeError(f"the command ended with {process.returncode}")
    digest = hashlib.blake2b(output.read_bytes(), digest_size=16).hexdigest()
    return Done(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000, json.loads(text), digest)


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
    source = _written(folder, count)
    row = Row(
        "chat-file",
        f"One file of {count:,} messages, stages {LIGHT}",
        "seconds",
        f"From the start of the command to its end. Busy: CPU seconds of all processes by seconds and {CORES} cores.",
    )
    found: list[Done] = []

    def measure() -> float:
        found.append(preprocess(folder, source, "--stages", LIGHT, "--workers", str(CORES), "--no-journal"))
        return found[-1].wall

    in_turn(row, {"allcores": measure}, settings.rounds, settings)
    row.judge("busy", [done.cpu / done.wall / CORES for done in found], least=0.95)
    row.judge("MB of the largest process", [done.largest_mb for done in found], most=400)
    return row


def _whole(settings: Settings, folder: Path) -> Row:
    count = settings.size(25_000, 60)
    source = _written(folder, count)
    row = Row(
        "chat-whole",
        f"All default stages over {count:,} messages",
        "seconds",
        f"As the command tells it, with loading the models. The limit: seconds of all stages by {CORES}.",
    )
    found: list[Done] = []

    def measure() -> float:
        found.append(preprocess(folder, source, "--workers", str(CORES)))
        return float(found[-1].summary["seconds"])

    in_turn(row, {"allcores": measure}, settings.rounds, settings)
    limits = [sum(done.summary["stage_seconds"].values()) / CORES for done in found]
    ratios = [done.summary["seconds"] / limit for done, limit in zip(found, limits, strict=True)]
    row.judge("seconds over the limit", ratios, most=1.1)
    return row


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
