"""What is in a table of chat as one HTML page: no script, nothing loaded from anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from allcores.errors import NotSupported, UsageError
from allcores.nlp.summary import MOST, SAMPLES, ChatSummary
from allcores.system.whole_files import whole_text

#: what is counted, by its place in the summary: a title, what a bar is for, and what is counted
CHARTS = (
    ("languages", "Languages", "language", "messages"),
    ("lengths", "Lengths", "characters", "messages"),
    ("intents", "Intents", "intent", "messages"),
    ("entities", "Entities", "type", "mentions"),
    ("pii", "Personal data", "type", "places"),
    ("duplicates", "Duplicates", "kind", "messages"),
    ("moods", "Sentiment", "mood", "messages"),
    ("speakers", "Speakers", "speaker", "messages"),
)


def as_html(summary: ChatSummary, name: str) -> str:
    """The page.

    Args:
        summary: Of the rows.
        name: Of what they are in, for the title.

    Raises:
        NotSupported: Without Jinja2.
    """
    try:
        from allcores.timeline.html_report import environment

        pages = environment(Path(__file__).with_name("templates"))
    except ImportError as error:
        raise NotSupported(str(error)) from None
    facts = summary.as_json()
    return pages.get_template("chat.html.j2").render(
        name=name,
        facts=facts,
        charts=[
            {"key": key, "title": title, "what": what, "of": of, "bars": _bars(facts[key])}
            for key, title, what, of in CHARTS
            if facts[key]
        ],
        most=MOST,
        seconds=sum(summary.stage_seconds.values()),
        stages=_bars(dict(sorted(summary.stage_seconds.items(), key=lambda each: -each[1]))),
        reasons=[
            {"reason": reason, "count": count, "samples": summary.samples.get(reason, [])}
            for reason, count in summary.counts["errors"].most_common()
        ],
        samples=SAMPLES,
    )


def save_page(summary: ChatSummary, name: str, path: str | os.PathLike[str]) -> None:
    """Write the page: it takes the place of the file whole, or that stays as it was.

    Args:
        summary: Of the rows.
        name: Of what they are in, for the title.
        path: Of the file.

    Raises:
        NotSupported: Without Jinja2.
        UsageError: If the file cannot be written.
    """
    text = as_html(summary, name)
    try:
        with whole_text(path, errors="replace") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"The page {os.fspath(path)!r} cannot be written: {error.strerror}.") from None


def _bars(values: dict[str, Any]) -> list[dict[str, Any]]:
    """A bar for each value: its name, its value, and its length in parts of a hundred."""
    most = max(values.values(), default=0)
    return [
        {"name": name, "value": value, "length": 100 * value / most if most else 0} for name, value in values.items()
    ]
