"""What a function of a program could change: containers and numbers that it, and those that it calls, refer to.

Globals that code names, what a closure holds, and attributes of classes and objects of the program's own. No code of
the program runs meanwhile: types are asked, not objects.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from types import CellType, CodeType, FunctionType, MethodType, ModuleType

from allcores.system import main_module
from allcores.system.installations import is_installed
from allcores.transport import script_globals
from allcores.transport.numpy_arrays import is_numpy_array
from allcores.transport.reduction import Reduction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: functions that the function calls, of its own script, are looked through: so many
MOST_FUNCTIONS = 100

_CONTAINERS = (list, set, dict, deque)
_GENERATORS = frozenset(
    {("random", "Random"), ("numpy.random._generator", "Generator"), ("numpy.random.mtrand", "RandomState")}
)
_CACHES = ("cache", "memo")


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


def method_of(function: Any) -> MethodType | None:
    """The method of an object, of which a worker has a copy, that is called in the end."""
    for _ in range(10):
        if type(function) is MethodType:
            return function if type(function.__func__) is FunctionType else None
        if is_a(function, functools.partial):
            function = function.func
        elif is_a(function, Reduction):
            function = function.fn
        else:
            break
    return None


def bound_arguments(function: Any) -> tuple[CodeType, dict[str, Any]] | None:
    """What a partial binds, by the names that it has in the code of its function; None if it is no partial of one."""
    while is_a(function, Reduction):
        function = function.fn
    if not is_a(function, functools.partial):
        return None
    inner, first = function.func, 0
    if type(inner) is MethodType:
        inner, first = inner.__func__, 1
    if type(inner) is not FunctionType:
        return None
    code = inner.__code__
    count = code.co_argcount
    by_place = code.co_varnames[first:count]
    by_name = {*by_place, *code.co_varnames[count : count + code.co_kwonlyargcount]}
    named = {name: value for name, value in function.keywords.items() if name in by_name}
    return code, {**dict(zip(by_place, function.args, strict=False)), **named}


def methods_of(instance: object) -> list[CodeType]:
    """The code of all methods of an object's class, which may set its attributes; but for those that make it."""
    found = []
    for each in _MRO(instance if is_a(instance, type) else type(instance)):
        for name, method in list(_inside(each).items()):
            while is_a(method, (staticmethod, classmethod)):
                method = method.__func__
            if type(method) is FunctionType and name not in ("__init__", "__new__", "__post_init__"):
                found.append(method.__code__)
    return found


def is_watched(name: str, value: Any) -> bool:
    """A container or a number, and no cache by its name."""
    kept = type(value) in (int, float) or is_a(value, _CONTAINERS) or is_array(value)
    return kept and not is_cache(name)


def is_generator(value: Any) -> bool:
    """A generator of random numbers, of which a copy draws the same ones."""
    kind = type(value)
    return type(kind) is type and (kind.__module__, kind.__name__) in _GENERATORS


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
    if module in main_module.NAMES:
        return True
    file = names.get("__file__")
    if not isinstance(module, str) or not isinstance(file, str) or module in left_alone:
        return False
    return module.partition(".")[0] != "allcores" and not is_installed(file)


class Walk:
    """Through a function, and those of the program that it calls: what they refer to."""

    def __init__(self, left_alone: frozenset[str]) -> None:
        self._left_alone = left_alone
        self._seen: set[FunctionType] = set()
        self._waiting: list[FunctionType] = []
        #: names and places of containers and numbers, by their place
        self.globals: dict[tuple[int, Any], tuple[str, Any]] = {}
        #: the same of attributes of the program's classes and objects
        self.attributes: dict[tuple[int, str], tuple[str, Any]] = {}
        #: the same of generators of random numbers that came with a function
        self.generators: dict[tuple[int, Any], tuple[str, Any]] = {}

    def through(self, first: FunctionType) -> None:
        """Walk."""
        self._add(first)
        bound = script_globals.bound_in(str(first.__globals__.get("__name__")))
        while self._waiting:
            function = self._waiting.pop()
            code = list(_names(function.__code__))
            owners: dict[str, Any] = {}
            for name, where in self._places(function, code, bound):
                value = value_at(where)
                if is_a(value, FunctionType):
                    if value.__globals__ is function.__globals__ or is_own(value.__globals__, self._left_alone):
                        self._add(value)
                elif is_watched(name, value):
                    self.globals.setdefault((id(where[0]), where[1]), (name, where))
                elif is_generator(value):
                    # That of a module each worker may have made for itself.
                    script = function.__globals__.get("__name__") in main_module.NAMES
                    if where[1] is None or (script and where[0] is function.__globals__):
                        self.generators.setdefault((id(where[0]), where[1]), (name, where))
                elif self._is_owner(value):
                    owners[name.rpartition(".")[2]] = value
            if owners:
                self._add_attributes(function.__code__, owners)

    def of_object(self, method: MethodType) -> None:
        """Take in what a method names of its object."""
        code = method.__func__.__code__
        if code.co_varnames and self._is_owner(method.__self__):
            self._add_attributes(code, {code.co_varnames[0]: method.__self__}, shown="self")

    def of_arguments(self, code: CodeType, arguments: dict[str, Any]) -> None:
        """Take in what a partial hands to the function each time: containers, and objects of the program's own."""
        owners: dict[str, Any] = {}
        for name, value in arguments.items():
            if is_watched(name, value):
                self.globals.setdefault((id(arguments), name), (name, (arguments, name)))
            elif is_generator(value):
                self.generators.setdefault((id(arguments), name), (name, (arguments, name)))
            elif self._is_owner(value):
                owners[name] = value
        if owners:
            self._add_attributes(code, owners)

    def _add(self, function: FunctionType) -> None:
        if function not in self._seen and len(self._seen) < MOST_FUNCTIONS:
            self._seen.add(function)
            self._waiting.append(function)

    def _places(self, function: FunctionType, code: list[str], bound: frozenset[str]) -> list[tuple[str, Any]]:
        names = function.__globals__
        script = names.get("__name__") in main_module.NAMES
        places: list[tuple[str, Any]] = [
            (name, (names, name)) for name in code if name in names and not (script and name in bound)
        ]
        for name in code:
            module = names.get(name)
            if is_a(module, ModuleType):
                # One that is loaded when something of it is asked for stays as it is.
                inside = object.__getattribute__(module, "__dict__")
                if is_own(inside, self._left_alone):
                    places += [(f"{name}.{each}", (inside, each)) for each in code if each in inside]
        places += zip(function.__code__.co_freevars, ((cell, None) for cell in function.__closure__ or ()), strict=True)
        return places

    # --- attributes ---

    def _is_owner(self, value: object) -> bool:
        return self._is_own_class(value if is_a(value, type) else type(value))

    def _is_own_class(self, kind: Any) -> bool:
        module = _inside(kind).get("__module__")
        if module in main_module.NAMES:
            return True
        found = sys.modules.get(module) if is_a(module, str) else None
        return found is not None and is_own(object.__getattribute__(found, "__dict__"), self._left_alone)

    def _add_attributes(self, code: CodeType, owners: dict[str, Any], shown: str | None = None) -> None:
        for name, attribute in attributes_named(code):
            if name not in owners:
                continue
            owner = owners[name]
            kind = owner if is_a(owner, type) else type(owner)
            if is_cache(name) or is_cache(_NAME(kind)):
                continue
            for each in (owner, *_MRO(kind)):
                inside = _inside(each)
                if inside is None or attribute not in inside:
                    continue
                of_class = is_a(each, type)
                if of_class and (not self._is_own_class(each) or script_globals.is_bound_in(each, attribute)):
                    break
                if is_watched(attribute, inside[attribute]):
                    text = f"{_NAME(each) if of_class else shown or name}.{attribute}"
                    self.attributes.setdefault((id(each), attribute), (text, (inside, attribute)))
                    own = _inside(owner)
                    if of_class and each is not owner and type(own) is dict:  # where `+=` puts it
                        text = f"{shown or name}.{attribute}"
                        self.attributes.setdefault((id(owner), attribute), (text, (own, attribute)))
                break

    def codes(self) -> list[CodeType]:
        """Of all functions."""
        return [function.__code__ for function in self._seen]


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


_LOADED = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR")
_BETWEEN = ("CACHE", "COPY", "NOP", "PUSH_NULL", "EXTENDED_ARG")


@functools.lru_cache(maxsize=256)  # a program may send a function again and again
def attributes_named(code: CodeType) -> tuple[tuple[str, str], ...]:
    """What code names as an attribute of what: `stats.found.append` is ("stats", "found") and ("found", "append")."""
    return tuple(dict.fromkeys(_attributes_named(code)))


def _attributes_named(code: CodeType) -> Iterator[tuple[str, str]]:
    import dis  # some milliseconds, which few functions need

    last: Any = None
    for step in dis.get_instructions(code):
        if step.opname in _BETWEEN:
            continue
        name: Any = None
        if step.opname in _ATTRIBUTES:
            name = step.argval
            if last is not None:
                yield last, name
        elif step.opname in _LOADED or step.opname.startswith("LOAD_FAST"):
            # Python 3.13 and later load two at once.
            name = step.argval[-1] if is_a(step.argval, tuple) else step.argval
        last = name if is_a(name, str) else None
    for part in code.co_consts:
        if is_a(part, CodeType):
            yield from _attributes_named(part)


def sets_attribute(code: CodeType, attribute: str) -> bool:
    """Whether code may set an attribute of this name to anything, and not only to what it was and something more.

    Or takes out what is in it.
    """
    import dis

    before = ""
    for step in dis.get_instructions(code):
        if step.opname in ("CACHE", "EXTENDED_ARG", "NOP"):
            continue
        # `a.n += 1` has a to be used twice, and changes places with what comes of it before it is set.
        if step.opname == "STORE_ATTR" and step.argval == attribute and before != "SWAP":
            return True
        before = step.opname
    if _ANYTHING & {*code.co_names} or _OUT & {name for owner, name in attributes_named(code) if owner == attribute}:
        return True
    return any(sets_attribute(part, attribute) for part in code.co_consts if is_a(part, CodeType))


#: names of what may set any attribute
_ANYTHING = {"setattr", "vars", "__dict__", "__setattr__", "__init__"}
#: methods that take something out of a container
_OUT = {"clear", "pop", "popleft", "remove", "discard"}


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
