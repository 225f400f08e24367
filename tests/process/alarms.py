"""A signal at any moment: before each of the lines that a block runs."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import allcores
from allcores.system import deferral

OURS = os.path.dirname(allcores.__file__)


class At:
    """Raises a signal before a line of ours runs, the one with this number of all that a block runs on this thread."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.lines = 0
        #: file, line and function before which it was raised
        self.where: tuple[str, int, str] | None = None

    def _trace(self, frame: FrameType, what: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if what == "line":
            self.lines += 1
            if self.lines == self.number:
                code = frame.f_code
                self.where = code.co_filename[len(OURS) + 1 :], frame.f_lineno, code.co_name
                signal.raise_signal(signal.SIGALRM)
        return self._trace

    def __enter__(self) -> At:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)


@pytest.fixture
def on_alarm() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Sets what is done on SIGALRM."""
    came: list[Callable[[], Any]] = []

    def handler(number: int, frame: FrameType | None) -> None:
        came[-1]()

    before = signal.signal(signal.SIGALRM, handler)
    traced = sys.gettrace()
    yield came.append
    sys.settrace(traced)
    assert signal.getsignal(signal.SIGALRM) is handler, "the handler was not given back"
    assert not deferral.inside()
    # The pool's own thread may be in a section.
    for _ in range(2000):
        if gc.get_threshold()[0] < deferral.HELD_OFF:
            break
        threading.Event().wait(0.01)
    assert gc.get_threshold()[0] < deferral.HELD_OFF
    signal.signal(signal.SIGALRM, before)
