"""What was found as one HTML file: no script, nothing loaded from anywhere, light and dark, for phones too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from allcores.advisor.model.intervals import Interval
from allcores.advisor.page import machine_facts
from allcores.advisor.text import interval_text
from allcores.advisor.tuning import sweep
from allcores.advisor.tuning.record import Tried, TuningRecord
from allcores.advisor.tuning.text import head_of
from allcores.formatting import pace_text, percent_text
from allcores.timeline.html_report import environment, write_page

#: rows of a table of what was tried
MOST_ROWS = 60


def as_html(tuning: TuningRecord) -> str:
    """The page.

    Raises:
        ImportError: Without Jinja2 (`pip install 'allcores[report]'`).
    """
    here, advice = Path(__file__).with_name("templates"), Path(__file__).parent.with_name("templates")
    return environment(here, advice).get_template("tuning.html.j2").render(_facts(tuning))


def save(tuning: TuningRecord, path: str | os.PathLike[str]) -> None:
    """Write the page.

    Raises:
        ImportError: Without Jinja2.
        UsageError: If the file cannot be written.
    """
    write_page(as_html(tuning), path, "page")


def _facts(tuning: TuningRecord) -> dict[str, Any]:
    """What the template is given."""
    found = sweep.series_of(tuning)
    speeds = [speed for series in found for each in series.tried if (speed := sweep.speed(tuning, each)) is not None]
    top = 1.05 * max([1.0, *speeds])
    rates = sweep.further_of(tuning.growth)
    most = max([rate for _, rate, _ in rates], default=1.0) or 1.0
    scaling = None if tuning.growth is None else tuning.growth.scaling
    return {
        "tuning": tuning,
        "head": head_of(tuning),
        "one": 100 / top,
        "series": [(each.name, [_row(tuning, tried, top) for tried in each.tried[:MOST_ROWS]]) for each in found],
        "loop": sweep.loop_seconds(tuning),
        "rates": [(workers, pace_text(rate), 100 * rate / most, further) for workers, rate, further in rates],
        "scaling": scaling,
        "off": "" if scaling is None else percent_text(100 * scaling.off),
        "machine": machine_facts(tuning.machine),
        "runs": sum(each.runs for each in tuning.tried),
    }


def _row(tuning: TuningRecord, tried: Tried, top: float) -> dict[str, Any]:
    speed = sweep.speed(tuning, tried)
    return {
        "chunk": sweep.chunk_text(tried),
        "seconds": tried.item_seconds,
        "speed": "" if speed is None else f"{speed:.2f}",
        "width": 0.0 if speed is None else 100 * speed / top,
        "measured": _interval(tried.measured),
        "runs": tried.runs,
    }


def _interval(measured: Interval | None) -> str:
    return "" if measured is None else interval_text(measured)
