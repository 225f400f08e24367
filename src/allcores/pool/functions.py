"""Functions as workers know them: by number, with bytes that are made once."""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from types import BuiltinFunctionType, FunctionType
from typing import Any

from allcores.backends.base import Backend
from allcores.formatting import seconds_text, size_text
from allcores.pool.function_state import FunctionState, state_of
from allcores.scheduler.function import Function
from allcores.shared_memory.buffers import BufferedPickle
from allcores.system import caller, reloads
from allcores.system.clock import monotonic_ns
from allcores.system.plain_record import open_record
from allcores.transport import pickling

#: functions whose bytes are kept, per pool
MOST_FUNCTIONS = 256
#: what pickle names, and nothing else of it
_NAMED = (FunctionType, BuiltinFunctionType, type)
#: Of what has to be pickled to know whether it has changed, for it is not looked at, or in part: a call does so if
#: there are no more bytes of it, else in a twentieth of the time. A map always does.
CHEAP_BYTES = 256 * 1024
REST = 20
#: how often a function was pickled for calls, and ns that this took, from which on it is said
OFTEN, LONG_NS = 10, 1_000_000_000


def as_it_is(function: Any) -> Any:
    """A decorator that does nothing: at run time there is nothing to show of types."""
    return function


@open_record
class _Known:
    """A function whose bytes are kept.

    Attributes:
        there: The function itself.
        function: As workers know it.
        state: What it referred to then that travels with it; None if that cannot be looked at.
        is_named: Pickle names it, and nothing else of it travels.
        took_ns: How long it took to be pickled last; `at_ns`: when.
    """

    there: weakref.ref[Any]
    function: Function
    state: FunctionState | None
    is_named: bool
    took_ns: int
    at_ns: int

    def is_current(self, target: Any, is_call: bool) -> bool:
        """Whether the bytes are still those of the function."""
        if self.is_named:
            return True
        if self.state is not None:
            if not self.state.is_current(target):
                return False
            if self.state.is_whole:
                return True
        if not is_call or len(self.function.payload) <= CHEAP_BYTES:
            return False
        return monotonic_ns() - self.at_ns < REST * self.took_ns


class Functions:
    """Those of one pool.

    Attributes:
        unused: Numbers of functions that no chunk will refer to any more, and workers may drop.
    """

    def __init__(self, backend: Backend) -> None:
        self.unused: deque[int] = deque()
        self._backend = backend
        #: modules that were loaded anew before there were workers, and names of those of which it was said since
        self._reloads, self._outdated = reloads.current() if backend.needs_bytes else None, set[str]()
        self._numbers = count(1)
        #: functions whose bytes are kept, by their ids and how they are called
        self._known: dict[tuple[int, str], _Known] = {}
        #: of those whose bytes are too many to be kept: how often they were made for calls, and ns that this took
        self._costs: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()

    def named(
        self,
        target: Callable[..., Any],
        style: str,
        *,
        words: Callable[[str, Sequence[Any], Mapping[str, Any]], str] | None = None,
    ) -> Function:
        """`target` as the pipes know it; its bytes are made once. Raises NotPicklable.

        Args:
            target: The function.
            style: See `Function`.
            words: See `Function`.
        """
        if self._reloads is not None and (now := reloads.current()) is not self._reloads:
            self._tell_of_reload(target, self._reloads, now)
        key = (id(target), style)
        known = self._known.get(key)
        if known is not None and known.there() is not target:
            known = None
        if known is not None and known.is_current(target, style == "call"):
            return known.function
        named = target
        while isinstance(named, partial):
            named = named.func
        name = getattr(named, "__qualname__", type(named).__name__)
        if not self._backend.needs_bytes:
            function = Function(next(self._numbers), target, b"", style, name)
            function.words = words
            return function
        began_ns = monotonic_ns()
        # With the search path as it is now: it may have grown since the workers were started.
        packed: bytes | BufferedPickle = pickling.dump_named(target, name, self._backend.pack_for_all)
        leases: dict[int, object] = {}
        if isinstance(packed, BufferedPickle):
            if style == "call":
                self._count(target, name, packed.size, monotonic_ns() - began_ns)
            leases, packed = packed.leases, packed.data
        payload = pickling.dumps((style, packed, list(sys.path)))
        if known is not None and not leases and payload == known.function.payload:
            # What could not be looked at is as it was, or what stands there now is equal: workers have it.
            self._keep(key, target, known.function, packed, began_ns)
            return known.function
        # Without the target: it may be a method of something large, which must be free to go.
        function = Function(next(self._numbers), None, payload, style, name, leases)
        function.words = words
        # When nobody uses it any more workers drop it: after its last chunk, or with the target.
        weakref.finalize(function, self.unused.append, function.number).atexit = False
        if not leases:
            self._keep(key, target, function, packed, began_ns)
        return function

    def _tell_of_reload(self, target: Any, before: reloads.Reloads, now: reloads.Reloads) -> None:
        """Say, once, that workers may have the module of a function as it was before it was loaded anew."""
        while isinstance(target, partial):
            target = target.func
        module = getattr(target, "__module__", None)
        if isinstance(module, str) and module not in self._outdated and now.get(module) != before.get(module):
            self._outdated.add(module)
            caller.warn(
                f"The module {module} was loaded anew, and workers of this pool that have imported it go on with what "
                "it was. Make another pool, or use allcores.map and its like, whose workers are replaced then, once "
                "nothing of theirs is open."
            )

    def _keep(
        self, key: tuple[int, str], target: Callable[..., Any], function: Function, packed: bytes, began_ns: int
    ) -> None:
        """Keep the bytes of a function, which were begun then, for as long as the function itself is there."""
        functions, now = self._known, monotonic_ns()

        def forget(gone: weakref.ref[Any]) -> None:
            known = functions.get(key)
            if known is not None and known.there is gone:
                functions.pop(key, None)

        try:
            there = weakref.ref(target, forget)
        except TypeError:  # of a kind that takes no weak references
            return
        by_value = b"cloudpickle" in packed
        is_named = not by_value and isinstance(target, _NAMED)
        state = None if is_named else state_of(target, by_value=by_value, size=len(packed))
        if len(functions) >= MOST_FUNCTIONS:
            functions.pop(next(iter(list(functions)), key), None)
        functions[key] = _Known(there, function, state, is_named, now - began_ns, now)

    def _count(self, target: Any, name: str, size: int, took_ns: int) -> None:
        """Say, once, that a function which brings much along is pickled for each of many calls."""
        try:
            times, total_ns = self._costs.get(target, (0, 0))
            if times < 0:
                return
            times, total_ns = times + 1, total_ns + took_ns
            told = times >= OFTEN and total_ns >= LONG_NS
            self._costs[target] = (-1, 0) if told else (times, total_ns)
        except Exception:  # it takes no weak references, or its hash, which is code of the program, raises something
            return
        if told:
            caller.warn(
                f"{name} was pickled for each of {times} calls, which took {seconds_text(total_ns / 1e9)}: what it"
                f" refers to ({size_text(size)}) may have changed between them. Load that once in each worker"
                " (Pool(preload=...) or setup=...), share it (pool.share), or let map make the calls: it does so once."
            )

    def clear(self) -> None:
        """Keep none."""
        self._known.clear()
