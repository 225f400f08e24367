"""The advice as a PNG, for reports and messages: speed-ups, where a call's time goes, and where the workers' goes."""

from __future__ import annotations

import io
import math
import os
import textwrap
from typing import Any

from allcores.advisor.model.intervals import Interval
from allcores.advisor.page import Part, of_a_call, of_recorded, of_workers
from allcores.advisor.record import AdviceRecord
from allcores.advisor.text import HEADS, setting_text
from allcores.errors import UsageError
from allcores.formatting import counted, precise_seconds_text
from allcores.system.whole_files import whole_bytes

#: as on the page
COLOURS = {
    "function": "#0072b2", "transport": "#e69f00", "start": "#b25c94", "input": "#00845f", "parent": "#8a6d00",
    "held": "#3d8fc4", "tail": "#aab2bb", "none": "#e3e6ea",
}  # fmt: skip
PREDICTED, INK, QUIET = "#c3c9cf", "#1d2126", "#6a737c"
#: what is said without the library
MISSING = "pictures need Matplotlib: pip install 'allcores[picture]'"
#: inches; pixels of an inch; patterns that are drawn
WIDTH, DOTS, MOST = 8.0, 150, 8


def figure_class() -> Any:
    """The class of Matplotlib's figures.

    Raises:
        ImportError: Without Matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(MISSING) from error
    return Figure


def save(advice: AdviceRecord, path: str | os.PathLike[str]) -> None:
    """Write the picture.

    Raises:
        ImportError: Without Matplotlib.
        UsageError: If the file cannot be written.
    """
    data = as_png(advice)
    try:
        whole_bytes(path, data)
    except OSError as error:
        raise UsageError(f"The picture {os.fspath(path)!r} cannot be written: {error.strerror}.") from None


def as_png(advice: AdviceRecord) -> bytes:
    """The picture's bytes."""
    buffer = io.BytesIO()
    as_figure(advice).savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def as_figure(advice: AdviceRecord) -> Any:
    """A figure of Matplotlib. Any thread: nothing of its global state is used.

    Raises:
        ImportError: Without Matplotlib.
    """
    bars = _bars(advice)
    patterns = advice.patterns[:MOST]
    measured = advice.measured or advice.predicted
    head = HEADS[advice.verdict].format(setting=setting_text(advice.recommendation), measured=f"{measured.speedup:.2f}")
    title = textwrap.fill(f"{advice.function}: {head}", 84, max_lines=3, placeholder=" …")
    heights = [0.35 * len(patterns) + 0.5, *(0.8 for _ in bars)]
    figure = figure_class()(figsize=(WIDTH, sum(heights) + 1.3), dpi=DOTS, layout="constrained", facecolor="white")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK, parse_math=False)
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _speedups(panels[0], advice, len(patterns))
    for panel, (name, parts) in zip(panels[1:], bars, strict=True):
        _bar(panel, name, parts)
    return figure


def _bars(advice: AdviceRecord) -> list[tuple[str, list[Part]]]:
    probes = advice.probes
    if probes is None:
        return []
    call = of_a_call(probes)
    found = [(f"One call in a worker: {precise_seconds_text(sum(part.seconds for part in call))}", call)]
    processes = [each.setting for each in advice.patterns if each.setting.pattern == "processes"]
    if probes.items is not None and processes:
        found.append((f"The workers' time, predicted, {setting_text(processes[0])}", of_workers(probes, processes[0])))
    if advice.core_seconds is not None:
        items = counted(advice.core_seconds.items, "item")
        found.append((f"The workers' time, recorded over {items}", of_recorded(advice.core_seconds)))
    return [(name, parts) for name, parts in found if parts]


def _speedups(panel: Any, advice: AdviceRecord, count: int) -> None:
    """A row for each way: above what was predicted, below what was measured, each with its interval."""
    names = []
    ends = [1.0]
    for row, pattern in enumerate(advice.patterns[:count]):
        names.append(textwrap.shorten(setting_text(pattern.setting), 40, placeholder=" …"))
        for interval, offset, colour in ((pattern.predicted, -0.18, PREDICTED), (pattern.measured, 0.18, None)):
            if interval is not None:
                _span(panel, interval, row + offset, colour or COLOURS["function"])
                ends.append(interval.high if math.isfinite(interval.high) else interval.speedup)
    panel.axvline(1.0, color=QUIET, linewidth=0.8)
    panel.set_yticks(range(count), names, fontsize=8, color=INK, parse_math=False)
    panel.set_ylim(count - 0.5, -0.5)
    panel.set_xlim(0, 1.08 * max(ends))
    panel.set_xlabel("times as fast as the loop; grey predicted, blue measured, with 90 % intervals", fontsize=8)
    plain(panel)


def _span(panel: Any, interval: Interval, row: float, colour: str) -> None:
    high = interval.high if math.isfinite(interval.high) else interval.speedup
    panel.barh(row, max(high - interval.low, 0.005), left=interval.low, height=0.26, color=colour)
    panel.plot([interval.speedup] * 2, [row - 0.16, row + 0.16], color=INK, linewidth=1.4)


def _bar(panel: Any, name: str, parts: list[Part]) -> None:
    """One bar of parts that make up the whole."""
    left = 0.0
    for part in parts:
        label = f"{part.name} {part.part:.0f} %" if part.part >= 1 else f"{part.name} below 1 %"
        panel.barh(0, part.part, left=left, height=0.6, color=COLOURS[part.key], label=label, edgecolor="white")
        left += part.part
    panel.set_title(name, loc="left", fontsize=9, color=INK, parse_math=False)
    panel.set_xlim(0, 100)
    panel.set_yticks([])
    panel.set_xticks([])
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, 0.05), ncols=3, fontsize=7, frameon=False)
    plain(panel)


def plain(panel: Any) -> None:
    """Without a frame."""
    for side in panel.spines.values():
        side.set_visible(False)
    panel.tick_params(length=0, labelsize=8, colors=INK)
