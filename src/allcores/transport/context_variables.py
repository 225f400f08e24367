"""Context variables (`contextvars`) between processes: they travel by name, and their values with them if asked for.

A variable of a module is found there again. One of a script, a notebook or a function has no place that another
process could look at: it gets a key, and each process makes one variable for it.
"""

from __future__ import annotations

import itertools
import os
import sys
from contextvars import Context, ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: variables by their keys, made here or in the process that they came from
_by_key: dict[str, ContextVar[Any]] = {}
_keys: dict[ContextVar[Any], str] = {}
#: where a variable of a module is: looked for once
_places: dict[ContextVar[Any], tuple[str, str]] = {}
_numbers = itertools.count(1)


def reduce(variable: ContextVar[Any]) -> tuple[Any, ...]:
    """What pickle has to know of a variable."""
    place = _place(variable)
    if place is not None:
        return in_module, place
    key = _keys.get(variable)
    if key is None:
        key = f"{os.getpid()}-{os.urandom(8).hex()}-{next(_numbers)}"
        # As a dict's own method does it: of two threads, both get the key of the first.
        key = _keys.setdefault(variable, key)
        _by_key[key] = variable
    try:
        return made, (key, variable.name, Context().run(variable.get))
    except LookupError:
        return made, (key, variable.name)


def in_module(module: str, name: str) -> ContextVar[Any]:
    """The variable of a module."""
    __import__(module)
    found: ContextVar[Any] = vars(sys.modules[module])[name]
    return found


def made(key: str, name: str, *default: Any) -> ContextVar[Any]:
    """The variable of a key, made at the first time."""
    found = _by_key.get(key)
    if found is None:
        new: ContextVar[Any] = ContextVar(name, default=default[0]) if default else ContextVar(name)
        found = _by_key.setdefault(key, new)
        _keys[found] = key
    return found


def _place(variable: ContextVar[Any]) -> tuple[str, str] | None:
    """Module and name; None if no module that can be imported has it."""
    if variable in _keys:
        return None
    known = _places.get(variable)
    if known is None:
        for module, content in list(sys.modules.items()):
            names, spec = getattr(content, "__dict__", None), getattr(content, "__spec__", None)
            # One without a specification, or under another's name (the main one has several), is nowhere else.
            if module == "__main__" or not isinstance(names, dict) or getattr(spec, "name", None) != module:
                continue
            for name, value in list(names.items()):
                if value is variable:
                    known = _places[variable] = module, name
                    return known
    return known


def values_of(variables: Iterable[ContextVar[Any]]) -> list[tuple[ContextVar[Any], Any]]:
    """Those of these variables that have a value in this thread's context, with it."""
    missing = _places  # nothing that a variable could hold
    found = [(variable, variable.get(missing)) for variable in variables]
    return [(variable, value) for variable, value in found if value is not missing]


class Values:
    """Values that are set, until others are: those of a map in the process or thread that runs its chunks."""

    def __init__(self) -> None:
        self._values: list[tuple[ContextVar[Any], Any]] = []
        self._tokens: list[Any] = []

    def set(self, values: list[tuple[ContextVar[Any], Any]]) -> None:
        """Set these, in the place of those that were set last."""
        for token in reversed(self._tokens):
            token.var.reset(token)
        self._values = values
        self._tokens = [variable.set(value) for variable, value in values]

    def set_again(self) -> None:
        """What a task has set in the meantime is forgotten."""
        self.set(self._values)
