"""A live view of a pipeline's stages: a table in a terminal, elsewhere a line every half minute. On standard error."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from allcores.formatting import seconds_text
from allcores.pipelines.statistics import StageStatistics, table_text
from allcores.system.clock import monotonic_ns
from allcores.system.terminal_text import safe_line

#: seconds between two pictures. Smaller flickers and costs, larger looks as if nothing went on.
PICTURE_S = 0.25
#: seconds between two lines, where nobody watches
LINE_S = 30.0


class StageView:
    """Shows what stages do while its `with` block runs.

    Args:
        statistics: Tells what they have done.
        visible: False shows nothing.
    """

    def __init__(self, statistics: Callable[[], tuple[StageStatistics, ...]], *, visible: bool = True) -> None:
        self._statistics = statistics
        self._stream = sys.stderr
        self._terminal = bool(visible and self._stream is not None and self._stream.isatty())
        self._visible = visible and self._stream is not None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_showing, name="allcores-stages", daemon=True)
        self._started = monotonic_ns()
        #: lines of the picture that stands there
        self._height = 0

    def __enter__(self) -> StageView:
        if self._visible:
            try:
                self._thread.start()
            except RuntimeError:  # no thread can be had: there is work to do all the same
                self._visible = False
            except BaseException:  # of a signal's handler: it runs already, and nobody would end it
                self._ended.set()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._visible:
            self._ended.set()
            # What it looks at may have been dropped while it looked: then this is that very thread.
            if threading.current_thread() is not self._thread:
                self._thread.join()

    def _keep_showing(self) -> None:
        wait = PICTURE_S if self._terminal else LINE_S
        while not self._ended.wait(wait):
            stages = self._statistics()
            if stages:
                self._write(self._picture(stages) if self._terminal else self._line(stages))
        if self._height:
            self._write(_above(self._height))

    def _picture(self, stages: tuple[StageStatistics, ...]) -> str:
        size = shutil.get_terminal_size()
        lines = [line[: size.columns - 1] for line in table_text(stages).splitlines()][: max(1, size.lines - 1)]
        text = _above(self._height) + "".join(f"{safe_line(line)}\n" for line in lines)
        self._height = len(lines)
        return text

    def _line(self, stages: tuple[StageStatistics, ...]) -> str:
        passed = seconds_text((monotonic_ns() - self._started) / 1e9)
        busiest = max(stages, key=lambda stage: stage.share)
        parts = [f"{stage.name} {stage.taken:,} → {stage.given:,}" for stage in stages]
        text = f"{passed}: {' · '.join(parts)}; most of the time goes to {busiest.name} ({busiest.share:.0%})"
        return safe_line(text) + "\n"

    def _write(self, text: str) -> None:
        try:
            os.write(self._stream.fileno(), text.encode("utf-8", "replace"))
        except (OSError, ValueError):
            self._ended.set()  # nobody is there any more


def _above(height: int) -> str:
    """Takes away a picture of so many lines."""
    return f"\x1b[{height}F\x1b[J" if height else ""
