"""Classes whose objects keep in compiled code what may change, and cannot be looked at.

Data frames, tensors, generators of random numbers, dicts that know an order.
"""

from __future__ import annotations

import contextvars
import datetime
import decimal
import functools
import operator
import re
import sys
import typing
from array import array
from collections import deque
from types import (
    BuiltinFunctionType,
    CodeType,
    EllipsisType,
    FunctionType,
    GenericAlias,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    NotImplementedType,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any
from weakref import WeakKeyDictionary

from allcores.pool.function_origins import CLASS_DICT

_POINTER = object.__basicsize__ // 2

#: classes of compiled code whose objects are looked at as what they are, or have nothing that could change
_KNOWN: set[Any] = {
    object,
    *(list, dict, set, deque, bytearray, array, memoryview, range, slice, type(None), EllipsisType, NotImplementedType),
    *(FunctionType, BuiltinFunctionType, MethodType, MethodDescriptorType, WrapperDescriptorType, CodeType, ModuleType),
    *(type, property, staticmethod, classmethod, functools.partial, type(functools.cache(len)), GenericAlias),
    *(
        MethodWrapperType,
        UnionType,
        GetSetDescriptorType,
        MemberDescriptorType,
        contextvars.ContextVar,
        re.Pattern,
        decimal.Decimal,
    ),
    *(operator.itemgetter, operator.attrgetter, operator.methodcaller, typing.TypeVar, typing.ParamSpec),
}
#: classes of which the same is true for all that compiled code has made of them
_FAMILIES = (int, float, complex, str, bytes, tuple, frozenset, datetime.date, datetime.time, datetime.timedelta)
#: likewise, of what need not be loaded
_KNOWN_ELSEWHERE = (
    *(("numpy", "ndarray"), ("numpy", "ufunc"), ("zoneinfo", "ZoneInfo"), ("datetime", "timezone")),
    ("collections", "_tuplegetter"),  # attributes of named tuples
)
_FAMILIES_ELSEWHERE = (("numpy", "generic"), ("numpy", "dtype"))

_found: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


def is_opaque(kind: type) -> bool:
    """Whether objects of a class have more in them than their attributes, and than what classes that are known say.

    Told by the size of an object, which each attribute in a slot, the attributes' dict and the list of weak references
    have a part in.
    """
    found = _found.get(kind)
    if found is None:
        found = _found[kind] = _is_opaque(kind)
    return found


def _is_opaque(kind: Any) -> bool:
    families = (*_FAMILIES, *_loaded(_FAMILIES_ELSEWHERE))
    if any(each in families for each in _OF_CLASS["__mro__"](kind)):
        return False
    known = {*_KNOWN, *_loaded(_KNOWN_ELSEWHERE)}
    while kind is not None and kind not in known:
        # What these say of a class, whatever code of the program would.
        base: Any = _OF_CLASS["__base__"](kind)
        if _size(kind, "__itemsize__") > _size(base, "__itemsize__"):
            return True
        names = CLASS_DICT(kind)
        slots = sum(type(each) is MemberDescriptorType for each in names.values()) if "__slots__" in names else 0
        for offset in ("__dictoffset__", "__weakrefoffset__"):
            slots += _size(kind, offset) != 0 and _size(base, offset) == 0
        if _size(kind, "__basicsize__") > _size(base, "__basicsize__") + slots * _POINTER:
            return True
        kind = base
    return False


_OF_CLASS: dict[str, Any] = {
    name: type.__dict__[name].__get__
    for name in (
        "__base__",
        "__mro__",
        "__basicsize__",
        "__itemsize__",
        "__dictoffset__",
        "__weakrefoffset__",
    )
}


def _loaded(names: tuple[tuple[str, str], ...]) -> list[Any]:
    found = [getattr(sys.modules.get(module), name, None) for module, name in names]
    return [each for each in found if isinstance(each, type)]


def _size(kind: Any, name: str) -> int:
    return _OF_CLASS[name](kind) if kind is not None else 0
