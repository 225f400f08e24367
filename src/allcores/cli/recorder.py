"""What a run records of itself: for `--timeline` and `--trace`, and into the folder of a run that has a journal."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from allcores.cli.output import print_error, say
from allcores.errors import RunNotFound, UsageError
from allcores.events import PoolEvent

if TYPE_CHECKING:
    from allcores.timeline.reader import Recording

#: the timelines in a run's folder, one for each session
_FILE = re.compile(r"timeline-(\d+)\.jsonl\.gz")


class Recorder:
    """Records while its `with` block runs, if that is wanted; the trace is written at its end.

    Of a run with a journal nothing is written before the run is open, and known to be worked at by nobody else.

    Args:
        timeline: File to write, None for none.
        trace: File to write, None for none.
        journalled: The run has a folder that `keep` will name.
    """

    def __init__(self, timeline: str | None, trace: str | None, *, journalled: bool = False) -> None:
        #: files that were asked for, and what they are called in this session; None: not to be written
        self._asked = timeline
        self._trace = None if journalled else trace
        self._trace_asked = trace
        #: for the pool
        self.observers: tuple[Callable[[PoolEvent], None], ...] = ()
        self._journalled = journalled
        #: the file that was made for this session alone, and that is of no interest if nothing was run in it
        self._path: str | None = None
        self._resumed = False
        if timeline is None and trace is None and not journalled:
            return
        from allcores.timeline import Timeline

        self._timeline = Timeline(None if journalled else timeline)
        self.observers = (self._timeline,)

    def keep(self, folder: str, session: int) -> None:
        """The run is open: what is recorded goes to its folder, unless it was asked for elsewhere.

        Args:
            folder: Of the run.
            session: Its number in the run; what earlier ones have recorded stays.
        """
        if not self._journalled:
            return
        self._resumed = session > 1
        self._trace = self._of_session(self._trace_asked, session, "trace")
        try:
            if self._asked is None:
                number = max(sessions(folder), default=0) + 1
                self._path = os.path.join(folder, f"timeline-{number}.jsonl.gz")
                self._timeline.write_to(self._path)
                return
            path = self._of_session(self._asked, session, "timeline")
            assert path is not None
            self._timeline.write_to(path, private=False)
            self._path = None if path == self._asked else path
        except (OSError, UsageError) as failure:
            self._path = None
            print_error(f"there will be no timeline of this run: {failure}")

    def _of_session(self, asked: str | None, session: int, what: str) -> str | None:
        """The file of this session, in the place of one that has an earlier session."""
        if asked is None or session == 1 or not (os.path.isfile(asked) and os.path.getsize(asked)):
            return asked
        while os.path.lexists(path := _numbered(asked, session)):
            session += 1
        say(f"the {what} of this session is written to {path}: {asked} has an earlier one")
        return path

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.observers:
            return
        try:
            self._timeline.close()
            # A run that was done already: what its earlier sessions did is more of interest.
            is_empty = not self._timeline.attempts
            if self._trace is not None and not (self._resumed and is_empty):
                self._timeline.save_trace(self._trace)
            if self._path is not None and is_empty:
                os.unlink(self._path)
        except (OSError, UsageError) as failure:
            # The run itself is done, and its outcomes are written.
            print_error(f"the recording is not complete: {failure}")


def _numbered(path: str, number: int) -> str:
    """The name of a further file beside one: run-2.jsonl.gz."""
    root, suffix = os.path.splitext(path)
    if suffix == ".gz":
        root, inner = os.path.splitext(root)
        suffix = inner + suffix
    return f"{root}-{number}{suffix}"


@contextlib.contextmanager
def shown(path: str, output: str) -> Iterator[Recording]:
    """The recording of a timeline, to be shown in the file `output`.

    Raises:
        UsageError: If it cannot be read, if what it says cannot be true, or if `output` is the timeline itself.
    """
    from allcores.timeline.reader import Recording

    with contextlib.suppress(OSError):
        if os.path.samefile(path, output):
            raise UsageError(f"{output} is the timeline itself, and would be overwritten: choose another output (-o)")
    recording = Recording.load(path)
    try:
        yield recording
    except UsageError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Its rows are whole, but no recorder writes such figures.
        raise UsageError(f"The timeline {recording.name!r} is damaged: {type(error).__name__}: {error}.") from error


def sessions(folder: str) -> dict[int, str]:
    """The timelines of a run, by the number of the session; those in which nothing was run are left out."""
    found = ((_FILE.fullmatch(name), name) for name in os.listdir(folder))
    return dict(sorted((int(match[1]), os.path.join(folder, name)) for match, name in found if match is not None))


def place(name: str, runs_dir: str | None, session: int | None = None) -> tuple[str, str]:
    """The file that is meant by TIMELINE (a path, or the name of a run, or "latest"), and a word on other sessions.

    Args:
        session: Of a run that was resumed; None for its last.

    Raises:
        RunNotFound: If there is no such run or session.
    """
    folder = name
    if not (os.path.exists(name) or os.sep in name or "." in name):  # no run's name has a dot
        from allcores.runs import directory

        runs = directory.runs_folder(runs_dir)
        if name == "latest":
            latest = next(directory.known_runs(runs), None)
            if latest is None:
                raise RunNotFound(f"there are no runs in {runs}")
            folder = latest.folder
        else:
            folder = directory.look_up(runs, name).folder
    known = sessions(folder) if os.path.isdir(folder) else {}
    if session is not None and session not in known:
        have = f"it has {', '.join(map(str, known))}" if known else "it has none"
        raise RunNotFound(f"{name} has no timeline of a session {session}: {have}.")
    if not known:
        return folder, ""
    chosen = max(known) if session is None else session
    others = ", ".join(str(number) for number in known if number != chosen)
    return known[chosen], f" This is session {chosen}; --session shows another ({others})." if others else ""
