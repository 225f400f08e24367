"""What a function of a program could change: containers and numbers that it, and those that it calls, refer to.

Globals that code names, what a closure holds, and attributes of classes and objects of the program's own. No code of
the program runs meanwhile: types are asked, not objects.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import deque
from types import CellType, CodeType, FunctionType, MethodType, ModuleType

from allcores.transport import script_globals
from allcores.transport.numpy_arrays import is_numpy_array
from allcores.transport.reduction import Reduction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: functions that the function calls, of its own script, are looked through: so many
MOST_FUNCTIONS = 100
#: classes and objects of the program's that are looked at
MOST_OWNERS = 20

_CONTAINERS = (list, set, dict, deque)
_CACHES = ("cache", "memo")
_MAKING = ("__init__", "__new__", "__post_init__")


def plain_function(function: Any) -> FunctionType | None:
    """The function itself, whatever it is wrapped in."""
    for _ in range(10):
        if type(function) is FunctionType:
            inside = function.__dict__.get("__wrapped__")
            if inside is None or is_own(function.__globals__, frozenset()):
                return function
            function = inside
            continue
        if is_a(function, functools.partial):
            function = function.func
        elif is_a(function, MethodType):
            function = function.__func__
        elif is_a(function, Reduction):
            function = function.fn
        else:
            # Wrappers of `functools`, and of ours that make rows or texts of a function's values.
            function = getattr(function, "__wrapped__", None) or getattr(function, "function", None)
    return None


def instance_of(function: Any) -> Any:
    """The object of a bound method, of which a worker has a copy."""
    for _ in range(10):
        if is_a(function, MethodType):
            return function.__self__
        if is_a(function, functools.partial):
            function = function.func
        elif is_a(function, Reduction):
            function = function.fn
        else:
            break
    return None


def is_watched(name: str, value: Any) -> bool:
    """A container or a number, and no cache by its name."""
    kept = type(value) in (int, float) or is_a(value, _CONTAINERS) or is_array(value)
    return kept and not is_cache(name)


def is_cache(name: str) -> bool:
    """Whether it is called one."""
    return any(word in name.lower() for word in _CACHES)


def is_array(value: Any) -> bool:
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
    return ctypes is not None and is_a(memory, ctypes.Array) and memory._objects is None and not memory._b_needsfree_


def is_own(names: dict[str, Any], left_alone: frozenset[str]) -> bool:
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


class Walk:
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
        kind = value if is_a(value, type) else type(value)
        if is_cache(name) or is_cache(_NAME(kind)):
            return
        for each in _MRO(kind):
            if self._is_own_class(each):
                self._owners.setdefault(id(each), (_NAME(each), each))
        if kind is not value and id(kind) in self._owners and type(_inside(value)) is dict:
            self._owners.setdefault(id(value), (name, value))

    def _is_own_class(self, kind: type) -> bool:
        module = _inside(kind).get("__module__")
        if module == "__main__":
            return True
        found = sys.modules.get(module) if is_a(module, str) else None
        return found is not None and is_own(vars(found), self._left_alone)

    def through(self, first: FunctionType) -> None:
        """Walk."""
        self._add(first)
        bound = script_globals.bound_in("__main__")
        while self._waiting:
            function = self._waiting.pop()
            code = list(_names(function.__code__))
            self._named.update(dict.fromkeys(code))
            for name, where in self._places(function, code, bound):
                value = value_at(where)
                if is_a(value, FunctionType):
                    if value.__globals__ is function.__globals__ or is_own(value.__globals__, self._left_alone):
                        self._add(value)
                elif is_watched(name, value):
                    self.globals.setdefault((id(where[0]), where[1]), (name, where))
                elif len(self._owners) < MOST_OWNERS:
                    self.add_owner(name, value)
            for _, owner in self._owners.values():
                if is_a(owner, type):
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
            if is_a(method, (staticmethod, classmethod)):
                method = method.__func__
            elif is_a(method, property):
                method = method.fget
            if is_a(method, FunctionType):
                self._add(method)

    def _places(self, function: FunctionType, code: list[str], bound: frozenset[str]) -> list[tuple[str, Any]]:
        names = function.__globals__
        script = names.get("__name__") == "__main__"
        places: list[tuple[str, Any]] = [
            (name, (names, name)) for name in code if name in names and not (script and name in bound)
        ]
        for name in code:
            module = names.get(name)
            if is_a(module, ModuleType) and is_own(vars(module), self._left_alone):
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
            bound = script_globals.attributes_bound_in(owner) if is_a(owner, type) else ()
            for each in self._named:
                if each in inside and each not in bound and is_watched(each, inside[each]):
                    yield f"{name}.{each}", (inside, each)


def is_a(value: Any, kinds: Any) -> bool:
    """As `isinstance`, but for what an object says of itself: that is code of the program."""
    return issubclass(type(value), kinds)


def _inside(owner: Any) -> Any:
    """The attributes of a class, or an object, as they are."""
    if is_a(owner, type):
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
    return any(sets_attribute(part, attribute) for part in code.co_consts if is_a(part, CodeType))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if is_a(part, CodeType):
            yield from _names(part)


def value_at(where: Any) -> Any:
    """What stands at a place: a cell, or a namespace and a name in it; None for nothing."""
    holder, name = where
    if is_a(holder, CellType):
        try:
            return holder.cell_contents
        except ValueError:  # empty
            return None
    return holder.get(name)
