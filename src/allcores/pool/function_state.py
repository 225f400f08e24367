"""What a function refers to that travels with it: its bytes are made once, and anew when any of that has changed.

    factor = 3
    allcores.map(lambda n: n * factor, numbers)
    factor = 5                    # another cell of a notebook, say
    allcores.map(scaled, numbers)   # the same function, with what it means now

Functions and classes of a script or notebook, lambdas and closures travel by value, with their globals; of what pickle
names only the arguments of partials and the attributes of objects do. Looked at per map and call, in some microseconds
and by methods of built-in types alone: which values stand there, also where there was none; what containers, small
buffers, functions, classes and objects hold; and some of what the containers and objects in them do.
"""

from __future__ import annotations

import functools
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice, repeat
from operator import is_
from types import BuiltinFunctionType, CellType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

from allcores.pool.function_origins import is_of_a_library, is_restless, names_in, travels_by_value

#: of larger containers the first so many elements are compared, and the length
MOST_COMPARED = 1_000
#: of the containers and objects in them so many elements in all. More takes longer in each call of `submit`.
MOST_NESTED = 100
MOST_DEPTH = 5
#: functions and classes that are looked through
MOST_FUNCTIONS = 100
#: elements of a container that are looked through for functions
MOST_FOLLOWED = 50
#: buffers of more bytes travel apart, and with each map: smaller ones are compared
MOST_BYTES = 64 * 1024

#: what stands at a place where nothing does, and where the function itself does
_MISSING, _ITSELF = object(), object()
#: values that never change, nor what is in them
_FIXED = frozenset({int, float, complex, str, bytes, bool, type(None), range, BuiltinFunctionType, ModuleType})
_SEQUENCES = (list, tuple, deque)
_SETS = (set, frozenset)
_BOUND = (functools.partial, MethodType)
_CALLED = (FunctionType, type, *_BOUND)
#: made by Python in classes that are used
_NOTED = frozenset(
    {"__slotnames__", "__annotations__", "__annotations_cache__", "__dict__", "__weakref__", "_abc_impl"}
)
# What these say of a function or class, whatever code of the program would.
_CLASS_DICT: Callable[[Any], Any] = type.__dict__["__dict__"].__get__
_MRO: Callable[[Any], Any] = type.__dict__["__mro__"].__get__
_OF_FUNCTION: tuple[Callable[[Any], Any], ...] = tuple(
    vars(FunctionType)[name].__get__ for name in ("__code__", "__defaults__", "__kwdefaults__")
)
_FUNCTION_DICT: Callable[[Any], Any] = vars(FunctionType)["__dict__"].__get__

#: what is compared by identity (equality is foreign code), and numbers and bytes
Inside = tuple[list[Any], list[Any]]


class FunctionState:
    """What a function refers to, as it was. It does not hold the function, with whose end it is forgotten.

    Args:
        function: It.
        by_value: Functions and classes travel by value; False: pickle names them all.
    """

    __slots__ = ("_bare", "_cells", "_functions", "_inside", "_looks", "_made_of", "_names", "_own_cells", "_seen")

    def __init__(self, function: Any, *, by_value: bool = True) -> None:
        walk = _Walk(function, by_value=by_value)
        self._names = [
            (names, list(keys), [_marked(dict.get(names, key, _MISSING), function) for key in keys])
            for names, keys in walk.names.values()
        ]
        self._cells = [(cell, _content(cell)) for cell in walk.cells]
        self._own_cells = [_marked(_content(cell), function) for cell in walk.own_cells]
        self._functions = walk.functions
        self._seen = [list(map(read, walk.functions)) for read in _OF_FUNCTION]
        self._bare = [each for each in walk.functions if not _FUNCTION_DICT(each)]
        attributes = [each for each in walk.functions if _FUNCTION_DICT(each)]
        self._looks = [(value, _inside(value)) for value in (*walk.values, *attributes)]
        #: of a function without attributes, which most are, it is quicker to look at it as at others
        self._made_of = _made_of(function)
        self._inside = None if self._made_of is not None else _inside(function)

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
            for read, seen in zip(_OF_FUNCTION, self._seen, strict=True):
                if not all(map(is_, seen, map(read, self._functions))):
                    return False
            if any(map(_FUNCTION_DICT, self._bare)):
                return False
        made_of = _made_of(function)
        if self._made_of is None or made_of is None:
            if self._inside is None or not _is_same(self._inside, _inside(function)):
                return False
        elif not all(map(is_, self._made_of, made_of)):
            return False
        return all(_is_same(before, _inside(value)) for value, before in self._looks)


def _made_of(function: Any) -> list[Any] | None:
    """What a function is made of, if it is one and has no attributes."""
    if type(function) is not FunctionType or _FUNCTION_DICT(function):
        return None
    return [read(function) for read in _OF_FUNCTION]


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
        self._waiting = [function]
        while self._waiting:
            self._through(self._waiting.pop())

    def _through(self, each: Any) -> None:
        kind = type(each)
        if issubclass(kind, functools.partial):
            self._reach_all((each.func, *each.args, *each.keywords.values()))
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
            self._follow(islice(_elements(each), MOST_FOLLOWED))

    def _through_function(self, function: Any) -> None:
        names: dict[str, Any] = function.__globals__
        found = dict.fromkeys(names_in(function.__code__))
        self.names.setdefault(id(names), (names, {}))[1].update(found)
        self._reach_all([dict.get(names, name) for name in found])
        cells = function.__closure__ or ()
        (self.own_cells if function is self._function else self.cells).extend(cells)
        self._reach_all(map(_content, cells))
        self._reach_all((*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()))
        self._follow(list(_FUNCTION_DICT(function).values()))

    def _through_class(self, kind: Any) -> None:
        for value in list(_CLASS_DICT(kind).values()):
            wrapper = type(value)
            if issubclass(wrapper, (staticmethod, classmethod)):
                self._follow((value.__func__,))
            elif wrapper is property:
                self._follow((value.fget, value.fset, value.fdel))
            elif wrapper is functools.cached_property:
                self._follow((value.func,))
            else:
                self._follow((value,))
        self._follow((*_MRO(kind)[1:], type(kind)))

    def _follow(self, values: Iterable[Any]) -> None:
        """Go through functions and classes, also those of objects, that are in something which is looked at itself."""
        for value in values:
            kind = type(value)
            if issubclass(kind, _CALLED):
                self._reach(value)
            elif kind not in _FIXED:
                self._reach(kind)

    def _reach_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self._reach(value)

    def _reach(self, value: Any) -> None:
        """Take something in, and go through it later, once and if there is room."""
        kind = type(value)
        if kind in _FIXED or value is _MISSING or id(value) in self._reached:
            return
        is_function, is_class = issubclass(kind, FunctionType), issubclass(kind, type)
        if is_function and (not self._by_value or is_of_a_library(value)):
            return
        if is_class and not (self._by_value and travels_by_value(value)):
            return
        self._reached.add(id(value))
        if is_function:
            self.functions.append(value)
        elif not issubclass(kind, _BOUND):
            self.values.append(value)
        if self._followed < MOST_FUNCTIONS:
            self._followed += is_function or is_class
            self._waiting.append(value)


# --- what is in a value ---------------------------------------------------------------------------


def _elements(value: Any) -> list[Any]:
    """What is in a container, or in an object."""
    kind = type(value)
    if issubclass(kind, dict):
        return list(islice(dict.values(value), MOST_COMPARED))
    for base in (*_SEQUENCES, *_SETS):
        if issubclass(kind, base):
            return list(islice(base.__iter__(value), MOST_COMPARED))
    return _attributes(value, MOST_COMPARED)


def _attributes(value: Any, room: int) -> list[Any]:
    """Names and values of an object's attributes; those in slots by their descriptors."""
    found: list[Any] = []
    attributes = _dict_of(value)
    if attributes is not None:
        found += (*islice(attributes.keys(), room), *islice(attributes.values(), room))
    for base in _MRO(type(value)):
        if "__slots__" in _CLASS_DICT(base):
            for slot in list(_CLASS_DICT(base).values()):
                if type(slot) is MemberDescriptorType:
                    try:
                        found += (slot, slot.__get__(value))
                    except AttributeError:
                        found.append(slot)
    return found


def _dict_of(value: Any) -> dict[str, Any] | None:
    try:
        found = object.__getattribute__(value, "__dict__")
    except Exception:
        return None
    return found if type(found) is dict else None


def _inside(value: Any) -> Inside:
    """What may change in a value while it stays the same."""
    found = _Look()
    found.into(value, MOST_COMPARED, 0)
    return found.parts, found.facts


class _Look:
    """See `_inside`."""

    __slots__ = ("_bytes_left", "_left", "facts", "parts")

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.facts: list[Any] = []
        self._left = MOST_NESTED
        self._bytes_left = MOST_BYTES

    def into(self, value: Any, room: int, depth: int) -> None:
        """Take in what a value holds, so many elements of it."""
        kind = type(value)
        parts: list[Any] = []
        names: list[Any] = []
        if issubclass(kind, dict):
            names, parts = list(islice(dict.keys(value), room)), list(islice(dict.values(value), room))
            self.facts.append(dict.__len__(value))
        elif issubclass(kind, _SEQUENCES):
            base: Any = next(base for base in _SEQUENCES if issubclass(kind, base))
            parts = list(islice(base.__iter__(value), room))
            self.facts.append(base.__len__(value))
        elif issubclass(kind, _SETS):
            base = set if issubclass(kind, set) else frozenset
            self.facts += (base.__len__(value), _Unordered(islice(base.__iter__(value), room)))
        elif issubclass(kind, FunctionType):
            attributes = _FUNCTION_DICT(value)
            parts = [*[read(value) for read in _OF_FUNCTION], *attributes.keys(), *attributes.values()]
        elif issubclass(kind, type):
            parts = [each for pair in list(_CLASS_DICT(value).items()) if pair[0] not in _NOTED for each in pair]
        elif not is_restless(kind) and not self._into_buffer(value, kind):
            parts = _attributes(value, room)
        self.parts += names
        self.parts += parts
        if len(parts) > MOST_NESTED:
            del parts[MOST_NESTED:]
        if depth < MOST_DEPTH and not _FIXED.issuperset(map(type, parts)):
            self._into_all(parts, depth + 1)

    def _into_all(self, parts: list[Any], depth: int) -> None:
        """The containers and objects among these, as far as there is room."""
        for part in parts:
            if self._left <= 0:
                return
            kind = type(part)
            if kind not in _FIXED and not issubclass(kind, _CALLED):
                before = len(self.parts)
                self.into(part, self._left, depth)
                self._left -= 1 + len(self.parts) - before

    def _into_buffer(self, value: Any, kind: Any) -> bool:
        """Take in the bytes of what is a row of them, if they are few; False if it is none."""
        numpy: Any = sys.modules.get("numpy")
        array_of_numpy = getattr(numpy, "ndarray", None)
        if isinstance(array_of_numpy, type) and issubclass(kind, array_of_numpy):
            plain: Any = array_of_numpy
            self._into_bytes(plain.nbytes.__get__(value), plain.tobytes, value)
            return True
        if kind is not bytearray and kind is not array and _dict_of(value) is not None:
            return False
        try:
            with memoryview(value) as view:
                self._into_bytes(view.nbytes, bytes, view)
        except (TypeError, ValueError, BufferError):
            return False
        return True

    def _into_bytes(self, size: int, read: Callable[[Any], bytes], value: Any) -> None:
        self._bytes_left -= size
        self.facts.append(size if self._bytes_left < 0 else read(value))


class _Unordered:
    """Objects, equal to the same ones in any order. They are held, so that no other has the number of one of them."""

    __slots__ = ("_by_number",)

    def __init__(self, objects: Iterable[Any]) -> None:
        self._by_number = {id(each): each for each in objects}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unordered) and self._by_number.keys() == other._by_number.keys()

    __hash__ = None  # type: ignore[assignment]


def _is_same(before: Inside, after: Inside) -> bool:
    return len(before[0]) == len(after[0]) and all(map(is_, before[0], after[0])) and before[1] == after[1]
