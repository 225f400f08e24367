"""What a function does, as plain data that is the same in each process: by its code, not by its text.

A module that was edited while the program runs has another text already, and still the old code: the results of that
would be kept under the name of the new one. Comments and empty lines are not in the code.

The user's own functions and classes are looked into, and what those name in turn. The standard library and what is
installed are known by their names.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Set
from enum import Enum
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from allcores.system.object_state import LRU_CACHE, held_around

#: functions, classes and modules that are looked into for one function; further ones are known by their names
MOST_PARTS = 5_000
#: elements of a container at the top of a module, with those in it; one of more is no part of the key
MOST_ELEMENTS = 1_000
#: bytes of such an array
MOST_ARRAY_BYTES = 1 << 20

_SCALARS = frozenset({str, bytes, int, float, complex, bool, type(None), range})
_MAPPINGS = frozenset({dict, OrderedDict, defaultdict, MappingProxyType})
_SEQUENCES = frozenset({tuple, list, set, frozenset, deque})
#: modules of the standard library whose objects are values
_VALUES = frozenset({"datetime", "decimal", "fractions", "pathlib", "pathlib._local", "re", "uuid", "zoneinfo"})
#: functions that Python 3.14 and later puts into a class, for its annotations: these do nothing when it is used
_ANNOTATIONS = frozenset({"__annotate__", "__annotate_func__"})
_MADE_OF_FUNCTIONS = (FunctionType, type, functools.partial, functools.partialmethod, functools.cached_property)
_MISSING = object()


class Facts:
    """Those of one function and of what it names, one list for each: what they name stands in them by its number.

    Args:
        bytes_of: The bytes of a value that is bound to a function (closure, default, argument of a partial); raises an
            Exception if it has none.
        keeps: Whether a value that code names in a module counts, by its name; None: all that are constants.
    """

    def __init__(self, bytes_of: Callable[[Any], bytes], keeps: Callable[[str, Any], bool] | None = None) -> None:
        self._bytes_of = bytes_of
        self._keeps = keeps or (lambda name, value: is_constant(value))
        #: functions, classes, and modules with the names that are looked for in them; and whether all that is bound to
        #: them has to have bytes
        self._parts: list[tuple[Any, bool]] = []
        self._numbers: dict[Any, int] = {}

    def of(self, function: Any) -> list[Any]:
        """Facts of anything that is called as a function.

        Raises:
            Exception: What `bytes_of` raises, for something that is bound to the function itself.
        """
        root = self._bound(function, True)
        return [root, *(list(self._facts(*part)) for part in self._parts)]

    def _facts(self, part: Any, strict: bool) -> Iterator[Any]:
        if isinstance(part, FunctionType):
            yield name_of(part)
            yield code_facts(part.__code__)
            yield [self._bound(each, strict) for each in part.__defaults__ or ()]
            yield [(name, self._bound(each, strict)) for name, each in sorted((part.__kwdefaults__ or {}).items())]
            yield [self._bound(_content(cell), strict) for cell in part.__closure__ or ()]
            yield list(self._named(part.__globals__, frozenset(_names(part.__code__))))
        elif isinstance(part, type):
            yield name_of(part)
            yield [self._part(base, False) for base in part.__bases__]
            # Not `__doc__` and its like, nor what Python notes in a class when one of its objects is pickled.
            noted = {name for name, value in vars(part).items() if name.startswith("__") and is_constant(value)}
            noted |= _ANNOTATIONS
            yield list(self._named(vars(part), vars(part).keys() - noted))
        else:
            module, names = part
            yield name_of(module)
            yield list(self._named(vars(module), names))

    def _bound(self, value: Any, strict: bool) -> Any:
        """What is bound to a function, or called as one."""
        if isinstance(value, functools.partial):
            named = [(name, self._bound(each, strict)) for name, each in sorted(value.keywords.items())]
            args = [self._bound(each, strict) for each in value.args]
            return ["partial", self._bound(value.func, strict), args, named]
        if isinstance(value, MethodType):
            return ["method", self._bound(value.__func__, strict), self._bound(value.__self__, strict)]
        if isinstance(value, (FunctionType, type)):
            return self._part(value, strict)
        if isinstance(value, ModuleType):
            return name_of(value)
        wrapped = getattr(value, "__wrapped__", None)
        if isinstance(wrapped, FunctionType):
            kind = type(value)
            if kind is LRU_CACHE:
                return [kind.__name__, self._part(wrapped, strict)]
            # A decorator that is an object: its class says what it does, with what it holds.
            named = sorted(held_around(value).items())
            held = [(name, self._bound(each, strict and is_own(kind))) for name, each in named]
            return [self._part(kind, False), self._part(wrapped, strict), held]
        if isinstance(value, MappingProxyType):
            return ["mappingproxy", self._bound(dict(value), strict)]
        if isinstance(value, functools.cached_property):
            return ["cached_property", self._bound(value.func, strict)]
        if isinstance(value, functools.partialmethod):
            named = [(name, self._bound(each, strict)) for name, each in sorted(value.keywords.items())]
            return [
                "partialmethod",
                self._bound(value.func, strict),
                [self._bound(a, strict) for a in value.args],
                named,
            ]
        if (type(value) is list or type(value) is tuple) and any(map(callable, value)):
            return [type(value).__name__, *(self._bound(each, strict) for each in value)]
        try:
            return self._bytes_of(value)
        except Exception:
            if strict:
                raise
            return type(value).__qualname__

    def _part(self, value: Any, strict: bool) -> Any:
        """A function or class: its number if it is the user's own, else its name."""
        if is_own(value):
            return self._number(value, id(value), strict)
        wrapped = getattr(value, "__wrapped__", None)
        if isinstance(value, FunctionType) and isinstance(wrapped, FunctionType) and is_own(wrapped):
            # Made of the user's function by a decorator of a library.
            found = [name_of(value), self._part(wrapped, strict)]
            registry = getattr(value, "registry", None)
            if isinstance(registry, MappingProxyType):  # functools.singledispatch
                ways = [(self._bound(kind, False), self._bound(way, strict)) for kind, way in registry.items()]
                found.append(sorted(ways, key=repr))
            return found
        return name_of(value)

    def _number(self, part: Any, key: Any, strict: bool) -> Any:
        number = self._numbers.get(key)
        if number is None:
            if len(self._parts) >= MOST_PARTS:
                return name_of(part[0] if isinstance(part, tuple) else part)
            number = self._numbers[key] = len(self._parts)
            self._parts.append((part, strict))
        return number

    def _named(self, scope: Mapping[str, Any], names: Set[str]) -> Iterator[Any]:
        """What code names in a module, or a class has, as far as it can be told."""
        for name in sorted(names):
            value = scope.get(name, _MISSING)
            if isinstance(value, ModuleType):
                own = is_own(value) and value.__dict__ is not scope
                yield name, self._number((value, names), (id(value), names), False) if own else name_of(value)
            elif isinstance(value, (staticmethod, classmethod)):
                yield name, type(value).__name__, self._bound(value.__func__, False)
            elif isinstance(value, property):
                yield name, [self._bound(each, False) for each in (value.fget, value.fset, value.fdel)]
            elif (
                isinstance(value, _MADE_OF_FUNCTIONS)
                or isinstance(getattr(value, "__wrapped__", None), FunctionType)
                or self._keeps(name, value)
            ):
                yield name, self._bound(value, False)


def code_facts(code: CodeType) -> Any:
    """What compiled code does: without its file and its lines. Functions in it are looked into."""
    return [
        code.co_code,
        [code_facts(each) if isinstance(each, CodeType) else each for each in code.co_consts],
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        getattr(code, "co_exceptiontable", b""),
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
    ]


def is_constant(value: Any) -> bool:
    """Whether what a module has at its top is a value: plain, or a small container or array of such."""
    return _elements(value, MOST_ELEMENTS) >= 0


def _elements(value: Any, left: int) -> int:
    """How many elements are left when those of `value` are counted; less than 0: too many, or it is no value."""
    kind = type(value)
    if kind in _SCALARS:
        return left - 1
    if kind is SimpleNamespace:
        return _elements(vars(value), left)
    if kind in _SEQUENCES or kind in _MAPPINGS:
        parts = (part for pair in value.items() for part in pair) if kind in _MAPPINGS else value
        if len(value) > left:
            return -1
        for part in parts:
            left = _elements(part, left)
            if left < 0:
                return -1
        return left
    if isinstance(value, Enum) or kind.__module__ in _VALUES:
        return left - 1
    if kind is bytearray or kind is array:
        return left - 1 if memoryview(value).nbytes <= MOST_ARRAY_BYTES else -1
    if isinstance(value, (str, bytes, int, float)) and is_own(kind):
        return left - 1
    if kind.__module__ == "numpy" and getattr(value, "nbytes", MOST_ARRAY_BYTES + 1) <= MOST_ARRAY_BYTES:
        return left - 1
    return -1


def name_of(value: Any) -> str:
    """Module and qualified name. What is in a script is known by the file's name, so that it need not be `__main__`."""
    if isinstance(value, ModuleType):
        return f"module {_module_name(value.__name__)}"
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{_module_name(getattr(value, '__module__', None) or 'builtins')}.{name}"


def _module_name(name: str) -> str:
    if name != "__main__":
        return name
    file: str | None = getattr(sys.modules.get(name), "__file__", None)
    return os.path.splitext(os.path.basename(file))[0] if file else name


def is_own(value: Any) -> bool:
    """Whether a function, class or module is the user's, and no part of Python, an installed library or this one."""
    if isinstance(value, FunctionType):
        module = value.__module__
        file: str | None = value.__code__.co_filename
    else:
        module = value.__name__ if isinstance(value, ModuleType) else value.__module__
        file = getattr(sys.modules.get(str(module)), "__file__", None)
    if module == "__main__":
        return True
    top = str(module).partition(".")[0]
    if file is None:  # built into Python, or without a file
        return top != "allcores" and top not in sys.stdlib_module_names
    return top != "allcores" and _is_own_file(file)


@functools.lru_cache(maxsize=1_000)
def _is_own_file(file: str) -> bool:
    return not file.startswith("<frozen") and not os.path.abspath(file).startswith(_installed())


@functools.cache
def _installed() -> tuple[str, ...]:
    """Folders of Python and of what is installed."""
    found = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(os.path.abspath(path) + os.sep for path in found if path)


def _names(code: CodeType) -> Iterator[str]:
    """Names that code has from outside: those of globals and attributes."""
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
