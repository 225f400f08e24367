"""Notices a function of a program that fills or counts in a global: here it does so in a copy, for nobody.

    totals = []
    def work(item):
        totals.append(item * 2)         # of this process
    allcores.map(work, items)           # totals of the program stays empty

Functions of the script, and of modules of the program's own: not of the standard library or of what is installed.
Looked at after the first chunks of a function in a worker, and after some of the later ones: lists, sets, dicts, deques
and numbers that its code names, that its closure holds, or that classes and objects of the program's have as attributes
are compared by identity with what they were. Attributes may be what a call works with, and not what it leaves: where
the function returns values, they count only once they have grown, or risen, several times in a row.

What a setup function has bound is this process's by intention, and in an imported module all of the module that setup
or teardown is of. So is a cache: a plain dict that only grows while the function returns values, and whatever has
"cache" or "memo" in its name. Of a bytearray and of arrays (of `array`, and NumPy's in memory of this process alone)
the bytes are compared, at both ends of large ones, and only while the function returns nothing: else it may compute in
them.
"""

from __future__ import annotations

import functools
import os
import sys
import zlib
from collections import deque
from types import CellType, CodeType, FunctionType, MethodType, ModuleType

from allcores.transport import script_globals
from allcores.transport.numpy_arrays import is_numpy_array
from allcores.transport.reduction import Reduction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: of larger containers the first so many elements are compared, and the length
MOST_COMPARED = 1_000
#: of the bytes of an array so many at its beginning and at its end
MOST_BYTES = 32 << 10
#: attributes of functions that return values are told of once they have grown, or risen, after so many chunks in a row
RISES = 4
#: functions that the function calls, of its own script, are looked through: so many
MOST_FUNCTIONS = 100
#: classes and objects of the program's that are looked at
MOST_OWNERS = 20

_CONTAINERS = (list, set, dict, deque)
_CACHES = ("cache", "memo")
_MAKING = ("__init__", "__new__", "__post_init__")


class Watch:
    """What a function could change, as it was."""

    def __init__(
        self, name: str, held: list[tuple[str, Any]], attributes: list[tuple[str, Any]], codes: list[CodeType]
    ) -> None:
        #: the function's
        self.name = name
        self._held = held + attributes
        #: of the functions that may set attributes
        self._codes = codes
        self._before = [_state(where) for _, where in self._held]
        #: of attributes, by their place in `_held`: what they were last, and how often in a row they had grown
        self._rises = {place: (self._before[place], 0) for place in range(len(held), len(self._held))}

    def changed(self, *, returned: bool) -> list[str]:
        """Names of what is not as it was.

        Args:
            returned: The function gave back values other than None.
        """
        found = []
        for place, ((name, where), before) in enumerate(zip(self._held, self._before, strict=True)):
            after = _state(where)
            grows = place not in self._rises or self._grows(place, after)
            if type(before[0]) is not type(after[0]) or not _differs(before, after):
                continue
            if returned and (
                not grows or _is_array(after[0]) or (type(after[0]) is dict and _has_only_grown(before, after))
            ):
                continue
            found.append(name)
        return found

    def _grows(self, place: int, after: tuple[Any, int, list[Any]]) -> bool:
        last, times = self._rises[place]
        times = times + 1 if _accumulates(last, after) else 0
        self._rises[place] = after, times
        if times < RISES:
            return False
        # A number that is also set, and not added to alone, is where a call is, and not what calls have come to.
        attribute = self._held[place][1][1]
        return type(after[0]) not in (int, float) or not any(sets_attribute(code, attribute) for code in self._codes)


def watch(function: Any, left_alone: frozenset[str] = frozenset()) -> Watch | None:
    """What is to be watched of a function that a worker has got; None if there is nothing.

    Args:
        function: As it is called.
        left_alone: Imported modules in which it may change what it likes.
    """
    first = _plain(function)
    if first is None or not _is_own(first.__globals__, left_alone):
        return None
    walk = _Walk(left_alone)
    instance = _instance_of(function)
    if instance is not None:
        walk.add_owner("self", instance)
    walk.through(first)
    held, attributes = list(walk.globals.values()), list(walk.attributes())
    return Watch(first.__qualname__, held, attributes, walk.codes()) if held or attributes else None


def _plain(function: Any) -> FunctionType | None:
    """The function itself, whatever it is wrapped in."""
    for _ in range(10):
        if type(function) is FunctionType:
            inside = function.__dict__.get("__wrapped__")
            if inside is None or _is_own(function.__globals__, frozenset()):
                return function
            function = inside
            continue
        if _is_a(function, functools.partial):
            function = function.func
        elif _is_a(function, MethodType):
            function = function.__func__
        elif _is_a(function, Reduction):
            function = function.fn
        else:
            # Wrappers of `functools`, and of ours that make rows or texts of a function's values.
            function = getattr(function, "__wrapped__", None) or getattr(function, "function", None)
    return None


def _instance_of(function: Any) -> Any:
    """The object of a bound method, of which a worker has a copy."""
    for _ in range(10):
        if _is_a(function, MethodType):
            return function.__self__
        if _is_a(function, functools.partial):
            function = function.func
        elif _is_a(function, Reduction):
            function = function.fn
        else:
            break
    return None


def _is_watched(name: str, value: Any) -> bool:
    """A container or a number, and no cache by its name."""
    kept = type(value) in (int, float) or _is_a(value, _CONTAINERS) or _is_array(value)
    return kept and not any(word in name.lower() for word in _CACHES)


def _is_array(value: Any) -> bool:
    """A row of plain numbers in memory of its own."""
    kind = type(value)
    if type(kind) is not type:  # whose attributes may be code of the program
        return False
    if kind is bytearray or (kind.__module__, kind.__name__) == ("array", "array"):
        return True
    if not is_numpy_array(value):
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
    return ctypes is not None and _is_a(memory, ctypes.Array) and memory._objects is None and not memory._b_needsfree_


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


class _Walk:
    """Through a function, and those of the program that it calls: what they refer to."""

    def __init__(self, left_alone: frozenset[str]) -> None:
        self._left_alone = left_alone
        self._seen: set[FunctionType] = set()
        self._waiting: list[FunctionType] = []
        #: names and places of containers and numbers, by their place
        self.globals: dict[tuple[int, Any], tuple[str, Any]] = {}
        #: classes, and objects of classes, of the program's own, by what they are called
        self._owners: dict[int, tuple[str, Any]] = {}
        #: what the code of all functions names
        self._named: dict[str, None] = {}

    def add_owner(self, name: str, value: Any) -> None:
        """Take in a class or an object, if it is of the program's own."""
        kind = value if _is_a(value, type) else type(value)
        for each in _MRO(kind):
            if self._is_own_class(each):
                self._owners.setdefault(id(each), (_NAME(each), each))
        if kind is not value and id(kind) in self._owners and type(_inside(value)) is dict:
            self._owners.setdefault(id(value), (name, value))

    def _is_own_class(self, kind: type) -> bool:
        module = _inside(kind).get("__module__")
        if module == "__main__":
            return True
        found = sys.modules.get(module) if _is_a(module, str) else None
        return found is not None and _is_own(vars(found), self._left_alone)

    def through(self, first: FunctionType) -> None:
        """Walk."""
        self._add(first)
        bound = script_globals.bound_in("__main__")
        while self._waiting:
            function = self._waiting.pop()
            code = list(_names(function.__code__))
            self._named.update(dict.fromkeys(code))
            for name, where in self._places(function, code, bound):
                value = _value(where)
                if _is_a(value, FunctionType):
                    if value.__globals__ is function.__globals__ or _is_own(value.__globals__, self._left_alone):
                        self._add(value)
                elif _is_watched(name, value):
                    self.globals.setdefault((id(where[0]), where[1]), (name, where))
                elif len(self._owners) < MOST_OWNERS:
                    self.add_owner(name, value)
            for _, owner in self._owners.values():
                if _is_a(owner, type):
                    self._add_methods(owner, {*code})

    def _add(self, function: FunctionType) -> None:
        if function not in self._seen and len(self._seen) < MOST_FUNCTIONS:
            self._seen.add(function)
            self._waiting.append(function)

    def _add_methods(self, owner: type, code: set[str]) -> None:
        """Those that the code names, and those that are called by no name: `__init__`, `__call__` ..."""
        for name, method in list(_inside(owner).items()):
            if name not in code and not name.startswith("__"):
                continue
            if _is_a(method, (staticmethod, classmethod)):
                method = method.__func__
            elif _is_a(method, property):
                method = method.fget
            if _is_a(method, FunctionType):
                self._add(method)

    def _places(self, function: FunctionType, code: list[str], bound: frozenset[str]) -> list[tuple[str, Any]]:
        names = function.__globals__
        script = names.get("__name__") == "__main__"
        places: list[tuple[str, Any]] = [
            (name, (names, name)) for name in code if name in names and not (script and name in bound)
        ]
        for name in code:
            module = names.get(name)
            if _is_a(module, ModuleType) and _is_own(vars(module), self._left_alone):
                inside = vars(module)
                places += [(f"{name}.{each}", (inside, each)) for each in code if each in inside]
        places += zip(function.__code__.co_freevars, ((cell, None) for cell in function.__closure__ or ()), strict=True)
        return places

    def codes(self) -> list[CodeType]:
        """Of the functions, but for those that make an object."""
        return [function.__code__ for function in self._seen if function.__name__ not in _MAKING]

    def attributes(self) -> Iterator[tuple[str, Any]]:
        """Names and places of containers and numbers that are attributes of the program's classes and objects."""
        for name, owner in self._owners.values():
            inside = _inside(owner)
            bound = script_globals.attributes_bound_in(owner) if _is_a(owner, type) else ()
            for each in self._named:
                if each in inside and each not in bound and _is_watched(each, inside[each]):
                    yield f"{name}.{each}", (inside, each)


def _is_a(value: Any, kinds: Any) -> bool:
    """As `isinstance`, but for what an object says of itself: that is code of the program."""
    return issubclass(type(value), kinds)


def _inside(owner: Any) -> Any:
    """The attributes of a class, or an object, as they are."""
    if _is_a(owner, type):
        return _CLASS_DICT(owner)
    try:
        return object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return None


#: what `type` itself says of a class, whatever its metaclass would
_CLASS_DICT = type.__dict__["__dict__"].__get__
_MRO = type.__dict__["__mro__"].__get__
_NAME = type.__dict__["__name__"].__get__


def sets_attribute(code: CodeType, attribute: str) -> bool:
    """Whether code sets an attribute of this name to anything, and not only to what it was and something more."""
    import opcode

    store, swap = opcode.opmap["STORE_ATTR"], opcode.opmap["SWAP"]
    before = argument = 0
    for place in range(0, len(code.co_code), 2):
        operation = code.co_code[place]
        if operation == opcode.opmap["CACHE"]:
            continue
        argument = argument << 8 | code.co_code[place + 1]
        if operation == opcode.EXTENDED_ARG:
            continue
        # `a.n += 1` has a to be used twice, and changes places with what comes of it before it is set.
        if operation == store and before != swap and code.co_names[argument] == attribute:
            return True
        before, argument = operation, 0
    return any(sets_attribute(part, attribute) for part in code.co_consts if _is_a(part, CodeType))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if _is_a(part, CodeType):
            yield from _names(part)


def _value(where: Any) -> Any:
    holder, name = where
    if _is_a(holder, CellType):
        try:
            return holder.cell_contents
        except ValueError:  # empty
            return None
    return holder.get(name)


def _state(where: Any) -> tuple[Any, int, list[Any]]:
    """What stands there: the object, how much is in it, and what; by methods of built-in types alone."""
    value = _value(where)
    if _is_a(value, dict):
        parts: list[Any] = []
        for key, part in dict.items(value):
            parts += (key, part)
            if len(parts) >= MOST_COMPARED:
                break
        return value, dict.__len__(value), parts
    if _is_a(value, set):
        return value, set.__len__(value), list(set.copy(value)) if set.__len__(value) <= MOST_COMPARED else []
    if _is_a(value, (list, deque)):
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


def _accumulates(before: tuple[Any, int, list[Any]], after: tuple[Any, int, list[Any]]) -> bool:
    """Whether it is the same with more in it, or a number that has risen."""
    value = after[0]
    if type(before[0]) is not type(value):
        return False
    if type(value) in (int, float):
        return bool(before[0] < value)
    if before[0] is not value or before[1] > after[1]:
        return False
    if _is_a(value, dict):  # a plain one may be a cache, or what a call works with
        return type(value) is not dict and (before[1] < after[1] or _have_risen(before[2], after[2]))
    if _is_a(value, set):
        return before[1] < after[1]
    return before[1] < after[1] and all(old is new for old, new in zip(before[2], after[2], strict=False))


def _have_risen(before: list[Any], after: list[Any]) -> bool:
    """Whether nothing else has changed but numbers, which have risen."""
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old is not new]
    return bool(changed) and all(
        type(old) is type(new) and type(new) in (int, float) and old < new for old, new in changed
    )


def _has_only_grown(before: tuple[Any, int, list[Any]], after: tuple[Any, int, list[Any]]) -> bool:
    return before[1] < after[1] and all(old is new for old, new in zip(before[2], after[2], strict=False))
