"""Short sections that no foreign code interrupts: signal handlers and finalizers run after them.

Two things run on a thread between any two bytecodes, without having been called. On the main thread signal handlers:
they may raise (Ctrl-C, a time limit by SIGALRM) and tear a decision in two, or use the very pool whose lock the thread
holds. On every thread the garbage collector, with finalizers and weak references' callbacks that may do the same.
So for as long as a section lasts

- on the main thread, signals that have a handler in Python are noted, and their handlers are called at the end,
  whatever they raise;
- no automatic collection begins in this process. It follows at the end: what was allocated is counted on.

Sections nest. In a section nothing waits for long and no foreign code is called on purpose.
"""

from __future__ import annotations

import gc
import threading

# The C functions behind `signal.signal` and `signal.getsignal`: their wrappers turn numbers into enums,
# which costs 5 µs a call, and this is in the path of every submitted call.
from _signal import SIGINT, SIGKILL, SIGSTOP, getsignal, signal, valid_signals  # type: ignore[import-not-found]
from gc import get_threshold, set_threshold
from threading import get_ident
from time import monotonic_ns

from allcores.system import forks, host_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

#: Threshold of the youngest generation while automatic collections are held off. Not 0, which a program may set itself.
HELD_OFF = 2_000_000_011
#: Handlers that the program has set since are looked for this often, ns: a look at all signals takes microseconds.
LOOK_NS = 1_000_000

_signals = tuple(sorted(valid_signals() - {SIGKILL, SIGSTOP}))
_main = threading.main_thread().ident
#: threads that are in a section
_inside: set[int] = set()
#: the program's own threshold
_threshold = gc.get_threshold()[0]
#: signals that have had a handler in Python, and when they were looked for
_handled: tuple[int, ...] = (SIGINT,)
_looked_ns = 0
#: of each signal, whether it had one then
_callable: list[bool] = []
#: names a handler that the process does not have: see `host_signals`
_not_set: Any = None
#: handlers that stand back now, by their signals, or did so last
_handlers: dict[int, Any] = {}
#: signals that came meanwhile, and where
_noted: dict[int, FrameType | None] = {}
#: the main thread is in a section: signals are noted
_noting = False


def _note(number: int, frame: FrameType | None) -> None:
    if _noting:
        _noted[number] = frame
        return
    # The handlers are being exchanged.
    handler = _handlers.get(number)
    if callable(handler):
        handler(number, frame)


def enter() -> bool:
    """Begin a section; False if this thread is in one already, and is to end nothing."""
    # Written out in one piece, like `leave`: three of each are in the path of every submitted call.
    me = get_ident()
    if me in _inside:
        return False
    if me == _main:
        global _noting
        if monotonic_ns() - _looked_ns > LOOK_NS:
            _look()
        try:
            for number in _handled:
                handler = getsignal(number)
                if callable(handler) and handler is not _note and handler is not _not_set:
                    # First, for from the next line on it may be asked for; and a handler of another signal, which may
                    # run at each of these lines, may set new ones.
                    _handlers[number] = handler
                    before = signal(number, _note)
                    if before is not handler and before is not _note:
                        _handlers[number] = before
            _noting = True
        except BaseException:  # what a handler raises that has not been exchanged yet
            # Whoever has set one looks whether it stands: an InterruptHold would not give back what it does not see.
            _give_back()
            raise
    _inside.add(me)
    threshold = get_threshold()[0]
    if threshold != HELD_OFF:
        global _threshold
        _threshold = threshold
        if threshold:
            set_threshold(HELD_OFF)
    return True


def leave() -> None:
    """End the section of an `enter` that was True. Raises what the handlers of noted signals raise."""
    me = get_ident()
    _inside.discard(me)
    # If the program has set a threshold meanwhile, that is the one.
    while not _inside and get_threshold()[0] == HELD_OFF:
        set_threshold(_threshold)
        if _inside:
            # Another thread has entered behind the look, and found collections held off.
            _hold_off()
    if me == _main:
        global _noting
        try:
            _noting = False
            for number in _handled:
                if getsignal(number) is _note:
                    signal(number, _handlers[number])
        except BaseException:
            _give_back()
            raise
        finally:
            if _noted:
                _deliver()


def _hold_off() -> None:
    """Have no automatic collection begin, whatever the program's threshold is now."""
    global _threshold
    threshold = get_threshold()[0]
    if threshold and threshold != HELD_OFF:
        _threshold = threshold
        set_threshold(HELD_OFF)


def inside() -> bool:
    """This thread is in a section."""
    return get_ident() in _inside


def raised_by_handler(error: BaseException) -> bool:
    """True if a signal's handler raised `error` in the middle of what this thread did: no fault of the code there.

    Told by the frames that it came through, so for handlers that are written in Python.
    """
    trace = error.__traceback__
    # The first is whoever asks.
    trace = trace.tb_next if trace is not None else None
    if trace is None or get_ident() != _main:
        return False
    codes = {_code_of(handler) for handler in (*_handlers.values(), *map(getsignal, _signals)) if callable(handler)}
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: Any) -> Any:
    """What runs when a handler is called: a function, a method, a partial of them, an object with `__call__`."""
    for _ in range(10):
        code = getattr(handler, "__code__", None)
        if code is not None:
            return code
        handler = getattr(handler, "__func__", None) or getattr(handler, "func", None) or type(handler).__call__
    return None


def _look() -> None:
    """Look for handlers that the program has set since the last look."""
    global _callable, _handled, _looked_ns, _not_set
    _looked_ns = monotonic_ns()
    _not_set = host_signals.not_set()
    found = list(map(callable, map(getsignal, _signals)))
    if found != _callable:
        new = [number for number, handled in zip(_signals, found, strict=True) if handled and number not in _handled]
        _handled = (*_handled, *new)
        _callable = found


def _give_back() -> None:
    """Set the program's handlers again. Those that are back may run, use a pool, and raise, before the others are."""
    try:
        for number in _handled:
            if getsignal(number) is _note:
                signal(number, _handlers[number])
    except BaseException:
        _give_back()
        raise


def _deliver() -> None:
    """Call the handlers of the signals that came, all of them, whatever they raise."""
    try:
        while _noted:
            number, frame = _noted.popitem()
            handler = getsignal(number)
            if callable(handler):
                handler(number, frame)
    finally:
        if _noted:
            _deliver()


@forks.in_child
def _after_fork() -> None:
    """In a forked child the one thread that is left is the main thread, and in no section."""
    global _main, _noting
    _main = get_ident()
    _inside.clear()
    _noted.clear()
    _noting = False
    if get_threshold()[0] == HELD_OFF:
        set_threshold(_threshold)
    _give_back()


class Lock:
    """A reentrant lock, held in a section."""

    __slots__ = ("_depth", "_lock", "_outermost")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._outermost = False

    def __enter__(self) -> None:
        outermost = enter()
        self._lock.acquire()
        if not self._depth:
            self._outermost = outermost
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        outermost = self._outermost and not self._depth
        self._lock.release()
        if outermost:
            leave()
