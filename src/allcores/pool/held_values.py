"""What may change in a value while it stays the same: what it holds, looked at by methods of built-in types alone."""

from __future__ import annotations

import functools
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from operator import is_
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

from allcores.pool.function_origins import CLASS_DICT, is_named, is_of_a_library, is_restless
from allcores.pool.opaque_kinds import is_opaque

#: of larger containers the first so many elements are compared, and the length
MOST_COMPARED = 1_000
#: of the containers and objects in them so many elements in all. More takes longer in each call of `submit`.
MOST_NESTED = 100
MOST_DEPTH = 5
#: buffers of more bytes are not compared
MOST_BYTES = 64 * 1024

#: values that never change, nor what is in them
FIXED = frozenset({int, float, complex, str, bytes, bool, type(None), range, BuiltinFunctionType, ModuleType})
_SEQUENCES = (list, tuple, deque)
_SETS = (set, frozenset)
#: containers by what they hold; those of these very classes have nothing else
_HOLDING = (dict, *_SEQUENCES, *_SETS)
PLAIN = frozenset(_HOLDING)
#: what is called with something that it holds; what is a function or class, or has one
BOUND = (functools.partial, MethodType)
CALLED = (FunctionType, type, *BOUND)
#: made by Python in classes that are used, in data classes, and in enumerations, whose members are there besides
_NOTED = frozenset(
    {
        *("__slotnames__", "__annotations__", "__annotations_cache__", "__dict__", "__weakref__", "_abc_impl"),
        *("__dataclass_fields__", "__dataclass_params__"),
        *("_member_names_", "_member_map_", "_value2member_map_", "_hashable_values_", "_unhashable_values_"),
        "_unhashable_values_map_",
    }
)
# What these say of a function or class, whatever code of the program would.
MRO: Callable[[Any], Any] = type.__dict__["__mro__"].__get__
OF_FUNCTION: tuple[Callable[[Any], Any], ...] = tuple(
    vars(FunctionType)[name].__get__ for name in ("__code__", "__defaults__", "__kwdefaults__")
)
FUNCTION_DICT: Callable[[Any], Any] = vars(FunctionType)["__dict__"].__get__

#: what is compared by identity (equality is foreign code), and numbers and bytes
Inside = tuple[list[Any], list[Any]]


def elements_of(value: Any) -> list[Any]:
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
    for base in MRO(type(value)):
        if "__slots__" in CLASS_DICT(base):
            for slot in list(CLASS_DICT(base).values()):
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


def inside_of(value: Any) -> Inside:
    """What may change in a value while it stays the same."""
    found = look_at(value)
    return found.parts, found.facts


def look_at(value: Any, *, first: bool = False) -> Look:
    """Look at a value, as far as there is room. See `Look`."""
    found = Look(first)
    found.into(value, MOST_COMPARED, 0)
    return found


class Look:
    """One look at a value: the parts and facts that may change while it stays the same.

    Args:
        first: Nothing was seen of it before: what is opaque is to be noticed.
    """

    __slots__ = ("_bytes_left", "_first", "_left", "facts", "is_opaque", "is_whole", "parts")

    def __init__(self, first: bool) -> None:
        self.parts: list[Any] = []
        self.facts: list[Any] = []
        #: something was met that cannot be looked at
        self.is_opaque = False
        #: nothing was left out for want of room
        self.is_whole = True
        self._first = first
        self._left = MOST_NESTED
        self._bytes_left = MOST_BYTES

    @property
    def has_all_bytes(self) -> bool:
        """No buffer was too large to be compared."""
        return self._bytes_left >= 0

    def into(self, value: Any, room: int, depth: int) -> None:
        """Take in what a value holds, so many elements of it."""
        kind = type(value)
        parts: list[Any] = []
        names: list[Any] = []
        if issubclass(kind, dict):
            names, parts = list(islice(dict.keys(value), room)), list(islice(dict.values(value), room))
            self._note_length(dict.__len__(value), room)
        elif issubclass(kind, _SEQUENCES):
            base: Any = next(base for base in _SEQUENCES if issubclass(kind, base))
            parts = list(islice(base.__iter__(value), room))
            self._note_length(base.__len__(value), room)
        elif issubclass(kind, _SETS):
            base = set if issubclass(kind, set) else frozenset
            self._note_length(base.__len__(value), room)
            self.facts.append(_Unordered(islice(base.__iter__(value), room)))
        elif issubclass(kind, FunctionType):
            attributes = FUNCTION_DICT(value)
            parts = [*[read(value) for read in OF_FUNCTION], *attributes.keys(), *attributes.values()]
        elif issubclass(kind, type):
            parts = [each for pair in list(CLASS_DICT(value).items()) if pair[0] not in _NOTED for each in pair]
        elif is_restless(kind):
            return
        elif not self._into_buffer(value, kind):
            parts = self._attributes(value, room)
        if self._first and not self.is_opaque and kind not in PLAIN:
            self.is_opaque = not issubclass(kind, CALLED) and is_opaque(kind) and not is_named(value)
        if issubclass(kind, _HOLDING) and kind not in PLAIN:
            parts += self._attributes(value, room)
        self.parts += names
        self.parts += parts
        if self._first and depth and any(map(_is_called, parts)):
            # What these refer to in their turn is looked at where they stand in a container itself.
            self.is_whole = False
        if len(parts) > MOST_NESTED:
            self.is_whole = self.is_whole and not any(map(_may_hold, parts[MOST_NESTED:]))
            del parts[MOST_NESTED:]
        if not FIXED.issuperset(map(type, parts)):
            if depth < MOST_DEPTH:
                self._into_all(parts, depth + 1)
            else:
                self.is_whole = self.is_whole and not any(map(_may_hold, parts))

    def _note_length(self, length: int, room: int) -> None:
        self.facts.append(length)
        self.is_whole = self.is_whole and length <= room

    def _attributes(self, value: Any, room: int) -> list[Any]:
        attributes = _dict_of(value)
        self.is_whole = self.is_whole and (attributes is None or len(attributes) <= room)
        return _attributes(value, room)

    def _into_all(self, parts: list[Any], depth: int) -> None:
        """The containers and objects among these, as far as there is room."""
        for part in parts:
            if _may_hold(part):
                if self._left <= 0:
                    self.is_whole = False
                    return
                before = len(self.parts)
                self.into(part, self._left, depth)
                self._left -= 1 + len(self.parts) - before

    def _into_buffer(self, value: Any, kind: Any) -> bool:
        """Take in the bytes of what is a row of them, if they are few; False if it is none."""
        numpy: Any = sys.modules.get("numpy")
        array_of_numpy = getattr(numpy, "ndarray", None)
        if isinstance(array_of_numpy, type) and issubclass(kind, array_of_numpy):
            plain: Any = array_of_numpy
            dtype = plain.dtype.__get__(value)
            self.facts += (plain.shape.__get__(value), dtype)
            self.is_opaque = self.is_opaque or dtype.hasobject
            self._into_bytes(plain.nbytes.__get__(value), plain.tobytes, value)
            if kind is not array_of_numpy:
                attributes = self._attributes(value, MOST_NESTED)
                self.parts += attributes
                self._into_all(attributes, 1)
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


def _may_hold(part: Any) -> bool:
    """Whether it is a container or an object, which may hold what changes."""
    kind = type(part)
    return kind not in FIXED and not issubclass(kind, CALLED)


def _is_called(part: Any) -> bool:
    """Whether it is a function of the program, or is bound to something, and refers to more than its name says."""
    kind = type(part)
    return issubclass(kind, BOUND) or (issubclass(kind, FunctionType) and not is_of_a_library(part))


class _Unordered:
    """Objects, equal to the same ones in any order. They are held, so that no other has the number of one of them."""

    __slots__ = ("_by_number",)

    def __init__(self, objects: Iterable[Any]) -> None:
        self._by_number = {id(each): each for each in objects}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unordered) and self._by_number.keys() == other._by_number.keys()

    __hash__ = None  # type: ignore[assignment]


def is_same(before: Inside, after: Inside) -> bool:
    """Whether nothing has changed."""
    return len(before[0]) == len(after[0]) and all(map(is_, before[0], after[0])) and before[1] == after[1]
