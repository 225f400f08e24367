"""What values of libraries mean in JSON: times, durations, rows of arrays, by their type and never by a method's name.

a moment (datetime, NumPy's datetime64 of any unit, pandas' Timestamp)   ISO 8601 text: "2024-05-01T12:00:00.000000001"
a duration (timedelta, timedelta64)                                      ISO 8601 text: "PT1.5S", "P3D", "-P2M"
a structured array, a record                                             objects by the names of the fields
other arrays, series and scalars of known libraries                      lists, numbers, text
"""

from __future__ import annotations

import dataclasses
import datetime
import sys
from array import array
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from allcores.formatting import kind_text

#: libraries whose arrays and scalars tell by these methods what they are in plain Python
_LIBRARIES = {"pandas": "tolist", "torch": "tolist", "cupy": "tolist", "jaxlib": "tolist"}
_ARROW = ("to_pylist", "as_py")
#: what ISO 8601 calls NumPy's units of durations; those below a second are written as fractions of one
_UNITS = {"Y": "P{}Y", "M": "P{}M", "W": "P{}W", "D": "P{}D", "h": "PT{}H", "m": "PT{}M", "s": "PT{}S"}
_FRACTIONS = {"ms": -3, "us": -6, "ns": -9, "ps": -12, "fs": -15, "as": -18}


class NotPlain(TypeError):
    """A value has no meaning in JSON; the message goes on behind the place of the value: "is a set"."""


def plain(value: Any) -> Any:
    """What to write in place of an object that JSON does not know.

    Raises:
        NotPlain: If it has no such form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):  # a datetime is a date
        if value != value:
            raise NotPlain("is no time (NaT)")
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return _duration(value)
    if isinstance(value, array):
        return value.tolist()
    uuid: Any = sys.modules.get("uuid")
    if uuid is not None and isinstance(value, uuid.UUID):
        return str(value)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        return _of_numpy(value, numpy)
    for kind in type(value).__mro__:
        library = kind.__module__.partition(".")[0]
        methods = _ARROW if library == "pyarrow" else (_LIBRARIES.get(library, ""),)
        for method in methods:
            if method and not isinstance(value, type) and callable(form := getattr(value, method, None)):
                return form()
    raise NotPlain(f"is {kind_text(value)}")


def has_no_names(value: Any) -> bool:
    """True if no part of a value that JSON does not know can become an object with names."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        return value.dtype.kind not in "OV"
    return isinstance(value, (PurePath, datetime.date, datetime.time, datetime.timedelta, array))


def _of_numpy(value: Any, numpy: Any) -> Any:
    if isinstance(value, numpy.ma.MaskedArray):
        if value is numpy.ma.masked:
            return None
        if value.ndim:
            return list(value)
    kind = value.dtype.kind
    if kind in "Mm" and numpy.isnat(value).any():
        raise NotPlain("is no time (NaT)")
    if kind == "M":
        return numpy.datetime_as_string(value).tolist()
    if kind == "m":
        unit, count = numpy.datetime_data(value.dtype)
        if unit == "generic":
            raise NotPlain("is a timedelta64 without a unit")
        return _durations(value.astype("int64").tolist(), unit, count)
    if kind == "V":
        if value.dtype.names is None:
            raise NotPlain("is a void, bytes without a meaning")
        if getattr(value, "ndim", 0):
            return list(value)
        if isinstance(value, numpy.ndarray) and not isinstance(value, numpy.ma.MaskedArray):
            value = value[()]
        return {name: value[name] for name in value.dtype.names}
    found = value.tolist()
    if isinstance(found, numpy.generic):
        raise NotPlain(f"is {kind_text(value)}")  # longdouble: no number of Python is as long
    return found


def _durations(found: Any, unit: str, count: int) -> Any:
    if isinstance(found, list):
        return [_durations(each, unit, count) for each in found]
    sign, size = "-" if found < 0 else "", abs(found) * count
    if unit in _UNITS:
        return sign + _UNITS[unit].format(size)
    return sign + _seconds(Decimal(size).scaleb(_FRACTIONS[unit]))


def _duration(value: datetime.timedelta) -> Any:
    exact = getattr(value, "isoformat", None)
    if callable(exact):  # pandas' Timedelta has nanoseconds
        text = exact()
        if text == "NaT":
            raise NotPlain("is no time (NaT)")
        return text
    size = abs(value)
    sign = "-" if value.days < 0 else ""
    return sign + _seconds(Decimal(size.days * 86_400 + size.seconds) + Decimal(size.microseconds).scaleb(-6))


def _seconds(seconds: Decimal) -> str:
    text = f"{seconds:f}"
    return f"PT{text.rstrip('0').rstrip('.') if '.' in text else text}S"
