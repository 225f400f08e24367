"""Ctrl-C at a chosen line of a program: what a press at a bad moment does, without waiting for one."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, ModuleType
from typing import Any


class Interrupting:
    """Raises SIGINT at the `at`-th line that this thread runs of some modules and functions."""

    def __init__(
        self, at: int, modules: Iterable[ModuleType], codes: Collection[CodeType] = (), *, presses: int = 1
    ) -> None:
        self.left = at
        self._presses = presses
        self._files = {module.__file__ for module in modules}
        self._codes = codes

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename in self._files or frame.f_code in self._codes:
            return self._line
        return None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.left -= 1
            if not self.left and _in_finalizer(frame):
                # Python drops what is raised there: one line later, then.
                self.left = 1
            elif not self.left:
                for _ in range(self._presses):
                    signal.raise_signal(signal.SIGINT)
        return self._line


def _in_finalizer(frame: FrameType | None) -> bool:
    """Of an object that is gone, at whatever line that was (garbage is not collected meanwhile: `tests.tracing`)."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


@contextmanager
def python_handler() -> Iterator[None]:
    """SIGINT has Python's own handler, and has it again at the end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def leading(begun: Collection[int]) -> list[int]:
    """Numbers from 0 on, up to the first that was not begun: values have no index of their own, so none follows it."""
    return list(itertools.takewhile(set(begun).__contains__, itertools.count()))
