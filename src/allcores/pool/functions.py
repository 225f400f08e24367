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
from allcores.pool.function_state import FunctionState
from allcores.scheduler.function import Function
from allcores.shared_memory.buffers import BufferedPickle
from allcores.transport import pickling

#: functions whose bytes are kept, per pool
MOST_FUNCTIONS = 256
#: what pickle names, and nothing else of it
_NAMED = (FunctionType, BuiltinFunctionType, type)


def as_it_is(function: Any) -> Any:
    """A decorator that does nothing: at run time there is nothing to show of types."""
    return function


class Functions:
    """Those of one pool.

    Attributes:
        unused: Numbers of functions that no chunk will refer to any more, and workers may drop.
    """

    def __init__(self, backend: Backend) -> None:
        self.unused: deque[int] = deque()
        self._backend = backend
        self._numbers = count(1)
        #: functions whose bytes are kept, by their ids and how they are called; and what these referred to then that
        #: travels with them
        self._known: dict[tuple[int, str], tuple[weakref.ref[Any], Function, FunctionState | None]] = {}

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
        key = (id(target), style)
        known = self._known.get(key)
        if known is not None and known[0]() is target and (known[2] is None or known[2].is_current(target)):
            return known[1]
        named = target
        while isinstance(named, partial):
            named = named.func
        name = getattr(named, "__qualname__", type(named).__name__)
        if not self._backend.needs_bytes:
            function = Function(next(self._numbers), target, b"", style, name)
            function.words = words
            return function
        # With the search path as it is now: it may have grown since the workers were started.
        packed: bytes | BufferedPickle = pickling.dump_named(target, name, self._backend.pack_for_all)
        leases: dict[int, object] = {}
        if isinstance(packed, BufferedPickle):
            leases, packed = packed.leases, packed.data
        payload = pickling.dumps((style, packed, list(sys.path)))
        # Without the target: it may be a method of something large, which must be free to go.
        function = Function(next(self._numbers), None, payload, style, name, leases)
        function.words = words
        # When nobody uses it any more workers drop it: after its last chunk, or with the target.
        weakref.finalize(function, self.unused.append, function.number).atexit = False
        if not leases:
            self._keep(key, target, function, by_value=b"cloudpickle" in packed)
        return function

    def _keep(self, key: tuple[int, str], target: Callable[..., Any], function: Function, *, by_value: bool) -> None:
        """Keep the bytes of a function for as long as the function itself is there."""
        functions = self._known

        def forget(gone: weakref.ref[Any]) -> None:
            known = functions.get(key)
            if known is not None and known[0] is gone:
                functions.pop(key, None)

        try:
            there = weakref.ref(target, forget)
        except TypeError:  # of a kind that takes no weak references
            return
        state = None
        if by_value or not isinstance(target, _NAMED):
            state = FunctionState(target, by_value=by_value)
        if len(functions) >= MOST_FUNCTIONS:
            functions.pop(next(iter(list(functions)), key), None)
        functions[key] = there, function, state

    def clear(self) -> None:
        """Keep none."""
        self._known.clear()
