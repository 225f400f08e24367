"""What `allcores profile` found, as JSON and as text."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import Any

from allcores.advisor.profiling import (
    attribution,
    captured,
    independence,
    iterations,
    occupation,
    program_files,
    ranking,
    rewrite,
    sites,
)
from allcores.advisor.profiling.edits import lines_in
from allcores.advisor.profiling.occupation import KINDS, Occupation
from allcores.advisor.profiling.program import Finished
from allcores.advisor.profiling.ranking import Candidate
from allcores.advisor.profiling.records import ProcessRecord
from allcores.formatting import counted, percent_text, precise_seconds_text, size_text

#: version of the JSON
SCHEMA = 1
#: fewer samples than this say nothing
LEAST_SAMPLES = 20
_MOST_SHOWN = 5
_LINES_SHOWN = 6
#: types whose objects may be changed after a loop that keeps them: copies would not be
_CHANGEABLE = frozenset(
    {"list", "dict", "set", "bytearray", "ndarray", "DataFrame", "Series", "array", "deque", "defaultdict", "Counter",
     "OrderedDict", "SimpleNamespace", "Element"}
)  # fmt: skip
_WORK = {
    "held": "holds the GIL (Python code)",
    "held in C": "holds the GIL in C code",
    "released": "releases the GIL",
    "waiting": "waits",
    "parallel": "its library uses several cores",
}


@dataclass
class Report:
    """What was found in a program that has ended."""

    finished: Finished
    cores: int
    candidates: list[Candidate] = field(default_factory=list)
    occupations: list[Occupation] = field(default_factory=list)
    sources: dict[str, sites.SourceFile] = field(default_factory=dict)
    samples: int = 0
    values: attribution.Values | None = None

    @property
    def verdict(self) -> str:
        """Whether a site pays ("parallel"), none does ("serial"), or too little was sampled to say ("unreliable")."""
        if any(each.pays for each in self.candidates):
            return "parallel"
        return "serial" if self.samples >= LEAST_SAMPLES else "unreliable"


def make(finished: Finished, cores: int) -> Report:
    """Find the sites in what was sampled, and rank them."""
    report = Report(finished, cores)
    root = finished.root
    if root is None:
        return report
    report.samples = sum(process.samples for process in finished.processes)
    files = {place.code.file for stack in root.stacks for place in stack.places if place.code.user}
    report.sources = sites.read_sources(files)
    times = attribution.attribute(root, report.sources)
    report.values = values = attribution.Values(root)
    counts = iterations.count(times, values)
    program = _program_seconds(root, finished)
    found = []
    others = program_files.ProgramFiles(report.sources, {code.file for code in root.codes if code.user})
    for time in times:
        verdict = independence.judge(time.site, report.sources[time.site.file], others)
        needs = captured.unpicklable(time.site, verdict, values, report.sources[time.site.file])
        found.append(ranking.candidate(time, verdict, counts[time.site], program, cores, needs))
    report.candidates = ranking.rank(found)
    if occupation.is_parallel(finished.processes):
        report.occupations = [occupation.of_process(each, each.pid == root.pid) for each in finished.processes]
    return report


def _program_seconds(root: ProcessRecord, finished: Finished) -> float:
    """The program's own seconds: without those in which it was ready to run and had no core."""
    start = min(0.1, max(0.0, finished.seconds - root.seconds))  # of the interpreter, before the first sample
    return max(sum(stack.own_wall for stack in root.stacks if stack.main) + start, 1e-6)


# --- JSON -----------------------------------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """The report as one JSON object, as profile.schema.json describes it."""
    finished = report.finished
    own = sum(process.sampler_cpu for process in finished.processes)
    return {
        "schema": SCHEMA,
        "verdict": report.verdict,
        "command": finished.command[1:],
        "status": finished.status,
        "seconds": round(finished.seconds, 4),
        "interrupted": finished.interrupted,
        "cores": report.cores,
        "samples": report.samples,
        "sampler": {
            "cpu_seconds": round(own, 4),
            "share": round(own / max(finished.seconds, 1e-9), 4),
            "lost": sum(process.lost for process in finished.processes),
            "processes_left_out": finished.left_out,
            "failures": [process.failure for process in finished.processes if process.failure],
        },
        "candidates": [_candidate_json(report, number, each) for number, each in enumerate(report.candidates, 1)],
        "processes": [_occupation_json(each) for each in report.occupations],
    }


def _candidate_json(report: Report, number: int, candidate: Candidate) -> dict[str, Any]:
    site, time, count = candidate.site, candidate.time, candidate.iterations
    item = None
    if count.item is not None:
        item = {"type": count.item[0], "bytes": count.item[1], "pickles": count.item[2]}
    return {
        "rank": number,
        "pays": candidate.pays,
        "file": site.file,
        "line": site.line,
        "end_line": site.end_line,
        "kind": site.kind,
        "function": site.function,
        "callers": [
            {"file": file, "line": line, "function": function, "seconds": round(seconds, 4)}
            for (file, line, function), seconds in time.callers.most_common(5)
        ],
        "seconds": round(time.seconds, 4),
        "share": round(candidate.share, 4),
        "samples": time.samples,
        "executions": count.executions,
        "iterations": count.total,
        "iterations_from": count.how,
        "seconds_each": None if not count.total else time.seconds / count.total,
        "item": item,
        "independent": candidate.verdict.independent,
        "reasons": list(candidate.why_not),
        "work": candidate.work,
        "pattern": candidate.pattern,
        "predicted": {
            "speedup": round(candidate.gain, 3),
            "low": round(candidate.low, 3),
            "high": round(candidate.high, 3),
            "most": round(candidate.most, 3),
        },
        "lines": lines_of(report, candidate, 1000),
        "diff": change.diff if (change := changed(report, candidate)) is not None else None,
    }


def changed(report: Report, candidate: Candidate) -> rewrite.Rewrite | None:
    """The suggested change for a candidate that pays; None where it does not, or none can be written."""
    if not candidate.pays:
        return None
    source = report.sources[candidate.site.file]
    workers = report.cores if candidate.work != "waiting" else ranking.MOST_THREADS
    item = candidate.iterations.item
    return rewrite.rewrite(
        candidate.site,
        candidate.verdict,
        source,
        pattern=candidate.pattern,
        workers=workers,
        values=item is None or _is_value(item[0]),
        kind=lambda name: _kind(report, candidate, name),
    )


def _is_value(kind: str) -> bool:
    """Whether objects of a type are as good as their copies: none of the program's, and none that can be changed."""
    module, _, name = kind.rpartition(".")
    known = not module or module.partition(".")[0] in (*sys.stdlib_module_names, "numpy", "pandas")
    return known and name not in _CHANGEABLE


def _kind(report: Report, candidate: Candidate, name: str) -> tuple[str, str | None] | None:
    """What was seen of a name: its type, and that of an item of it."""
    fact = report.values.fact(candidate.site, name) if report.values is not None else None
    return None if fact is None else (fact[0], fact[2][0] if fact[2] is not None else None)


def _occupation_json(each: Occupation) -> dict[str, Any]:
    return {
        "pid": each.pid,
        "role": each.role,
        "seconds": round(each.seconds, 4),
        "cpu_seconds": round(each.cpu, 4),
        "main_thread": {kind: round(each.kinds.get(kind, 0.0), 4) for kind in KINDS},
        "other_threads": {kind: round(seconds, 4) for kind, seconds in each.other_threads.items()},
    }


def lines_of(report: Report, candidate: Candidate, most: int) -> list[str]:
    """A loop's source, so many lines of it at most."""
    lines = lines_in(report.sources[candidate.site.file].text)[candidate.site.line - 1 : candidate.site.end_line]
    return [line.rstrip("\n") for line in lines[:most]]


# --- text -----------------------------------------------------------------------------------------------------------


def as_text(report: Report) -> str:
    """The report for a terminal."""
    finished = report.finished
    own = sum(process.sampler_cpu for process in finished.processes)
    text = [
        f"allcores profile: the program {ended_text(finished.status)} after {precise_seconds_text(finished.seconds)}"
        f" ({counted(report.cores, 'core')}, {counted(report.samples, 'sample')},"
        f" sampler {percent_text(100 * own / max(finished.seconds, 1e-9))} of a core)"
    ]
    pays = [each for each in report.candidates if each.pays]
    others = [each for each in report.candidates if not each.pays]
    for number, each in enumerate(pays[:_MOST_SHOWN], 1):
        text += ["", *_candidate_text(report, number, each)]
    if not pays:
        text += ["", nothing_text(report)]
    if others:
        text += ["", "Loops that stay as they are:"]
        text += [
            f"  {place_text(each)}: {percent_text(100 * each.share)} of the time; {reason_text(each)}"
            for each in others[:8]
        ]
    if report.occupations:
        text += ["", *_occupation_text(report.occupations)]
    if report.finished.left_out:
        text.append(left_out_text(report.finished))
    return "\n".join(text)


def left_out_text(finished: Finished) -> str:
    """Of processes that were not sampled."""
    more = counted(finished.left_out, "more was", "more were")
    return f"Of its processes the first {len(finished.processes):,} were sampled; {more} not."


def ended_text(status: int) -> str:
    """How a program ended, by its exit code or, negative, by a signal."""
    return f"ended with {status}" if status >= 0 else f"was ended by signal {-status}"


def nothing_text(report: Report) -> str:
    """Why no loop is suggested."""
    if not report.samples:
        return "Nothing was sampled: it ended before the first sample, or its Python does not read PYTHONPATH (-I, -E)."
    if report.samples < LEAST_SAMPLES:
        return (
            f"Too short to say: {counted(report.samples, 'sample')}, and {LEAST_SAMPLES} are needed."
            " Give it more to do, for a second or two."
        )
    return "No candidate: no loop of its own takes enough of the time, or could be done in any order."


def place_text(candidate: Candidate) -> str:
    """Where a loop is, and of which kind."""
    site = candidate.site
    where = "" if site.function == "<module>" else f" in {site.function}"
    return f"{os.path.relpath(site.file)}:{site.line}, {site.kind}{where}"


def reason_text(candidate: Candidate) -> str:
    """Why a loop stays as it is."""
    if candidate.why_not:
        return "; ".join(candidate.why_not[:2])
    return f"it would give {candidate.gain:.2f}x"


def facts_text(candidate: Candidate) -> str:
    """What was found of a loop's iterations."""
    count, time = candidate.iterations, candidate.time
    parts = []
    if count.total:
        each = precise_seconds_text(time.seconds / count.total)
        parts.append(f"about {counted(round(count.total), 'iteration')} of {each}")
    if count.item is not None:
        pickles = {"yes": "pickles", "no": "does not pickle", "unknown": "not known whether it pickles"}[count.item[2]]
        parts.append(f"item: {count.item[0]}, {size_text(count.item[1])}, {pickles}")
    parts += [_WORK[candidate.work], "nothing found that ties iterations together", *candidate.verdict.notes]
    return "; ".join(parts)


def callers_text(candidate: Candidate) -> list[str]:
    """Who calls it, for most of its time."""
    time = candidate.time
    return [
        f"called from {os.path.relpath(file)}:{line} ({function}):"
        f" {percent_text(100 * seconds / max(time.seconds, 1e-9))} of it"
        for (file, line, function), seconds in time.callers.most_common(2)
    ]


def _candidate_text(report: Report, number: int, candidate: Candidate) -> list[str]:
    text = [
        f"{number}. {place_text(candidate)}: {percent_text(100 * candidate.share)} of the time",
        f"   as {candidate.pattern} the whole program would be {candidate.gain:.2f}x as fast"
        f" ({candidate.low:.2f} to {candidate.high:.2f}; {candidate.most:.1f}x if it took no time)",
    ]
    text.append(f"   {facts_text(candidate)}")
    text += [f"   {caller}" for caller in callers_text(candidate)]
    lines = lines_of(report, candidate, _LINES_SHOWN)
    text += [f"   {candidate.site.line + offset:>5} | {line}" for offset, line in enumerate(lines)]
    change = changed(report, candidate)
    if change is not None:
        text += [
            "   as a map:",
            *(f"     {line}" for line in change.diff.replace("\r\n", "\n").rstrip("\n").split("\n")),
        ]
    return text


def _occupation_text(occupations: list[Occupation]) -> list[str]:
    text = ["Where the seconds of cores went (main threads; each line adds up to the process' seconds):"]
    text.append(f"  {'process':<38}{'seconds':>9}" + "".join(f"{kind:>11}" for kind in KINDS) + f"{'CPU':>9}")
    total = dict.fromkeys(KINDS, 0.0)
    for each in occupations:
        for kind in KINDS:
            total[kind] += each.kinds.get(kind, 0.0)
        if len(text) < 14:
            row = "".join(f"{each.kinds.get(kind, 0.0):>11.2f}" for kind in KINDS)
            text.append(f"  {f'{each.pid} {each.role}':<38.38}{each.seconds:>9.2f}{row}{each.cpu:>9.2f}")
        for kind, seconds in each.other_threads.items():
            if seconds > 0.02 and len(text) < 20:
                text.append(f"    its other threads: {seconds:.2f} s CPU {kind}")
    seconds = sum(each.seconds for each in occupations)
    row = "".join(f"{total[kind]:>11.2f}" for kind in KINDS)
    cpu = sum(each.cpu for each in occupations)
    text.append(f"  {counted(len(occupations), 'process', 'processes'):<38}{seconds:>9.2f}{row}{cpu:>9.2f}")
    return text
