"""What a function refers to that travels with it: its bytes are made once, and anew when any of that has changed.

    factor = 3
    allcores.map(lambda n: n * factor, numbers)
    factor = 5                    # another cell of a notebook, say
    allcores.map(scaled, numbers)   # the same function, with what it means now

Functions and classes of a script or notebook, lambdas and closures travel by value, with their globals; of what pickle
names only the arguments of partials and the attributes of objects do. Looked at per map and call, in some microseconds
and by methods of built-in types alone: which values stand there, also where there was none; what containers, small
buffers, functions, classes and objects hold; and some of what the containers and objects in them do. What cannot be
looked at has to be pickled to know: large buffers, data frames, and what there is no room for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from itertools import repeat
from operator import is_
from types import CellType, FunctionType, MethodType
from typing import Any

from allcores.pool.function_origins import (
    CLASS_DICT,
    is_named,
    is_of_a_library,
    is_restless,
    names_in,
    travels_by_value,
)
from allcores.pool.held_values import (
    BOUND,
    CALLED,
    FIXED,
    FUNCTION_DICT,
    MOST_BYTES,
    MRO,
    OF_FUNCTION,
    PLAIN,
    elements_of,
    inside_of,
    is_same,
    look_at,
)

#: functions and classes that are looked through
MOST_FUNCTIONS = 100
#: elements of a container that are looked through for functions
MOST_FOLLOWED = 50

#: what stands at a place where nothing does, and where the function itself does
_MISSING, _ITSELF = object(), object()


def state_of(function: Any, *, by_value: bool = True, size: int = 0) -> FunctionState | None:
    """What a function refers to now; None if that cannot be told, or would keep the function itself from being freed.

    Args:
        function: It.
        by_value: Functions and classes travel by value; False: pickle names them all.
        size: Bytes of its pickle: large buffers are in it only if it is large.
    """
    walk = _Walk(function, by_value=by_value)
    state = FunctionState(function, walk)
    is_seen = state.is_all_seen and (state.has_all_bytes or size <= MOST_BYTES)
    return state if is_seen and not walk.has_come_back else None


class FunctionState:
    """What a function refers to, as it was. It does not hold the function, with whose end it is forgotten.

    Args:
        function: It.
        walk: What it reaches.

    Attributes:
        is_all_seen: Nothing was met that cannot be looked at, or is the function.
        has_all_bytes: No buffer was too large to be compared.
        is_whole: Nothing was left out for want of room: what was is pickled to know.
    """

    __slots__ = (
        *("_bare", "_cells", "_functions", "_inside", "_looks", "_made_of", "_names", "_own_cells", "_seen"),
        *("has_all_bytes", "is_all_seen", "is_whole"),
    )

    def __init__(self, function: Any, walk: _Walk) -> None:
        self._names = [
            (names, list(keys), [_marked(dict.get(names, key, _MISSING), function) for key in keys])
            for names, keys in walk.names.values()
        ]
        self._cells = [(cell, _content(cell)) for cell in walk.cells]
        self._own_cells = [_marked(_content(cell), function) for cell in walk.own_cells]
        self._functions = walk.functions
        self._seen = [list(map(read, walk.functions)) for read in OF_FUNCTION]
        self._bare = [each for each in walk.functions if not FUNCTION_DICT(each)]
        attributes = [each for each in walk.functions if FUNCTION_DICT(each)]
        looks = [(value, look_at(value, first=True)) for value in (*walk.values, *attributes)]
        self._looks = [(value, (look.parts, look.facts)) for value, look in looks]
        #: of a function without attributes, which most are, it is quicker to look at it as at others
        self._made_of, self._inside = _made_of(function), None
        found = [look for _, look in looks]
        if self._made_of is None:
            own = look_at(function, first=True)
            self._inside = own.parts, own.facts
            found.append(own)
        self.is_all_seen = not any(look.is_opaque or any(each is function for each in look.parts) for look in found)
        self.has_all_bytes = all(look.has_all_bytes for look in found)
        self.is_whole = walk.is_whole and all(look.is_whole for look in found)

    def is_current(self, function: Any) -> bool:
        """Whether all of it is still so.

        Args:
            function: The same one.
        """
        for names, keys, values in self._names:
            now: Iterable[Any] = map(dict.get, repeat(names), keys, repeat(_MISSING))
            if not all(map(is_, values, now)) and not all(
                value is _marked(dict.get(names, key, _MISSING), function)
                for key, value in zip(keys, values, strict=True)
            ):
                return False
        if not all(_content(cell) is value for cell, value in self._cells):
            return False
        if self._own_cells:
            contents = [_marked(_content(cell), function) for cell in function.__closure__ or ()]
            if len(contents) != len(self._own_cells) or not all(map(is_, self._own_cells, contents)):
                return False
        if self._functions:
            for read, seen in zip(OF_FUNCTION, self._seen, strict=True):
                if not all(map(is_, seen, map(read, self._functions))):
                    return False
            if any(map(FUNCTION_DICT, self._bare)):
                return False
        made_of = _made_of(function)
        if self._made_of is None or made_of is None:
            if self._inside is None or not is_same(self._inside, inside_of(function)):
                return False
        elif not all(map(is_, self._made_of, made_of)):
            return False
        return all(is_same(before, inside_of(value)) for value, before in self._looks)


def _made_of(function: Any) -> list[Any] | None:
    """What a function is made of, if it is one and has no attributes."""
    if type(function) is not FunctionType or FUNCTION_DICT(function):
        return None
    return [read(function) for read in OF_FUNCTION]


def _marked(value: Any, function: Any) -> Any:
    return _ITSELF if value is function else value


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return _MISSING


class _Walk:
    """Through a function, and what it reaches of the program: where it finds what, and what may change in itself.

    Attributes:
        names: Names that code may look up in a module, by the module's dict.
        cells: Of closures; `own_cells` are the function's own.
        functions: Other functions that it reaches.
        values: Other objects, containers and classes.
        has_come_back: What is kept of these would hold the function.
        is_whole: No function or class was left out for want of room.
    """

    def __init__(self, function: Any, *, by_value: bool) -> None:
        self.names: dict[int, tuple[dict[str, Any], dict[str, None]]] = {}
        self.cells: list[CellType] = []
        self.own_cells: list[CellType] = []
        self.functions: list[Any] = []
        self.values: list[Any] = []
        self._function = function
        self._by_value = by_value
        self._reached = {id(function)}
        self._followed = 0
        self.has_come_back = False
        self.is_whole = True
        self._waiting = [function]
        while self._waiting:
            self._through(self._waiting.pop())

    def _through(self, each: Any) -> None:
        kind = type(each)
        if issubclass(kind, functools.partial):
            self._reach_all((each.func, *each.args, each.keywords, *each.keywords.values()))
        elif issubclass(kind, MethodType):
            self._reach_all((each.__self__, each.__func__))
        elif issubclass(kind, FunctionType):
            if self._by_value:
                self._through_function(each)
        elif issubclass(kind, type):
            if self._by_value:
                self._through_class(each)
        elif not is_restless(kind):
            self._reach(kind)
            elements = elements_of(each)
            self._follow(elements[:MOST_FOLLOWED])
            # Classes of objects are no part of that: they change where the program defines them anew.
            left_out = elements[MOST_FOLLOWED:]
            self.is_whole = self.is_whole and not any(issubclass(type(value), CALLED) for value in left_out)

    def _through_function(self, function: Any) -> None:
        names: dict[str, Any] = function.__globals__
        found = dict.fromkeys(names_in(function.__code__))
        self.names.setdefault(id(names), (names, {}))[1].update(found)
        # Where the function stands in a module or in a cell of its own, that is marked, and not kept.
        self._reach_all([value for name in found if (value := dict.get(names, name)) is not self._function])
        cells = function.__closure__ or ()
        is_own = function is self._function
        (self.own_cells if is_own else self.cells).extend(cells)
        self._reach_all([value for value in map(_content, cells) if not (is_own and value is self._function)])
        by_name = function.__kwdefaults__
        self._reach_all((*(function.__defaults__ or ()), by_name, *(by_name or {}).values()))
        self._follow(list(FUNCTION_DICT(function).values()))

    def _through_class(self, kind: Any) -> None:
        for value in list(CLASS_DICT(kind).values()):
            wrapper = type(value)
            if issubclass(wrapper, (staticmethod, classmethod)):
                self._follow((value.__func__,))
            elif wrapper is property:
                self._follow((value.fget, value.fset, value.fdel))
            elif wrapper is functools.cached_property:
                self._follow((value.func,))
            else:
                self._follow((value,))
        self._follow((*MRO(kind)[1:], type(kind)))

    def _follow(self, values: Iterable[Any]) -> None:
        """Go through functions and classes, also those of objects, that are in something which is looked at itself."""
        for value in values:
            kind = type(value)
            if issubclass(kind, CALLED):
                self._reach(value)
            elif kind not in FIXED:
                self._reach(kind)

    def _reach_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self._reach(value)

    def _reach(self, value: Any) -> None:
        """Take something in, and go through it later, once and if there is room."""
        kind = type(value)
        if kind in FIXED or value is _MISSING:
            return
        if id(value) in self._reached:
            self.has_come_back = self.has_come_back or value is self._function
            return
        is_function, is_class = issubclass(kind, FunctionType), issubclass(kind, type)
        if is_function and (not self._by_value or is_of_a_library(value)):
            return
        if is_class and not (self._by_value and travels_by_value(value)):
            return
        if not (is_function or is_class or kind in PLAIN) and is_named(value):
            return
        self._reached.add(id(value))
        if is_function:
            self.functions.append(value)
        elif not issubclass(kind, BOUND):
            self.values.append(value)
        if self._followed < MOST_FUNCTIONS:
            self._followed += is_function or is_class
            self._waiting.append(value)
        else:
            self.is_whole = False
