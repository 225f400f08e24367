"""Functions and classes of the script by their names, for workers that were forked from it and so have them.

A pool that is to behave as one of `multiprocessing` says so (see `adapters.pool_start`). Elsewhere they travel by
value: then a worker sees what the script has by now, and not what it had when the worker was forked.
"""

from __future__ import annotations

import sys
import threading
from types import FunctionType

from allcores.system import main_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class MainNames:
    """What the script had when the first worker was forked from it. What it has defined since has no name there."""

    def __init__(self) -> None:
        main = sys.modules.get("__main__")
        self._names: dict[str, Any] = {} if main is None else main.__dict__
        self._there = {
            name: value for name, value in list(self._names.items()) if isinstance(value, (FunctionType, type))
        }

    def are_all(self) -> bool:
        """Whether each function and class that the script has now has its name there, too."""
        there = self._there
        return all(
            there.get(name) is value
            for name, value in list(self._names.items())
            if isinstance(value, (FunctionType, type)) and value.__module__ in main_module.NAMES
        )

    def have(self, obj: Any) -> bool:
        """Whether a function or class is found there by its name."""
        if obj.__module__ not in main_module.NAMES:
            return False
        first, *others = obj.__qualname__.split(".")
        found = self._there.get(first)
        if found is None or self._names.get(first) is not found:
            return False
        for part in others:
            found = getattr(found, part, None)
        return found is obj


class _ThisThread(threading.local):
    #: what it pickles is for workers that have these
    names: MainNames | None = None


this_thread = _ThisThread()
