"""The page docs/benchmarks.md and its short form for the terminal."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from pathlib import Path

from benchmarks.contenders import CONTENDERS
from benchmarks.rows import Row, Spread, Verdict
from benchmarks.settings import Settings


def machine() -> dict[str, str]:
    """What was measured on, with which versions."""
    processor = platform.processor() or platform.machine()
    memory = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
        kib = int(Path("/proc/meminfo").read_text().split()[1])
        memory = f"{kib / 2**20:.0f} GiB"
    except (OSError, ValueError, IndexError):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "processor": processor,
        "cores": str(cores),
        "memory": memory,
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for kind in CONTENDERS.values():
        if kind.package is not None:
            facts[kind.label] = kind.version() if kind.installed() else "not installed"
    return facts


def number(value: float | None) -> str:
    """Three figures, in a form to be read."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _span(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    if spread.low == spread.high:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.low)} to {number(spread.high)})"


def _verdict(verdict: Verdict) -> str:
    found = f", found {_span(verdict.spread)}" if verdict.spread else ""
    rounds = f"; in {verdict.rounds_reached} of {verdict.rounds} rounds" if verdict.rounds > 1 else ""
    return f"{verdict.aim} {verdict.bound}{found}: {verdict.word()}{rounds}"


def _label(name: str) -> str:
    return CONTENDERS[name].label if name in CONTENDERS else name


def _numbers(row: Row) -> list[list[str]]:
    lines = []
    for name in row.samples:
        spread = row.spread(name)
        against = Spread.of(row.ratios(name, "allcores")) if name != "allcores" and row.comparable else None
        lines.append([_label(name), _span(spread), number(against.median) if against else "", row.notes.get(name, "")])
    return lines


def _markdown(head: list[str], lines: list[list[str]]) -> list[str]:
    filled = [at for at in range(len(head)) if at == 0 or any(line[at] for line in lines)]
    out = ["| " + " | ".join(head[at] for at in filled) + " |", "|" + "---|" * len(filled)]
    out += [
        "| " + " | ".join(line[at].replace("|", "\\|").replace("\n", " ") for at in filled) + " |" for line in lines
    ]
    return out


def _table(row: Row) -> list[str]:
    if row.table:
        columns = list(dict.fromkeys(column for words in row.table.values() for column in words))
        lines = [[line, *(words.get(column, "–") for column in columns)] for line, words in row.table.items()]
        return _markdown([row.unit, *(_label(column) for column in columns)], lines)
    return _markdown(
        [
            "contender",
            row.unit,
            "in allcores' time"
            if "second" in row.unit or "µs" in row.unit or row.unit == "ms"
            else "ratio to allcores",
            "remark",
        ],
        _numbers(row),
    )


def as_text(rows: list[Row]) -> str:
    """For the terminal: every row with its verdicts."""
    out: list[str] = []
    for row in rows:
        out += ["", f"== {row.name}: {row.title} [{row.unit}]"]
        if row.table:
            out += _table(row)
        else:
            for label, span, ratio, note in _numbers(row):
                out.append(f"  {label:<32}{span:<30}{'× ' + ratio if ratio else '':<12}{note}".rstrip())
        out += [f"  -> {_verdict(verdict)}" for verdict in row.aims]
        if busy := Spread.of(row.background):
            out.append(f"  other programs used {_span(busy)} cores meanwhile")
    return "\n".join(out)


def as_page(rows: list[Row], settings: Settings, minutes: float) -> str:
    """The page in Markdown."""
    only = "" if settings.only is None else ",".join(sorted(settings.only))
    command = f"make bench ARGS='--only {only}'" if only else "make bench"
    out = [
        f"# Benchmarks: {only.replace(',', ', ')}" if only else "# Benchmarks",
        "",
        f"Written by `{command}` (`benchmarks/run.py`); do not edit by hand. Contenders are measured in turn "
        f"(A B C A B C …) in one run, {settings.rounds} rounds unless a row says otherwise; each has a "
        "program and a "
        "warm pool of its own. Figures are medians, with the least and the largest in brackets. Ratios "
        "and verdicts "
        "are taken round by round: absolute figures drift with the machine, ratios of one run hardly do. "
        "What is measured and why: `benchmarks/README.md`.",
        "",
    ]
    facts = machine()
    out += _markdown(["what", "value"], [[key, value] for key, value in facts.items()])
    out += [
        "",
        f"Measured {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {minutes:.0f} minutes in all. Python "
        "of the run: "
        f"{sys.version.split()[0]}.",
        "",
        "## Aims",
        "",
    ]
    verdicts = [
        [row.name, v.aim, v.bound, _span(v.spread), f"**{v.word()}**", f"{v.rounds_reached} of {v.rounds}"]
        for row in rows
        for v in row.aims
    ]
    out += _markdown(["row", "aim", "bound", "found", "verdict", "rounds that reached it"], verdicts)
    for row in rows:
        out += ["", f"## {row.name}", "", f"{row.title}. {row.how}", ""]
        out += _table(row)
        if row.table:
            out += [f"- {_label(name)}: {note}" for name, note in row.notes.items()]
        if busy := Spread.of(row.background):
            out += ["", f"Other programs used {_span(busy)} cores meanwhile."]
    return "\n".join(out) + "\n"
