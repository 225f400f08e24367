"""What a setting that is found for a function depends on, as it is now."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

from allcores.cache.code import Facts as CodeFacts
from allcores.cache.keys import key_bytes
from allcores.cache.kinds import is_constant, is_own, name_of
from allcores.system import procfs
from allcores.system.cores import core_budget
from allcores.system.installations import names_by_module, version_of
from allcores.tuned.holds import Facts

#: functions and classes that are looked into for the libraries that they name
MOST_PARTS = 2_000


def facts_of(function: Callable[..., Any]) -> Facts:
    """Those of a function, here and now."""
    return Facts(
        function=name_of(function_in(function)),
        code=code_digest(function),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cores=core_budget().workers,
        libraries=libraries_of(function),
        machine=machine(),
    )


def place_of(function: Callable[..., Any]) -> tuple[str, str, str]:
    """What tells functions and machines apart in a folder of kept settings: name, file, machine."""
    named = function_in(function)
    code = getattr(named, "__code__", None)
    file = code.co_filename if code is not None else _file_of(named)
    return name_of(named), os.path.realpath(file) if file and not file.startswith("<") else file, machine()


def _file_of(named: Any) -> str:
    """Of the module that something written in C is from, or that has no file; a method of `str` has no module."""
    file = getattr(sys.modules.get(getattr(named, "__module__", None) or ""), "__file__", None)
    return file if isinstance(file, str) else ""


def function_in(function: Any) -> Any:
    """The function in partials, methods and wrappers; the class of an object that can be called."""
    seen = 0
    while seen < 50:
        seen += 1
        for name in ("func", "__func__", "__wrapped__"):
            inner = getattr(function, name, None)
            if callable(inner):
                function = inner
                break
        else:
            break
    return function if hasattr(function, "__qualname__") else type(function)


def machine() -> str:
    """Architecture and model of the processor."""
    model = procfs.processor_model() if procfs.AVAILABLE else None
    return f"{platform.machine() or 'unknown'}, {model or platform.processor() or 'unknown'}"


def code_digest(function: Callable[..., Any]) -> str:
    """Of what it does: its code, that of the program's own functions it names, and constants that are named as such.

    What is bound to it (arguments of a partial, a closure) counts as far as it is constants; of objects their class
    does, and not their state. Of globals only those in capitals that cannot be changed count: a counter is no code.
    """
    return _digest(CodeFacts(_bound_bytes, keeps=_is_fixed).of(function))


def _digest(facts: list[Any]) -> str:
    return hashlib.blake2b(key_bytes(facts), digest_size=16).hexdigest()


def _bound_bytes(value: Any) -> bytes:
    """Bytes of a constant that is bound to a function; of anything else what its class is, and does."""
    if is_constant(value):
        return key_bytes(value)
    kind = type(value)
    # Its class alone: a class that an object of its own is bound to has no end.
    code = _digest(CodeFacts(_class_bytes, keeps=_is_fixed).of(kind)) if is_own(kind) else ""
    return f"{name_of(kind)} {code}".encode()


def _class_bytes(value: Any) -> bytes:
    return key_bytes(value) if is_constant(value) else name_of(type(value)).encode()


_CHANGEABLE = (list, dict, set, bytearray, array, deque, SimpleNamespace)


def _is_fixed(name: str, value: Any) -> bool:
    return name.isupper() and not isinstance(value, _CHANGEABLE) and is_constant(value)


def libraries_of(function: Callable[..., Any]) -> dict[str, str]:
    """Name -> version of the installed libraries that a function names, or a function of the program that it calls."""
    found = {}
    names: dict[str, list[str]] | None = None
    for module in sorted({*_modules_named(function), "allcores"}):
        version = version_of(module)
        if version is not None:
            found[module] = version
        elif module != "allcores":  # which may run from a folder
            if names is None:  # this reads all that is installed, so it is done where a name is not its module's
                names = names_by_module()
            for name in names.get(module, ()):
                if (version := version_of(name)) is not None:
                    found[name] = version
    return found


def _modules_named(function: Callable[..., Any]) -> Iterator[str]:
    """Top-level names of modules that are neither Python's nor the program's own."""
    waiting: list[Any] = [function, function_in(function)]
    seen: set[int] = set()
    while waiting and len(seen) < MOST_PARTS:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, ModuleType | FunctionType | type) and not is_own(part):
            top = str(part.__name__ if isinstance(part, ModuleType) else part.__module__).partition(".")[0]
            if top not in sys.stdlib_module_names and top not in ("builtins", "__main__"):
                yield top
        elif isinstance(part, FunctionType):
            for code in _codes(part.__code__):
                waiting += [part.__globals__[name] for name in code.co_names if name in part.__globals__]
                yield from _imported_in(code)
        elif isinstance(part, type):
            waiting += [each for each in vars(part).values() if isinstance(each, FunctionType)]
            waiting += part.__bases__
        elif not isinstance(part, ModuleType):
            # an object: of a library's class, perhaps
            waiting.append(type(part))


def _imported_in(code: CodeType) -> Iterator[str]:
    """Top-level names of what code imports when it runs, whether or not that has happened yet."""
    import dis

    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            top = str(instruction.argval).partition(".")[0]
            if top and top not in sys.stdlib_module_names:
                yield top


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)
