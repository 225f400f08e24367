"""Ctrl-C that comes in the middle of a step is raised at its end; a second one at once.

For steps that may call foreign code, which a section (`deferral`) is not for: what never ends there can still be
interrupted, by pressing twice. A part that waits for others, or for input, is lifted out of the hold.
"""

from __future__ import annotations

import threading
from _signal import SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]
from threading import get_ident

from allcores.system import host_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType


class InterruptHold:
    """A context manager, to be entered any number of times, by one thread.

    It does something on the main thread where Python's own handler of SIGINT stands: a handler that the program has
    set is the program's affair. Costs about a microsecond.
    """

    def __init__(self) -> None:
        #: KeyboardInterrupt has ended a block in the middle of a step
        self.torn = False
        self._holds = False
        self._noted = False
        #: between steps
        self._whole: BaseException | None = None
        #: for a part of the block: Ctrl-C is raised in it as ever, and one that has come before as it begins
        self.lifted = _Lifted(self)

    def __enter__(self) -> None:
        self.torn = self._noted = False
        self._holds = (
            get_ident() == threading.main_thread().ident
            and getsignal(SIGINT) is default_int_handler
            and host_signals.not_set() is None
        )
        if self._holds:
            signal(SIGINT, self._note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole, self._whole = self._whole, None
        # Python looks for signals also between the end of a lifted part and `lower`, which then is not called.
        lifted = self._holds and getsignal(SIGINT) is default_int_handler
        if self._holds:
            self._give_back()
            self._holds = False
        if isinstance(error, KeyboardInterrupt):
            # Or a second one, which is not to be kept waiting.
            self.torn = not (lifted or error is whole) or self._noted
        elif self._noted:
            raise KeyboardInterrupt

    def release(self) -> None:
        """Around the block, whatever ended it: a handler that raised where it begins or ends has left Ctrl-C held."""
        if self._holds or getsignal(SIGINT) == self._note:
            self._give_back()
            self._holds = False

    def lift(self) -> None:
        """See `lifted`."""
        if self._holds:
            self._give_back()
            if self._noted:
                self._noted = False
                self._whole = KeyboardInterrupt()
                raise self._whole

    def lower(self, error: BaseException | None) -> None:
        """The end of a lifted part."""
        # No other is kept: it refers to frames, and these to what is held here.
        self._whole = error if isinstance(error, KeyboardInterrupt) else None
        if self._holds and getsignal(SIGINT) is default_int_handler:
            try:
                signal(SIGINT, self._note)
            except KeyboardInterrupt as interrupt:
                self._whole = interrupt
                raise

    def _give_back(self) -> None:
        """Set Python's own handler again, unless the program has set one meanwhile."""
        # Compared by value: each look at a method makes another object.
        if getsignal(SIGINT) == self._note:
            try:
                signal(SIGINT, default_int_handler)
            except BaseException:  # the second one, or what another handler raises
                self._give_back()
                raise

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted:
            default_int_handler(number, frame)
        self._noted = True


class _Lifted:
    def __init__(self, hold: InterruptHold) -> None:
        self._hold = hold

    def __enter__(self) -> None:
        self._hold.lift()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hold.lower(error)
