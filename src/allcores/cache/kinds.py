"""What a key can tell of a value: whether it is one, whether it is looked into, whose it is, and by what name."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from enum import Enum
from struct import Struct
from types import (
    BuiltinFunctionType,
    FunctionType,
    GenericAlias,
    MappingProxyType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any

from allcores.system import main_module
from allcores.system.installations import is_installed
from allcores.system.object_state import LRU_CACHE, held_around

#: elements of a container at the top of a module, with those in it; one of more is no part of the key
MOST_ELEMENTS = 1_000
#: containers in one another
MOST_DEPTH = 50
#: bytes of an array
MOST_ARRAY_BYTES = 1 << 20

SCALARS = frozenset({str, bytes, int, float, complex, bool, type(None), range})
MAPPINGS = frozenset({dict, OrderedDict, defaultdict, Counter, MappingProxyType})
SETS = frozenset({set, frozenset})
SEQUENCES = frozenset({tuple, list, deque, *SETS})
#: types of the user may be made of one of these
_CONTENT = (dict, list, tuple, set, frozenset, deque)
#: modules of the standard library whose objects are values
_VALUES = frozenset(
    {"datetime", "decimal", "fractions", "ipaddress", "operator", "pathlib", "pathlib._local", "re", "string", "uuid"}
    | {"zoneinfo"}
)
MADE_OF_FUNCTIONS = (FunctionType, type, functools.partial, functools.partialmethod, functools.cached_property)
#: functions of Python's that are written in C, by themselves and of an object
_BUILT_IN = frozenset({BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, MethodWrapperType})
#: modules whose objects hold numbers of the thread or process that they are
_LIVE = frozenset({"threading", "_thread", "multiprocessing"})
#: what has attributes that are no part of its own
FUNCTIONS = (FunctionType, functools.partial, LRU_CACHE)


def is_constant(value: Any) -> bool:
    """Whether what a module has at its top is a value: plain, or a small container or array of such."""
    return elements_left(value, MOST_ELEMENTS) >= 0


def is_looked_into(value: Any) -> bool:
    """Whether it is, or a small container has in it, what is of the user's, made of functions, or a type's alias."""
    waiting, left, found = [value], MOST_ELEMENTS, False
    while waiting:
        each = waiting.pop()
        kind = type(each)
        left -= 1
        if left < 0 or (kind in SEQUENCES | MAPPINGS and len(each) > left):
            return False
        if kind is SimpleNamespace:
            waiting.append(vars(each))
        elif kind in MAPPINGS:
            waiting += [*each.keys(), *each.values()]
        elif kind in SEQUENCES:
            waiting += each
        elif not found and kind not in SCALARS:
            found = (
                isinstance(each, (*MADE_OF_FUNCTIONS, MethodType, functools.singledispatchmethod))
                or kind is Struct
                or is_named(each)
                or is_alias(each)
                or is_own(kind)
                or wrapped_function(each) is not None
            )
    return found


def is_alias(value: Any) -> bool:
    """Whether it is a type with arguments, or what such arguments are."""
    kind = type(value)
    return issubclass(kind, (GenericAlias, UnionType)) or kind.__module__ in ("typing", "typing_extensions")


def is_named(value: Any) -> bool:
    """Whether it is a function that has no code of Python's: a name is all that can be told of it."""
    kind = type(value)
    if kind in _BUILT_IN:
        return True
    if isinstance(value, (FunctionType, type, MethodType)) or not callable(value):
        return False
    # What Cython makes is of a module that it makes up.
    if is_own(kind) and not str(kind.__module__).startswith("_cython"):
        return False
    try:
        return isinstance(getattr(value, "__name__", None), str) and not is_alias(value)
    except Exception:
        return False


def wrapped_function(value: Any) -> FunctionType | None:
    """The function that a decorator has put something around."""
    try:
        wrapped = getattr(value, "__wrapped__", None)
    except Exception:  # code of its own, for attributes that it does not have
        return None
    return wrapped if isinstance(wrapped, FunctionType) else None


def attributes_of(value: Any) -> dict[str, Any]:
    """Those of a function that others have put there; those of an object, and its elements."""
    if isinstance(value, FUNCTIONS) and not is_own(type(value)):
        return {name: each for name, each in vars(value).items() if not is_pythons(name)}
    if any(str(base.__module__).partition(".")[0] in _LIVE for base in type(value).__mro__):
        return {}
    try:
        held = {name: each for name, each in held_around(value).items() if isinstance(name, str)}
    except Exception:  # no object that Python's own way knows the attributes of
        held = {}
    content: Any
    for content in _CONTENT:
        if isinstance(value, content) and content.__len__(value) <= MOST_ELEMENTS:
            # As Python's own type has them, whatever the user's says.
            held[""] = dict(dict.items(value)) if content is dict else content(content.__iter__(value))
    return held if len(held) <= MOST_ELEMENTS else {}


def is_pythons(name: str) -> bool:
    """Whether a name has a meaning of Python's own."""
    return name.startswith("__") and name.endswith("__")


def order_of(value: Any) -> str:
    """What elements of a set are sorted by: the same in each process."""
    if isinstance(value, FunctionType | type) or is_named(value):
        return name_of(value)
    return repr(value) if type(value) in SCALARS else name_of(type(value))


def elements_left(value: Any, left: int, depth: int = 0) -> int:
    """How many elements are left when those of `value` are counted; less than 0: too many, or it is no value."""
    kind = type(value)
    if kind in SCALARS:
        return left - 1
    if kind is SimpleNamespace:
        return elements_left(vars(value), left, depth + 1)
    if depth < MOST_DEPTH and (kind in SEQUENCES or kind in MAPPINGS):
        parts = (part for pair in value.items() for part in pair) if kind in MAPPINGS else value
        if len(value) > left:
            return -1
        for part in parts:
            left = elements_left(part, left, depth + 1)
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
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or type(value).__qualname__
    return f"{_module_name(getattr(value, '__module__', None) or 'builtins')}.{name}"


def script_name() -> str:
    """What the program's script is known by."""
    return _module_name("__main__")


def know_script(name: str) -> None:
    """In whatever process: what comes of a script is of the one with this name, as in the program."""
    global _script
    _script = name


#: None: this process has begun no work with a cache
_script: str | None = None


def _module_name(name: str) -> str:
    if name not in main_module.NAMES:
        return name
    if _script is not None:
        return _script
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
    if module in main_module.NAMES:
        return True
    top = str(module).partition(".")[0]
    if file is None:  # built into Python, or without a file
        return top != "allcores" and top not in sys.stdlib_module_names
    return top != "allcores" and _is_own_file(file)


@functools.lru_cache(maxsize=1_000)
def _is_own_file(file: str) -> bool:
    path = os.path.abspath(file)
    # Also what is installed for a user, or by the system: all of its code would be looked into, for seconds.
    return not file.startswith("<frozen") and not path.startswith(_installed()) and not is_installed(path)


@functools.cache
def _installed() -> tuple[str, ...]:
    """Folders of Python and of what is installed."""
    found = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(os.path.abspath(path) + os.sep for path in found if path)
