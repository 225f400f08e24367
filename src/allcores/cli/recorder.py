"""What a run records of itself: for `--timeline` and `--trace`, and into the folder of a run that has a journal."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType

from allcores.cli.output import complain
from allcores.engine.events import News
from allcores.errors import UsageError

#: the timeline in a run's folder, of its last session
FILE = "timeline.jsonl.gz"


class Recorder:
    """Records while its `with` block runs, if that is wanted; the trace is written at its end.

    timeline, trace: files to write, None for none. journalled: the run has a folder that `keep` will name.
    """

    def __init__(self, timeline: str | None, trace: str | None, *, journalled: bool = False) -> None:
        self._trace = trace
        #: for the pool
        self.observers: tuple[Callable[[News], None], ...] = ()
        self._for_folder = journalled and timeline is None
        if timeline is None and trace is None and not journalled:
            return
        from allcores.timeline import Timeline

        self._timeline = Timeline(timeline)
        self.observers = (self._timeline,)

    def keep(self, folder: str) -> None:
        """The run's folder is known: what is recorded goes there, unless it was asked for elsewhere."""
        if self._for_folder:
            try:
                self._timeline.write_to(os.path.join(folder, FILE))
            except (OSError, UsageError) as failure:
                complain(f"there will be no timeline of this run: {failure}")

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


def place(name: str, runs_dir: str | None) -> str:
    """The file or folder that is meant by TIMELINE: a path, or the name of a run, or "latest".

    Raises: RunNotFound if it is neither.
    """
    if os.path.exists(name) or os.sep in name or "." in name:
        # No run's name has a dot: it is a file that is missing.
        return name
    from allcores.journal import folders

    runs = folders.runs_folder(runs_dir)
    if name == "latest":
        return next((known.folder for known in folders.known_runs(runs)), name)
    return folders.look_up(runs, name).folder
