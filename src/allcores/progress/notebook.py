"""A progress bar for notebooks: plain text that is replaced as it changes, and of which the last state is saved.

rich needs ipywidgets there, whose pictures are not part of a saved notebook.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from allcores.formatting import pace_text

#: Between two pictures at least, seconds: each is a message to the browser.
PAUSE_S = 0.2
#: characters of the bar
WIDTH = 30


class NotebookLines:
    """The part of `rich.progress.Progress` that a bar uses, shown as text.

    Args:
        transient: Show nothing once it has ended.
    """

    def __init__(self, transient: bool) -> None:
        self._transient = transient
        self._lines: dict[int, dict[str, Any]] = {}
        self._handle: Any = None
        self._shown_s = 0.0

    def start(self) -> None:
        """Nothing is shown before there is a line."""

    def add_task(self, description: str, *, total: int | None, failed: str, left: str) -> int:
        """A line more; returns its number."""
        number = len(self._lines)
        self._lines[number] = {
            "description": description, "total": total, "completed": 0, "left": left, "failed": failed,
            "begun_s": monotonic(), "took_s": None,
        }  # fmt: skip
        self._show()
        return number

    def update(self, number: int, **changes: Any) -> None:
        """Change a line."""
        self._lines[number].update(changes)
        if monotonic() - self._shown_s >= PAUSE_S:
            self._show()

    def stop_task(self, number: int) -> None:
        """A line is as it will stay."""
        line = self._lines[number]
        line["took_s"] = monotonic() - line["begun_s"]
        self._show()

    def stop(self) -> None:
        """Show the last state, or nothing."""
        if self._transient:
            self._lines.clear()
        self._show()

    def _show(self) -> None:
        from IPython import display as notebook

        self._shown_s = monotonic()
        data = {"text/plain": "\n".join(map(_text, self._lines.values()))}
        if self._handle is None:
            display: Any = notebook.display  # without types
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def _text(line: dict[str, Any]) -> str:
    """`pages ━━━━━─────  18/24  2.6/s  3 failed  0:07  3 s left`."""
    done, total = line["completed"], line["total"]
    seconds = monotonic() - line["begun_s"] if line["took_s"] is None else line["took_s"]
    parts = [line["description"]]
    if total:
        full = round(WIDTH * min(1.0, done / total))
        parts.append("━" * full + "─" * (WIDTH - full))
    parts.append(f"{done:,}" if total is None else f"{done:,}/{total:,}")
    if done and seconds > 0:
        parts.append(pace_text(done / seconds))
    if line["failed"]:
        parts.append(str(line["failed"]))
    parts.append(f"{int(seconds) // 60}:{int(seconds) % 60:02}")
    if line["left"]:
        parts.append(line["left"])
    return "  ".join(parts)
