"""Ctrl-C once: finish what is running. Twice: stop now. SIGTERM counts like Ctrl-C.

    RUNNING ──1st──► FINISHING (Stream.stop) ──2nd──► STOPPING (StopNow) ──3rd──► gone

A handler may interrupt the main thread anywhere, also inside the pool with a lock in its hand, so it takes no
lock itself: it sets a field and leaves the call of `Stream.stop` to a thread of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from allcores.cli.exits import Exit

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOTICE = b"\nallcores: finishing what is running; once more stops now\n"


class _StopReading(BaseException):
    """Raised by the handler in a read that may never return; never seen outside of this file.

    Not an Exception: whoever reads may take those for a damaged file.
    """


class StopNow(BaseException):
    """The second signal. Not KeyboardInterrupt: the first of those a stream takes as a request to finish."""


class Interrupts:
    """Handles SIGINT and SIGTERM while its `with` block runs, if that is on the main thread.

    received: the first signal that came, None before.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        #: True once a signal has raised StopNow: whatever is raised from then on comes of that
        self.stopping = False
        #: what the first signal calls; None while there is nothing to finish
        self._stop: Callable[[], object] | None = None
        #: True while the main thread waits for input
        self._reading = False
        self._before: dict[signal.Signals, Any] = {}
        self._stopper: threading.Thread | None = None

    @property
    def exit(self) -> Exit | None:
        """The exit code that the signal asks for; None if none came."""
        if self.received is None:
            return None
        return Exit.TERMINATED if self.received is signal.SIGTERM else Exit.INTERRUPTED

    def stop_with(self, stop: Callable[[], object]) -> None:
        """From now on, the first signal calls `stop`; before, it raises StopNow."""
        self._stop = stop

    def guarded(self, source: Iterable[T]) -> Iterator[T]:
        """The items of `source`, up to the first signal; it ends a read that waits, too."""
        items = iter(source)
        try:
            while self.received is None:
                try:
                    self._reading = True
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    self._reading = False
                yield item
        except _StopReading:
            return

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # `nohup` and a shell's `&` have a signal ignored: that stays.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # In a command that is ending one more Ctrl-C has nothing to say: it ends it without a traceback.
            quiet = self.stopping and handler is signal.default_int_handler
            signal.signal(number, signal.SIG_DFL if quiet else handler)
        if self._stopper is not None:
            self._stopper.join(1.0)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self.received is None
        if first:
            self.received = signal.Signals(number)
        if not first or self._stop is None:
            for each in self._before:
                signal.signal(each, signal.SIG_DFL)
            self.stopping = True
            raise StopNow
        with contextlib.suppress(OSError):
            os.write(2, _NOTICE)
        stopper = threading.Thread(target=self._stop, name="allcores-stop", daemon=True)
        try:
            stopper.start()
        except RuntimeError:  # none can be had: it ends as by the second signal
            self.stopping = True
            raise StopNow from None
        self._stopper = stopper
        if self._reading:
            raise _StopReading


class GuardedSource(Iterable[T]):
    """A source whose reading ends with the first signal."""

    def __init__(self, source: Iterable[T], interrupts: Interrupts) -> None:
        self._source = source
        self._interrupts = interrupts

    def __iter__(self) -> Iterator[T]:
        return self._interrupts.guarded(self._source)


class CountedSource(GuardedSource[T]):
    """The same, and its length is known; for progress and for the last chunks' sizes."""

    def __init__(self, source: Iterable[T], interrupts: Interrupts, total: int) -> None:
        super().__init__(source, interrupts)
        self._total = total

    def __len__(self) -> int:
        return self._total
