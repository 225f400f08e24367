"""Notices a function of a program that fills or counts in a global: here it does so in a copy, for nobody.

    totals = []
    def work(item):
        totals.append(item * 2)         # of this process
    allcores.map(work, items)           # totals of the program stays empty

Functions of the script, and of modules of the program's own: not of the standard library or of what is installed.
Looked at after the first chunks of a function in a worker, and after some of the later ones: lists, sets, dicts, deques
and numbers that its code names, that its closure holds, or that the object of a method has, are compared by identity
with what they were. What a setup function has bound is this process's by intention, and in an imported module all of
the module that setup or teardown is of. So is a cache: a plain dict that only grows while the function returns values,
and whatever has "cache" or "memo" in its name. Of a bytearray and of arrays (of `array`, and NumPy's in memory of this
process alone) the bytes are compared, at both ends of large ones, and only while the function returns nothing: else it
may compute in them.
"""

from __future__ import annotations

import functools
import os
import sys
import zlib
from collections import deque
from types import CellType, CodeType, FunctionType, MethodType, ModuleType

from allcores.transport import script_globals
from allcores.transport.reduction import Reduction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: of larger containers the first so many elements are compared, and the length
MOST_COMPARED = 1_000
#: of the bytes of an array so many at its beginning and at its end
MOST_BYTES = 32 << 10
#: functions that the function calls, of its own script, are looked through: so many
MOST_FUNCTIONS = 100

_CONTAINERS = (list, set, dict, deque)
_CACHES = ("cache", "memo")


class Watch:
    """What a function could change, as it was."""

    def __init__(self, name: str, held: list[tuple[str, Any]]) -> None:
        #: the function's
        self.name = name
        self._held = held
        self._before = [_state(where) for _, where in held]

    def changed(self, *, returned: bool) -> list[str]:
        """Names of what is not as it was.

        Args:
            returned: The function gave back values other than None.
        """
        found = []
        for (name, where), before in zip(self._held, self._before, strict=True):
            after = _state(where)
            if type(before[0]) is not type(after[0]) or not _differs(before, after):
                continue
            if returned and (_is_array(after[0]) or (type(after[0]) is dict and _has_only_grown(before, after))):
                continue
            found.append(name)
        return found


def watch(function: Any, left_alone: frozenset[str] = frozenset()) -> Watch | None:
    """What is to be watched of a function that a worker has got; None if there is nothing.

    Args:
        function: As it is called.
        left_alone: Imported modules in which it may change what it likes.
    """
    first = _plain(function)
    if first is None or not _is_own(first.__globals__, left_alone):
        return None
    held: dict[tuple[int, Any], tuple[str, Any]] = {}
    for name, where in (*_reachable(first, left_alone), *_of_instance(function)):
        held.setdefault((id(where[0]), where[1]), (name, where))
    return Watch(first.__qualname__, list(held.values())) if held else None


def _plain(function: Any) -> FunctionType | None:
    """The function itself, whatever it is wrapped in."""
    for _ in range(10):
        if isinstance(function, FunctionType):
            inside = function.__dict__.get("__wrapped__")
            if inside is None or _is_own(function.__globals__, frozenset()):
                return function
            function = inside
            continue
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif isinstance(function, Reduction):
            function = function.fn
        else:
            # Wrappers of `functools`, and of ours that make rows or texts of a function's values.
            function = getattr(function, "__wrapped__", None) or getattr(function, "function", None)
    return None


def _of_instance(function: Any) -> Iterator[tuple[str, Any]]:
    """Names and places of containers and numbers in the object of a bound method, of which a worker has a copy."""
    for _ in range(10):
        if isinstance(function, MethodType):
            break
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, Reduction):
            function = function.fn
        else:
            return
    instance = getattr(function, "__self__", None)
    try:
        inside = object.__getattribute__(instance, "__dict__")
    except AttributeError:
        return
    if isinstance(instance, (type, ModuleType)) or type(inside) is not dict:
        return
    for name in [name for name in inside if isinstance(name, str)][:MOST_FUNCTIONS]:
        if _is_watched(name, inside[name]):
            yield f"self.{name}", (inside, name)


def _is_watched(name: str, value: Any) -> bool:
    """A container or a number, and no cache by its name."""
    kept = type(value) in (int, float) or isinstance(value, _CONTAINERS) or _is_array(value)
    return kept and not any(word in name.lower() for word in _CACHES)


def _is_array(value: Any) -> bool:
    """A row of plain numbers in memory of its own."""
    kind = type(value)
    if type(kind) is not type:  # whose attributes may be code of the program
        return False
    if kind is bytearray or (kind.__module__, kind.__name__) == ("array", "array"):
        return True
    if (kind.__module__, kind.__name__) != ("numpy", "ndarray"):
        return False
    flags = value.flags
    if not (flags.writeable and flags.c_contiguous and value.dtype.kind in "biufc"):
        return False
    memory = value.base
    while type(memory) is kind or type(memory) is memoryview:
        memory = memory.base if type(memory) is kind else memory.obj
    return memory is None or type(memory) is bytearray or _is_block(memory)


def _is_block(memory: Any) -> bool:
    """An object of ctypes over an address: the block in which an array came, and which is this worker's copy of it.

    Memory that a program shares by `multiprocessing` refers to what it lies in.
    """
    ctypes = sys.modules.get("_ctypes")
    return (
        ctypes is not None and isinstance(memory, ctypes.Array) and memory._objects is None and not memory._b_needsfree_
    )


def _is_own(names: dict[str, Any], left_alone: frozenset[str]) -> bool:
    """Whether a module, by its globals, is the program's own."""
    module = names.get("__name__")
    if module == "__main__":
        return True
    file = names.get("__file__")
    if not isinstance(module, str) or not isinstance(file, str) or module in left_alone:
        return False
    parts = file.split(os.sep)
    installed = file.startswith(_LIBRARY) or "site-packages" in parts or "dist-packages" in parts
    return not installed and module.partition(".")[0] != "allcores"


#: where the standard library is
_LIBRARY = os.path.dirname(os.__file__) + os.sep


def _reachable(first: FunctionType, left_alone: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """Names and places of containers and numbers that a function, and those of the program that it calls, refer to."""
    waiting, seen = [first], {first}
    bound = script_globals.bound_in("__main__")
    while waiting:
        function = waiting.pop()
        names = function.__globals__
        code = list(_names(function.__code__))
        script = names.get("__name__") == "__main__"
        places: list[tuple[str, Any]] = [
            (name, (names, name)) for name in code if name in names and not (script and name in bound)
        ]
        for name in code:
            module = names.get(name)
            if isinstance(module, ModuleType) and _is_own(vars(module), left_alone):
                inside = vars(module)
                places += [(f"{name}.{each}", (inside, each)) for each in code if each in inside]
        places += zip(function.__code__.co_freevars, ((cell, None) for cell in function.__closure__ or ()), strict=True)
        for name, where in places:
            value = _value(where)
            if isinstance(value, FunctionType):
                own = value.__globals__ is names or _is_own(value.__globals__, left_alone)
                if value not in seen and own and len(seen) < MOST_FUNCTIONS:
                    seen.add(value)
                    waiting.append(value)
            elif _is_watched(name, value):
                yield name, where


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _names(part)


def _value(where: Any) -> Any:
    holder, name = where
    if isinstance(holder, CellType):
        try:
            return holder.cell_contents
        except ValueError:  # empty
            return None
    return holder.get(name)


def _state(where: Any) -> tuple[Any, int, list[Any]]:
    """What stands there: the object, how much is in it, and what; by methods of built-in types alone."""
    value = _value(where)
    if isinstance(value, dict):
        parts: list[Any] = []
        for key, part in dict.items(value):
            parts += (key, part)
            if len(parts) >= MOST_COMPARED:
                break
        return value, dict.__len__(value), parts
    if isinstance(value, set):
        return value, set.__len__(value), list(set.copy(value)) if set.__len__(value) <= MOST_COMPARED else []
    if isinstance(value, (list, deque)):
        return value, len(value), list(value)[:MOST_COMPARED]
    if _is_array(value):
        try:
            data = memoryview(value).cast("B")
        except (TypeError, ValueError):  # nothing in it, or numbers that a buffer does not describe
            return value, 0, []
        return value, len(data), [zlib.crc32(data[:MOST_BYTES]), zlib.crc32(data[-MOST_BYTES:])]
    return value, 0, []


def _differs(before: tuple[Any, int, list[Any]], after: tuple[Any, int, list[Any]]) -> bool:
    if type(after[0]) in (int, float):
        return bool(before[0] != after[0])
    if _is_array(after[0]):
        return before[1:] != after[1:]
    if before[1] != after[1] or len(before[2]) != len(after[2]):
        return True
    if isinstance(after[0], set):
        return {id(part) for part in before[2]} != {id(part) for part in after[2]}
    return any(old is not new for old, new in zip(before[2], after[2], strict=True))


def _has_only_grown(before: tuple[Any, int, list[Any]], after: tuple[Any, int, list[Any]]) -> bool:
    return before[1] < after[1] and all(old is new for old, new in zip(before[2], after[2], strict=False))
