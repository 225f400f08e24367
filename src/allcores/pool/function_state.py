"""What a function refers to that travels with it: its bytes are made once, and anew when any of that has changed.

    factor = 3
    allcores.map(lambda n: n * factor, numbers)
    factor = 5                    # another cell of a notebook, say
    allcores.map(scaled, numbers)   # the same function, with what it means now

Functions of a script or notebook, lambdas and closures travel by value, with their globals. Looked at per map and call,
in some microseconds and by methods of built-in types alone: which values stand there, and what containers, small
buffers and objects hold at their top level.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from operator import is_
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

#: of larger containers the first so many elements are compared, and the length
MOST_COMPARED = 1_000
#: functions that are looked through
MOST_FUNCTIONS = 100
#: buffers of more bytes travel apart, and with each map: smaller ones are compared
MOST_BYTES = 64 * 1024


class FunctionState:
    """What a function refers to, as it was.

    Args:
        function: It.
    """

    __slots__ = ("_held", "_seen")

    def __init__(self, function: Any) -> None:
        self._held = list(_places(function))
        self._seen = [
            (value, look, look(value) if look is not None else None)
            for value in [_value(*each) for each in self._held]
            for look in [_look_of(value)]
        ]

    def is_current(self) -> bool:
        """Whether all of it is still so."""
        for (holder, name), (value, look, inside) in zip(self._held, self._seen, strict=True):
            if _value(holder, name) is not value or (look is not None and not _is_same(inside, look(value))):
                return False
        return True


def _places(function: Any) -> Iterator[tuple[Any, Any]]:
    """Where it finds what: names in dicts, cells, and itself for what it is made of."""
    waiting, seen = [function], {id(function)}
    while waiting:
        each = waiting.pop()
        found: list[tuple[Any, Any]] = []
        if isinstance(each, functools.partial):
            found = [((part,), 0) for part in (each.func, *each.args, *each.keywords.values())]
        elif isinstance(each, MethodType):
            found = [((each.__self__,), 0), ((each.__func__,), 0)]
        elif isinstance(each, FunctionType):
            names = each.__globals__
            found = [(names, name) for name in set(_names(each.__code__)) if name in names]
            found += [(cell, None) for cell in each.__closure__ or ()]
            found += [((value,), 0) for value in (*(each.__defaults__ or ()), *(each.__kwdefaults__ or {}).values())]
            if "__wrapped__" in each.__dict__:
                found.append((each.__dict__, "__wrapped__"))
        elif not isinstance(each, (type, BuiltinFunctionType, ModuleType)):
            found = [((each,), 0)]
        for holder, name in found:
            yield holder, name
            value = _value(holder, name)
            follows = issubclass(type(value), (FunctionType, functools.partial, MethodType)) and id(value) not in seen
            if follows and len(seen) < MOST_FUNCTIONS:
                seen.add(id(value))
                waiting.append(value)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _names(part)


def _value(holder: Any, name: Any) -> Any:
    if isinstance(holder, CellType):
        try:
            return holder.cell_contents
        except ValueError:  # empty
            return None
    return holder[0] if isinstance(holder, tuple) else dict.get(holder, name)


def _look_of(value: Any) -> Callable[[Any], Any] | None:
    """How to see what may change in a value while it stays the same; None if nothing may, or nothing is looked at."""
    kind = type(value)
    # By its type: to `isinstance` a proxy is what it stands for, which it may not find here.
    if kind in _FIXED or issubclass(kind, (FunctionType, ModuleType, type)):
        return None
    for base, look in _LOOKS:
        if issubclass(kind, base):
            return look
    try:
        with memoryview(value) as view:
            return bytes if view.nbytes <= MOST_BYTES else None
    except (TypeError, ValueError, BufferError):
        pass
    try:
        return _attributes if type(object.__getattribute__(value, "__dict__")) is dict else None
    except Exception:
        return None


#: values that never change
_FIXED = {int, float, complex, str, bytes, bool, type(None), tuple, frozenset}


def _of_dict(value: Any) -> list[Any]:
    return [*islice(dict.keys(value), MOST_COMPARED), *islice(dict.values(value), MOST_COMPARED), dict.__len__(value)]


def _of_list(value: Any) -> list[Any]:
    return [*islice(iter(value), MOST_COMPARED), len(value)]


def _attributes(value: Any) -> list[Any]:
    return _of_dict(object.__getattribute__(value, "__dict__"))


def _of_set(value: Any) -> bytes:
    return repr((set.__len__(value), sorted(map(id, islice(set.__iter__(value), MOST_COMPARED))))).encode()


_LOOKS: list[tuple[type, Callable[[Any], Any]]] = [
    (dict, _of_dict),
    (list, _of_list),
    (deque, _of_list),
    (set, _of_set),
]


def _is_same(before: Any, after: Any) -> bool:
    """By identity: equality is foreign code. Lengths stand last."""
    if isinstance(before, bytes):
        return bool(before == after)
    return len(before) == len(after) and before[-1] == after[-1] and all(map(is_, before[:-1], after[:-1]))
