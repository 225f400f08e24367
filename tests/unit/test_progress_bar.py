"""The progress bar as several pools have it at a time, and as programs make their own of it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from allcores import Pool
from allcores.events import PoolEvent
from allcores.monitoring import ProgressBar

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
