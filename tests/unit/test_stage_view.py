"""The live view of a pipeline's stages, in a terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import sys
import threading
from typing import Any

import pytest

from allcores.pipelines import stage_view
from allcores.pipelines.stage_view import StageView
from allcores.pipelines.statistics import StageStatistics


def stages(taken: int) -> tuple[StageStatistics, ...]:
    slow = StageStatistics(1, "parse", "2 processes, shared", 0, taken, taken - 5, 0, 5, 64, 2.0, 0.8, 0.0)
    return slow, StageStatistics(2, "batch", "the program, in order", 0, taken - 5, 3, 0, 0, 0, 0.5, 0.2, 0.0)


class Asked:
    """Statistics that note how often they were asked for."""

    def __init__(self, times: int) -> None:
        self._left = times
        self._asked = 0
        self.enough = threading.Event()

    def __call__(self) -> tuple[StageStatistics, ...]:
        self._asked += 1
        self._left -= 1
        if self._left < 0:
            self.enough.set()
        return stages(1000 * self._asked)


def shown(monkeypatch: pytest.MonkeyPatch, descriptor: int, **options: Any) -> None:
    """Have it show some pictures, and end."""
    monkeypatch.setattr(stage_view, "PICTURE_S", 0.01)
    monkeypatch.setattr(stage_view, "LINE_S", 0.01)
    with os.fdopen(descriptor, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        asked = Asked(2)
        with StageView(asked, **options):
            if options.get("visible", True):
                assert asked.enough.wait(60)
        monkeypatch.undo()


def read_all(descriptor: int) -> str:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(descriptor, 1 << 16)
        except OSError:  # what Linux says of a terminal that nobody writes to any more
            part = b""
        if not part:
            os.close(descriptor)
            return b"".join(parts).decode()
        parts.append(part)


def test_a_table_that_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """And taken away at the end."""
    ours, theirs = pty.openpty()
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(read_all(ours)))
    reader.start()
    shown(monkeypatch, theirs)
    reader.join(60)
    (text,) = found
    assert text.startswith("stage  name") and "parse  1,000  995" in text and "parse  2,000  1,995" in text
    assert text.count("\x1b[3F\x1b[J") >= 2 and text.endswith("\x1b[3F\x1b[J")


def test_a_line_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """All stages, and which one takes the time."""
    ours, theirs = os.pipe()
    shown(monkeypatch, theirs)
    first = read_all(ours).splitlines()[0]
    assert first.endswith(": parse 1,000 → 995 · batch 995 → 3; most of the time goes to parse (80%)")


def test_nothing_if_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    shown(monkeypatch, theirs, visible=False)
    assert not read_all(ours)
