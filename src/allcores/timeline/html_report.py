"""A timeline as one HTML file: no script, nothing loaded from anywhere. The home of Jinja2."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allcores.errors import UsageError
from allcores.formatting import axis_text, percent_text, precise_seconds_text, size_text
from allcores.system.whole_files import whole_text
from allcores.timeline import charts
from allcores.timeline.breakdown import Breakdown, breakdown
from allcores.timeline.reader import Recording

if TYPE_CHECKING:
    import jinja2

#: causes of failures, and maps, that are listed
MOST_CAUSES = 30
MAX_MAPS = 50
#: what is said without the library
MISSING = "reports need Jinja2: pip install 'allcores[report]'"
#: rows of the tables behind charts over time
TABLE_ROWS = 20

#: what HTML may not hold
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def environment(*folders: Path) -> jinja2.Environment:
    """How templates of pages are read: those here, and in further folders, with filters for figures.

    Raises:
        ImportError: Without Jinja2.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(MISSING) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).with_name("templates")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=lambda value: f"{value:,}",
        seconds=precise_seconds_text,
        clock=axis_text,
        size=size_text,
        clean=lambda text: _CONTROL.sub("�", str(text)),
        percent=percent_text,
        rate=_rate,
    )
    return environment


def as_html(recording: Recording) -> str:
    """The report.

    Raises:
        ImportError: Without Jinja2.
    """
    summed = breakdown(recording)
    return environment().get_template("report.html.j2").render(_facts(recording, summed))


def save_report(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Write the report: it takes the place of the file whole, or that stays as it was.

    Raises:
        ImportError: Without Jinja2.
        UsageError: If the file cannot be written.
    """
    recording.check_elsewhere(path)
    write_page(as_html(recording), path, "report")


def write_page(text: str, path: str | os.PathLike[str], what: str) -> None:
    """Write a page whole, or leave the file as it was.

    Args:
        text: The page.
        path: The file to (over)write.
        what: It is called that if it cannot be written.

    Raises:
        UsageError: If the file cannot be written.
    """
    try:
        with whole_text(path, errors="replace") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"The {what} {os.fspath(path)!r} cannot be written: {error.strerror}.") from None


def _facts(recording: Recording, summed: Breakdown) -> dict[str, Any]:
    """What the template is given."""
    created = recording.header.get("created")
    return {
        "recording": recording,
        "account": summed,
        "created": None if created is None else datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "uses": [
            {"use": use, "part": 100 * use.seconds / summed.available if summed.available else 0.0}
            for use in summed.uses
            if use.seconds >= 0.0005 * summed.available
        ],
        "strips": charts.strips(recording, summed),
        "lanes_left_out": max(0, len(recording.lanes) - charts.MOST_LANES),
        "ticks": charts.ticks(summed.seconds),
        "pace": _pace(summed),
        "bars": charts.bars(recording.histogram),
        "pareto": _pareto(recording),
        "causes_left_out": max(0, len(recording.causes) - MOST_CAUSES),
        "memory": _memory(recording, summed),
        "flows": sorted(recording.maps.values(), key=lambda one_map: one_map.begin)[:MAX_MAPS],
        "flows_left_out": max(0, max(len(recording.maps), recording.rows.get("flow", 0)) - MAX_MAPS),
        "width": charts.WIDTH,
        "height": charts.HEIGHT,
    }


def _pace(summed: Breakdown) -> dict[str, Any]:
    top = max(summed.rates, default=0.0)
    step = max(1, len(summed.rates) // TABLE_ROWS)
    rows = []
    for number in range(0, len(summed.rates), step):
        part = summed.rates[number : number + step]
        failed = summed.failures[number : number + step]
        rows.append((number * summed.width, sum(part) / len(part), sum(failed) / len(failed)))
    return {
        "top": top,
        "mean": summed.items / summed.seconds,
        "all": charts.area(summed.rates, top),
        "failed": charts.area(summed.failures, top) if any(summed.failures) else "",
        "rows": rows,
    }


def _pareto(recording: Recording) -> list[dict[str, Any]]:
    causes = [cause for cause in recording.causes if cause.failures or cause.retries][:MOST_CAUSES]
    total = sum(cause.failures + cause.retries for cause in recording.causes)
    most = max((cause.failures + cause.retries for cause in causes), default=1)
    found, so_far = [], 0
    for cause in causes:
        count = cause.failures + cause.retries
        so_far += count
        found.append(
            {"cause": cause, "part": round(100 * count / most, 2), "so_far": 100 * so_far / total, "count": count}
        )
    return found


def _memory(recording: Recording, summed: Breakdown) -> dict[str, Any] | None:
    samples = [sample for sample in recording.memory if sample.time <= summed.begin + summed.seconds + 0.5]
    if len(samples) < 2:
        return None
    # As many as can be told apart; of each group the largest.
    step = -(-len(samples) // 400)
    drawn = [
        max(samples[number : number + step], key=lambda sample: sample.parent + sample.workers)
        for number in range(0, len(samples), step)
    ]
    top = max(sample.parent + sample.workers for sample in samples) * 1.05
    rows = drawn[:: max(1, len(drawn) // TABLE_ROWS)]
    return {
        "top": top,
        "peak": max(sample.parent + sample.workers for sample in samples),
        "largest": max(sample.largest for sample in samples),
        "sum": charts.line([(s.time, s.parent + s.workers) for s in drawn], summed, top),
        "parent": charts.line([(s.time, s.parent) for s in drawn], summed, top),
        "rows": [(s.time - summed.begin, s.parent, s.workers, s.largest) for s in rows],
    }


def _rate(value: float) -> str:
    """Items per second."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
