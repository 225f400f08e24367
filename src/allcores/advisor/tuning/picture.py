"""What was found as a PNG, for reports and messages: the chunk sweep, and what more workers would do."""

from __future__ import annotations

import io
import os
import textwrap
from typing import Any

from allcores.advisor import picture
from allcores.advisor.tuning import sweep
from allcores.advisor.tuning.record import Tried, TuningRecord
from allcores.advisor.tuning.text import head_of
from allcores.errors import UsageError
from allcores.system.whole_files import whole_bytes

#: series that are drawn, the fastest; their colours and marks
MOST_SERIES = 6
COLOURS = ("#0072b2", "#b25c94", "#00845f", "#e69f00", "#8a6d00", "#3d8fc4")
MARKS = "os^Dvp"
#: inches
WIDTH, SWEEP_HEIGHT, GROWTH_HEIGHT = 8.0, 3.2, 2.0


def save(tuning: TuningRecord, path: str | os.PathLike[str]) -> None:
    """Write the picture.

    Raises:
        ImportError: Without Matplotlib.
        UsageError: If the file cannot be written.
    """
    buffer = io.BytesIO()
    as_figure(tuning).savefig(buffer, format="png", metadata={"Software": None})
    try:
        whole_bytes(path, buffer.getvalue())
    except OSError as error:
        raise UsageError(f"The picture {os.fspath(path)!r} cannot be written: {error.strerror}.") from None


def as_figure(tuning: TuningRecord) -> Any:
    """A figure of Matplotlib. Any thread: nothing of its global state is used.

    Raises:
        ImportError: Without Matplotlib.
    """
    rates = sweep.further_of(tuning.growth)
    heights = [SWEEP_HEIGHT, *([GROWTH_HEIGHT] if rates else [])]
    figure = picture.figure_class()(
        figsize=(WIDTH, sum(heights) + 0.9), dpi=picture.DOTS, layout="constrained", facecolor="white"
    )
    title = textwrap.fill(f"{tuning.function}: {head_of(tuning)}", 84, max_lines=3, placeholder=" …")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=picture.INK, parse_math=False)
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _sweep(panels[0], tuning)
    if rates:
        _growth(panels[1], rates, tuning)
    return figure


def _sweep(panel: Any, tuning: TuningRecord) -> None:
    """A line for each series; chunks stand side by side, those that size themselves at the end."""
    drawn = sweep.series_of(tuning)[:MOST_SERIES]
    chunks = sorted({each.setting.chunk for series in drawn for each in series.tried if each.setting.chunk is not None})
    places: dict[int | None, int] = {chunk: place for place, chunk in enumerate(chunks)}
    places[None] = len(chunks)
    for series, colour, mark in zip(drawn, COLOURS, MARKS, strict=False):
        points = [(places[each.setting.chunk], each, sweep.speed(tuning, each)) for each in series.tried]
        known: list[tuple[int, Tried, float]] = [(at, each, speed) for at, each, speed in points if speed is not None]
        line = [(at, speed) for at, each, speed in known if each.setting.chunk is not None]
        panel.plot(*zip(*line, strict=True), color=colour, linewidth=1.2) if line else None
        panel.plot(
            [at for at, _, _ in known],
            [speed for _, _, speed in known],
            mark,
            color=colour,
            markersize=5,
            label=series.name,
        )
    panel.axhline(1.0, color=picture.QUIET, linewidth=0.8)
    panel.set_ylim(bottom=0)
    panel.set_xticks(range(len(places)), [*(f"{chunk:,}" for chunk in chunks), "sizes itself"], fontsize=8)
    panel.set_xlim(-0.5, len(places) - 0.5)
    panel.set_xlabel("items of a chunk", fontsize=8)
    panel.set_ylabel("times as fast as the loop", fontsize=8)
    if drawn:
        panel.legend(fontsize=7, frameon=False, loc="lower right")
    picture.plain(panel)


def _growth(panel: Any, rates: list[tuple[int, float, bool]], tuning: TuningRecord) -> None:
    """A bar for each number of workers."""
    for place, (_, rate, further) in enumerate(rates):
        colour = picture.PREDICTED if further else COLOURS[0]
        panel.bar(place, rate, width=0.6, color=colour)
    panel.set_xticks(range(len(rates)), [str(workers) for workers, _, _ in rates], fontsize=8)
    backend = "" if tuning.growth is None else tuning.growth.backend
    panel.set_xlim(-0.5, max(len(rates), 6) - 0.5)  # two bars need not fill the page
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.set_xlabel(f"{backend}; blue measured, grey extrapolated with a core for each", fontsize=8)
    panel.set_ylabel("items a second", fontsize=8)
    picture.plain(panel)
