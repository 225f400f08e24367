"""A bound for the wait for an item: an input may be a pipe that is silent, or a generator that blocks."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

#: part of the budget in which an item has to come
PART = 0.5
#: seconds between two attempts to end a read whose code catches everything
AGAIN_S = 1.0


class TooLong(BaseException):
    """The time is over. Not an Exception: whoever reads may take those for a damaged file."""


class Patience:
    """Ends a read that takes too long; to be used as a context manager.

    It does so by a timer of the process, on the main thread, where the program has no such timer itself. Elsewhere
    reads take the time that they take.

    Args:
        seconds: How long all reads may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._reading = self._over = False
        self._before: Any = None

    def __enter__(self) -> Patience:
        here = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
        if not here or self.seconds == math.inf:
            return self
        if signal.getsignal(signal.SIGALRM) is signal.SIG_DFL and not any(signal.getitimer(signal.ITIMER_REAL)):
            self._before = signal.signal(signal.SIGALRM, self._handle)
            signal.setitimer(signal.ITIMER_REAL, max(self.seconds, 0.001), AGAIN_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, self._before)

    def sentence(self) -> str:
        """What to say where no item came in time."""
        return (
            f"the input gave no item for {self.seconds:.2g} s, half of the budget: it waits for something; see for"
            " what, or give a larger budget"
        )

    def of(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items. Raises TooLong where one does not come in time."""
        while True:
            try:
                self._reading = True
                if self._over:
                    raise TooLong
                item = next(items)
            except StopIteration:
                return
            finally:
                self._reading = False
            yield item

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._over = True
        if self._reading:
            raise TooLong
