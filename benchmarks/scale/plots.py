"""Line charts as SVG: light and dark, without scripts or fonts of their own; no text stands where lines may."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

#: pixels of the picture, and of its margins
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 78, 24, 84, 62
#: of a letter, about, in pixels; legends are laid out with it
LETTER = 7.2
STYLES = ("a", "b", "c", "d")
_CSS = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:14px}.back{fill:#fff}"
    ".grid{stroke:#dfe3e8;stroke-width:1}.line{fill:none;stroke-width:2.5}"
    ".a{stroke:#0b57a4}.b{stroke:#b3541e;stroke-dasharray:9 4}.c{stroke:#2f7d32;stroke-dasharray:3 3}"
    ".d{stroke:#7b3fa0;stroke-dasharray:12 4 3 4}"
    "@media(prefers-color-scheme:dark){text{fill:#e8e8e8}.back{fill:#1f2129}.grid{stroke:#3b3f4a}"
    ".a{stroke:#7db7f5}.b{stroke:#f2a06b}.c{stroke:#86d08a}.d{stroke:#cf9df0}}"
)


@dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Attributes:
        ticks: Values with a line of the grid, ascending; the ends are the ends of the axis.
        log: Equal distances are equal factors.
    """

    title: str
    ticks: Sequence[float]
    log: bool = False
    percent: bool = False

    def part(self, value: float) -> float:
        """Where a value is, from 0 to 1; outside it is at the end."""
        low, high = self.ticks[0], self.ticks[-1]
        value = min(high, max(low, value))
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def label(self, value: float) -> str:
        """A tick's text."""
        return f"{value * 100:.0f} %" if self.percent else f"{value:,.12g}"


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]


def chart(title: str, across: Axis, up: Axis, lines: Sequence[Line]) -> str:
    """The picture."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return round(LEFT + across.part(value) * (right - LEFT), 1)

    def y(value: float) -> float:
        return round(bottom - up.part(value) * (bottom - TOP), 1)

    parts = [f'<text class="title" x="12" y="22">{escape(title)}</text>']
    at = 12.0
    row = 46
    for style, line in zip(STYLES, lines, strict=False):
        width = 34 + LETTER * len(line.name) + 18
        if at > 12 and at + width > WIDTH - 12:
            at, row = 12.0, row + 20
        parts.append(f'<line class="line {style}" x1="{at:g}" y1="{row - 4}" x2="{at + 28:g}" y2="{row - 4}"/>')
        parts.append(f'<text x="{at + 34:g}" y="{row}">{escape(line.name)}</text>')
        at += width
    for value in across.ticks:
        parts.append(f'<line class="grid" x1="{x(value)}" y1="{TOP}" x2="{x(value)}" y2="{bottom}"/>')
        parts.append(f'<text x="{x(value)}" y="{bottom + 18}" text-anchor="middle">{across.label(value)}</text>')
    for value in up.ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y(value)}" x2="{right}" y2="{y(value)}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:g}" text-anchor="end">{up.label(value)}</text>')
    middle, half = (LEFT + right) / 2, (TOP + bottom) / 2
    parts.append(f'<text x="{middle:g}" y="{HEIGHT - 16}" text-anchor="middle">{escape(across.title)}</text>')
    turned = f'<text x="16" y="{half:g}" text-anchor="middle" transform="rotate(-90 16 {half:g})">'
    parts.append(f"{turned}{escape(up.title)}</text>")
    for style, line in zip(STYLES, lines, strict=False):
        path = " ".join(f"{x(a)},{y(b)}" for a, b in line.points)
        parts.append(f'<polyline class="line {style}" points="{path}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' role="img" aria-label="{escape(title)}"><style>{_CSS}</style>'
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="6"/>{"".join(parts)}</svg>\n'
    )
