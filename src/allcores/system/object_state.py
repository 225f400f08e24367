"""What an object holds: its attributes, whether they are in a dictionary or in slots."""

from __future__ import annotations

import functools
from typing import Any

#: what functools makes of a function that it calls: all of that is in the function
LRU_CACHE = type(functools.cache(len))
#: what `functools.update_wrapper` gives an object: the function has it, too
OF_WRAPPED = frozenset({*functools.WRAPPER_ASSIGNMENTS, "__wrapped__", "__annotate__", "__annotations__"})


def attributes(value: Any) -> dict[str, Any]:
    """Those of an object by their names, as pickle knows them; private ones in slots have the name of their class."""
    state = object.__getstate__(value)
    plain, slots = state if isinstance(state, tuple) else (state, None)
    return {**(plain or {}), **(slots or {})}


def held_around(wrapper: Any) -> dict[str, Any]:
    """What a decorator that is an object holds besides the function, and what it has of that."""
    return {name: each for name, each in attributes(wrapper).items() if name not in OF_WRAPPED}
