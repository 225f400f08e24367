"""What `allcores profile` found as one HTML file: no script, nothing loaded from anywhere, light and dark."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from allcores.advisor.profiling import report
from allcores.advisor.profiling.occupation import KINDS, Occupation
from allcores.advisor.profiling.ranking import Candidate
from allcores.formatting import percent_text
from allcores.timeline.html_report import environment, write_page

#: loops that are shown whole, loops that stay, processes, and lines of a loop
MOST_SHOWN, MOST_STAYING, MOST_PROCESSES, MOST_LINES = 20, 40, 60, 40
#: what a process does -> the class of its colour
COLOURS = dict(zip(KINDS, ("start", "function", "transport", "held", "none", "tail"), strict=True))


def as_html(made: report.Report) -> str:
    """The page.

    Raises:
        ImportError: Without Jinja2 (`pip install 'allcores[report]'`).
    """
    template = environment(Path(__file__).with_name("templates")).get_template("profile.html.j2")
    return template.render(_facts(made))


def save(made: report.Report, path: str | os.PathLike[str]) -> None:
    """Write the page.

    Raises:
        ImportError: Without Jinja2.
        UsageError: The file cannot be written.
    """
    write_page(as_html(made), path, "page")


def _facts(made: report.Report) -> dict[str, Any]:
    """What the template is given."""
    finished = made.finished
    pays = [each for each in made.candidates if each.pays]
    staying = [each for each in made.candidates if not each.pays]
    top = 1.05 * max([1.0, *(each.high for each in pays[:MOST_SHOWN])])
    own = sum(process.sampler_cpu for process in finished.processes)
    return {
        "name": " ".join(finished.program) or "program",
        "made": made,
        "ended": report.ended_text(finished.status),
        "sampler": percent_text(100 * own / max(finished.seconds, 1e-9)),
        "nothing": "" if pays else report.nothing_text(made),
        "one": 100 / top,
        "candidates": [_candidate(made, each, top) for each in pays[:MOST_SHOWN]],
        "staying": [
            (report.place_text(each), percent_text(100 * each.share), report.reason_text(each))
            for each in staying[:MOST_STAYING]
        ],
        "processes": [_process(each) for each in made.occupations[:MOST_PROCESSES]],
        "kinds": [(COLOURS[kind], kind) for kind in KINDS],
        "totals": [sum(each.kinds.get(kind, 0.0) for each in made.occupations) for kind in KINDS],
        "total": sum(each.seconds for each in made.occupations),
        "left_out": report.left_out_text(finished) if finished.left_out else "",
    }


def _candidate(made: report.Report, candidate: Candidate, top: float) -> dict[str, Any]:
    left, right = (100 * min(value, top) / top for value in (candidate.low, candidate.high))
    change = report.changed(made, candidate)
    lines = report.lines_of(made, candidate, MOST_LINES)
    return {
        "place": report.place_text(candidate),
        "share": percent_text(100 * candidate.share),
        "pattern": candidate.pattern,
        "gain": f"{candidate.gain:.2f} ({candidate.low:.2f}-{candidate.high:.2f})",
        "most": f"{candidate.most:.1f}",
        "left": left,
        "width": max(0.4, right - left),
        "at": 100 * min(candidate.gain, top) / top,
        "facts": report.facts_text(candidate),
        "callers": report.callers_text(candidate),
        "lines": [(candidate.site.line + offset, line) for offset, line in enumerate(lines)],
        "diff": "" if change is None else change.diff,
    }


def _process(each: Occupation) -> dict[str, Any]:
    seconds = [each.kinds.get(kind, 0.0) for kind in KINDS]
    total = sum(seconds) or 1.0
    return {
        "pid": each.pid,
        "role": each.role,
        "seconds": each.seconds,
        "cpu": each.cpu,
        "parts": [
            (COLOURS[kind], kind, each_s, 100 * each_s / total)
            for kind, each_s in zip(KINDS, seconds, strict=True)
            if each_s > 0
        ],
        "others": [(kind, seconds) for kind, seconds in each.other_threads.items() if seconds > 0.02],
    }
