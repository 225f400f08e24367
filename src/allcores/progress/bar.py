"""A progress bar: an observer that draws with rich, in a terminal or a notebook."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from allcores.events import MapEnded, MapStarted, OfSeveral, PoolEvent, Progress
from allcores.formatting import pace_text
from allcores.progress.estimate import Estimator, eta_text
from allcores.progress.notebook import NotebookLines
from allcores.system import forks
from allcores.system.terminal_text import safe_line
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


class ProgressBar(OfSeveral):
    """An observer that shows items done, failed, per second, and the time left.

        with allcores.Pool(observers=[allcores.ProgressBar()]) as pool: ...

    One line per map that is running. It draws on standard error if that is a terminal, or into the notebook's
    cell, where a line of text stays, and stays quiet everywhere else: a log file gets no control characters. For one
    map alone: `progress=True`.

    Args:
        description: What stands before the bar.
        transient: True leaves nothing on the screen afterwards.
        console: A rich Console to draw on instead of standard error.

    Raises:
        ImportError: If rich is not installed.
    """

    sees_work = False

    @hiding
    def __init__(self, description: str = "items", *, transient: bool = False, console: Console | None = None) -> None:
        need_rich()
        self._description = description
        self._transient = transient
        self._console = standard_error() if console is None else console
        #: True if it would be seen
        self.visible = self._console.is_jupyter or (self._console.is_terminal and not self._console.is_dumb_terminal)
        self._lock = threading.RLock()  # guards the two below: events come from any thread
        self._display: Any = None
        self._lines: dict[Hashable, TaskID] = {}
        self._estimators: dict[Hashable, Estimator] = {}

    def take(self, event: PoolEvent, pool: Hashable) -> None:
        """See `OfSeveral`."""
        if not self.visible:
            return
        if isinstance(event, Progress):
            self._advance(event, (pool, event.map_number))
        elif isinstance(event, MapStarted):
            self._begin(event, (pool, event.map_number))
        elif isinstance(event, MapEnded):
            self._end(event, (pool, event.map_number))

    def close(self) -> None:
        """Stop drawing; what is on the screen stays, unless it is transient."""
        with self._lock:
            display, self._display = self._display, None
            self._lines.clear()
            self._estimators.clear()
            if display is not None:
                with switching_streams():
                    display.stop()

    def _begin(self, event: MapStarted, key: Hashable) -> None:
        with self._lock:
            if self._display is None:
                keep_from_children()
                if self._console.is_jupyter:
                    self._display = NotebookLines(self._transient)
                else:
                    self._display = _display(self._console, self._transient)
                with switching_streams():
                    self._display.start()
            description = safe_line(self._description)
            self._lines[key] = self._display.add_task(description, total=event.total, failed="", left="")
            self._estimators[key] = Estimator(monotonic())

    def _advance(self, event: Progress, key: Hashable) -> None:
        with self._lock:
            line = self._lines.get(key)
            if self._display is not None and line is not None:
                left = self._left(event, self._estimators[key])
                self._display.update(
                    line, completed=event.done, total=event.total, failed=self._failed(event.failed), left=left
                )

    def _failed(self, count: int) -> str:
        if not count:
            return ""
        return f"{count:,} failed" if self._console.is_jupyter else f"[red]{count:,} failed[/]"

    def _left(self, event: Progress, estimator: Estimator) -> str:
        now = monotonic()
        estimator.observe(now, event.done)
        estimate = None if event.total is None else estimator.estimate(now, event.total - event.done)
        return f"{eta_text(estimate)} left" if estimate is not None and estimate.middle_s else ""

    def _end(self, event: MapEnded, key: Hashable) -> None:
        with self._lock:
            line = self._lines.pop(key, None)
            self._estimators.pop(key, None)
            if self._display is None or line is None:
                return
            # Only now is it certain how many there were; a full bar says "finished".
            total = None if event.cancelled else event.done
            self._display.update(line, completed=event.done, failed=self._failed(event.failed), left="")
            if total is not None:
                self._display.update(line, total=total)
            self._display.stop_task(line)
            if not self._lines:
                self.close()


def need_rich() -> None:
    """Raises ImportError, with the way out, if rich is missing."""
    try:
        import rich.progress  # noqa: F401
    except ImportError as error:
        raise ImportError("the progress bar needs rich: pip install 'allcores[progress]'") from error


def standard_error() -> Console:
    """A console on standard error. $FORCE_COLOR, which has rich draw into files, too, is no wish for a bar there."""
    from rich.console import Console

    try:
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        is_terminal = False
    # What only says that it can do what a terminal does is one for rich, and for us.
    is_terminal = is_terminal or os.environ.get("TTY_COMPATIBLE") == "1"
    return Console(stderr=True, force_terminal=None if is_terminal else False)


#: held while a display begins or ends: see `switching_streams`
_switching = threading.RLock()


@contextmanager
def switching_streams() -> Iterator[None]:
    """A block in which a display of rich's begins or ends: one at a time, on whichever threads.

    Each puts proxies in place of sys.stdout and sys.stderr, and what it found there back. Of two that begin at the same
    moment one may find the proxy of the other, and leave it there for good: what is printed then goes to the bar's
    stream.
    """
    with _switching:
        yield


@forks.in_child
def _after_fork() -> None:
    global _switching
    _switching = threading.RLock()


def keep_from_children() -> None:
    """See to it that processes forked while a bar is shown print in the plain way.

    While it draws, rich puts proxies in place of sys.stdout and sys.stderr so that prints appear above the
    bar. In a forked child a proxy's lock may be held for ever by a thread that does not exist there.
    """
    global _kept_from_children
    if _kept_from_children or not hasattr(os, "register_at_fork"):
        return
    from rich.file_proxy import FileProxy

    def restore() -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if isinstance(stream, FileProxy):
                setattr(sys, name, stream.rich_proxied_file)

    os.register_at_fork(after_in_child=restore)
    _kept_from_children = True


_kept_from_children = False


def _display(console: Console, transient: bool) -> Any:
    """What draws the lines: made once there is something to draw, for it starts a thread."""
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class Count(ProgressColumn):
        """Items done, of how many if that is known, and how fast."""

        def render(self, task: Task) -> Text:
            total = "" if task.total is None else f"/{int(task.total):,}"
            speed = task.finished_speed or task.speed
            if speed is None and task.elapsed:
                speed = task.completed / task.elapsed
            pace = f"  {pace_text(speed)}" if speed else ""
            return Text(f"{int(task.completed):,}{total}{pace}")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Count(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=transient,
    )
