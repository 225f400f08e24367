"""What `--timeline` and `--trace` of a run add to it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from allcores.cli.output import complain
from allcores.engine.events import News
from allcores.errors import UsageError


class Recorder:
    """Records while its `with` block runs, if that was asked for; the trace is written at its end.

    timeline, trace: files to write, None for none.
    """

    def __init__(self, timeline: str | None, trace: str | None) -> None:
        self._trace = trace
        #: for the pool
        self.observers: tuple[Callable[[News], None], ...] = ()
        if timeline is None and trace is None:
            return
        from allcores.timeline import Timeline

        self._timeline = Timeline(timeline)
        self.observers = (self._timeline,)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.observers:
            return
        try:
            self._timeline.close()
            if self._trace is not None:
                self._timeline.save_trace(self._trace)
        except (OSError, UsageError) as failure:
            # The run itself is done, and its outcomes are written.
            complain(f"the recording is not complete: {failure}")
