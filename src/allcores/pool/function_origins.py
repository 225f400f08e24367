"""Where functions and classes come from: what travels with them, and what workers have by its name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from allcores.system import main_module
from allcores.system.installations import is_installed

#: modules whose objects note in themselves that they were used, and mean the same
_RESTLESS = frozenset({"logging", "pathlib"})

# What these say of a class, whatever code of the program would.
CLASS_DICT: Callable[[Any], Any] = type.__dict__["__dict__"].__get__
_QUALNAME: Callable[[Any], str] = type.__dict__["__qualname__"].__get__


def names_in(code: CodeType) -> Iterator[str]:
    """Names that code looks up in its module, and attributes that it asks for; also code within it."""
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from names_in(part)


def is_of_a_library(function: Any) -> bool:
    """Whether a function is Python's, or of what is installed, and workers have it by its name, whatever it refers to.

    What a decorator of a library returns has no such name, and travels with what it was made for.
    """
    if function.__module__ in main_module.NAMES or not is_named(function):
        return False
    file = function.__code__.co_filename
    if file.startswith("<"):  # it was made by code of its own, as some of NumPy are
        file = getattr(sys.modules.get(str(function.__module__)), "__file__", None) or ""
    return is_installed(file)


def is_named(value: Any) -> bool:
    """Whether pickle finds this very object by a name that it says it has."""
    try:
        module, qualname = object.__getattribute__(value, "__module__"), object.__getattribute__(value, "__qualname__")
        found: Any = sys.modules.get(module)
        for name in qualname.split("."):
            found = getattr(found, name)
    except Exception:
        return False
    return found is value


def travels_by_value(kind: Any) -> bool:
    """Whether a class is of a script or of a function: pickle cannot name it to another process."""
    module = CLASS_DICT(kind).get("__module__")
    return isinstance(module, str) and (module in main_module.NAMES or "<locals>" in _QUALNAME(kind))


def is_restless(kind: Any) -> bool:
    """Whether objects of a class note in themselves that they were used, and mean the same."""
    module = CLASS_DICT(kind).get("__module__")
    return isinstance(module, str) and module.partition(".")[0] in _RESTLESS
