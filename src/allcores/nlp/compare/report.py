"""A comparison for people: a table, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from allcores.formatting import seconds_text, size_text
from allcores.nlp.compare.measure import Comparison, Measured
from allcores.nlp.compare.ways import LOOP, OURS

#: of the picture, pixels
_WIDTH, _ROW, _LEFT, _RIGHT = 760, 26, 250, 110
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.ours{fill:#0b57a4}.other{fill:#9aa7b5}.loop{fill:#c9ced4}"
    ".title{font-weight:600}.quiet{fill:#555}@media(prefers-color-scheme:dark){text{fill:#eee}.quiet{fill:#bbb}"
    ".ours{fill:#7db7f5}.other{fill:#6b7785}.loop{fill:#4a525b}}"
)


def as_text(comparisons: Sequence[Comparison]) -> str:
    """A table for each work."""
    return "\n\n".join(map(_table, comparisons))


def _table(comparison: Comparison) -> str:
    head = ("", "messages/s", "beside the loop", "first result", "memory", "results")
    rows = [head, *(_row(comparison, way) for way in comparison.ways)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(text.ljust(width) if not place else text.rjust(width) for place, (text, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    title = (
        f"{comparison.work.about}: {comparison.texts:,} messages, {comparison.workers} workers, median of"
        f" {comparison.rounds}"
    )
    troubles = [f"  {way.name}: {way.trouble}" for way in comparison.ways if way.trouble]
    return "\n".join([title, *(f"  {line}".rstrip() for line in lines), *troubles])


def _row(comparison: Comparison, way: Measured) -> tuple[str, str, str, str, str, str]:
    seconds, speedup = way.middle_s, comparison.speedup(way)
    if seconds is None:
        return way.name, "-", "-", "-", "-", "-"
    same = "-" if way is comparison.ways[0] else {True: "the same", False: "DIFFERENT", None: "-"}[way.same]
    first = seconds_text(sorted(way.first_s)[len(way.first_s) // 2])
    memory = size_text(way.peak_bytes) if way.peak_bytes else "-"
    return (
        way.name,
        f"{comparison.texts / seconds:,.0f}",
        "-" if speedup is None else f"{speedup:.2f}x",
        first,
        memory,
        same,
    )


def as_svg(comparisons: Sequence[Comparison]) -> str:
    """A picture: a bar for each way, as long as it does messages a second; light and dark, without scripts."""
    parts: list[str] = []
    top = 10
    for comparison in comparisons:
        parts.append(f'<text class="title" x="10" y="{top + 14}">{escape(comparison.work.about)}</text>')
        top += _ROW
        best = min((way.middle_s for way in comparison.ways if way.middle_s), default=1.0)
        for way in comparison.ways:
            parts += _bar(comparison, way, top, best)
            top += _ROW
        top += _ROW // 2
    body = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}"'
        f' role="img" aria-label="Messages a second of each way"><style>{_STYLE}</style>{body}</svg>\n'
    )


def _bar(comparison: Comparison, way: Measured, top: int, best_s: float) -> list[str]:
    name = f'<text x="{_LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(way.name)}</text>'
    seconds, speedup = way.middle_s, comparison.speedup(way)
    if seconds is None:
        return [name, f'<text class="quiet" x="{_LEFT}" y="{top + 15}">{escape(way.trouble or "not run")}</text>']
    length = max(1, round((_WIDTH - _LEFT - _RIGHT) * best_s / seconds))
    kind = {OURS: "ours", LOOP: "loop"}.get(way.name, "other")
    pace = f"{comparison.texts / seconds:,.0f}/s" + ("" if speedup is None else f", {speedup:.2f}x")
    wrong = "" if way.same is not False else ", other results"
    return [
        name,
        f'<rect class="{kind}" x="{_LEFT}" y="{top + 3}" width="{length}" height="{_ROW - 8}" rx="3"/>',
        f'<text class="quiet" x="{_LEFT + length + 6}" y="{top + 15}">{pace}{wrong}</text>',
    ]
