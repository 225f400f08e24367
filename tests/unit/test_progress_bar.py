"""The progress bar as several pools have it at a time, and as programs make their own of it."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from typing import Any

import pytest

from allcores import Pool
from allcores.events import MapEnded, MapStarted, PoolEvent
from allcores.monitoring import LiveView, ProgressBar

console = pytest.importorskip("rich.console")


def screen() -> Any:
    return console.Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)


def test_pools_that_run_at_the_same_time_have_a_line_each() -> None:
    bar = ProgressBar(console=screen())
    with Pool(backend="serial", observers=[bar]) as one, Pool(backend="serial", observers=[bar]) as other:
        stream = one.imap(abs, range(3))
        next(stream)
        display = bar._display
        assert len(display.tasks) == 1
        other.map(abs, range(5))
        assert bar._display is display, "it goes on with the map that is open"
        assert [(task.completed, task.total) for task in display.tasks][1:] == [(5, 5)]
        list(stream)
        assert [(task.completed, task.total) for task in display.tasks] == [(3, 3), (5, 5)]
        assert bar._display is None


@pytest.mark.parametrize("kind", [ProgressBar, LiveView])
@pytest.mark.parametrize("stderr", ["a file", "none", "closed"])
def test_a_wish_for_colours_makes_no_terminal_of_a_file(
    kind: type[ProgressBar] | type[LiveView], stderr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a build server with $FORCE_COLOR the log had hundreds of pictures of the bar."""
    stream = None if stderr == "none" else io.StringIO()
    if stream is not None and stderr == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    assert not kind().visible
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert kind().visible


def test_a_class_with_its_own_way_to_be_told_is_told_in_that_way() -> None:
    class Counting(ProgressBar):
        """Also counts events."""

        seen = 0

        def __call__(self, event: PoolEvent) -> None:
            self.seen += 1
            super().__call__(event)

    bar = Counting(console=screen())
    with Pool(backend="serial", observers=[bar]) as pool:
        assert pool.map(abs, range(3)) == [0, 1, 2]
    assert bar.seen >= 3
    assert bar._display is None


def test_bars_that_begin_at_the_same_moment_leave_the_streams_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """One found the other's stand-in for standard output, and put that back at its end."""
    live = pytest.importorskip("rich.live")
    meeting, met, out = threading.Barrier(2), [], sys.stdout

    class Met(live.FileProxy):  # type: ignore[misc, name-defined]
        """Waits a moment for another one that is being put in place."""

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            with contextlib.suppress(threading.BrokenBarrierError):
                met.append(meeting.wait(0.2))

    monkeypatch.setattr(live, "FileProxy", Met)

    def show() -> None:
        bar = ProgressBar(console=screen())
        bar(MapStarted(1, 3))
        bar(MapEnded(1, 3, 0, False))

    threads = [threading.Thread(target=show) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sys.stdout is out
    finally:
        sys.stdout = out
    assert met == []
