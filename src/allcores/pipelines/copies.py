"""Copies of records and states, which functions may change while others look at them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from allcores.system import deferral

#: what nobody can change: of others the next record may make something else
_FIXED = frozenset((bool, int, float, complex, str, bytes, type(None)))


def copied(value: Any) -> Any:
    """A copy, or the value itself if it is fixed, or of a kind that cannot be copied.

    Plain containers of what is fixed need no `deepcopy`, which takes some microseconds.
    """
    kind = type(value)
    if kind in _FIXED or (kind is tuple and _FIXED.issuperset(map(type, value))):
        return value
    if kind is list and _FIXED.issuperset(map(type, value)):
        return value[:]
    if kind is dict and _FIXED.issuperset(map(type, value.values())):
        return value.copy()
    try:
        return deepcopy(value)
    except Exception as error:
        if deferral.raised_by_handler(error):
            raise
        return value


def copied_parts(value: Any) -> Any:
    """A copy of a window, or of a list of windows: of each record in it."""
    kind = type(value)
    if kind is tuple:
        return tuple(map(copied, value))
    if kind is list:
        return list(map(copied_parts, value))
    return copied(value)
