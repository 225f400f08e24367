"""Values as strict JSON, one line each, and what to say of a value that JSON cannot hold.

Values become JSON inside the workers (`JsonFunction`): encoding is work that all cores can share, a line of
text is cheaper to carry than objects, and a value that JSON cannot hold fails its own item, with the place
of the culprit, like any other exception of the function.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

#: what JSON holds as it is
_PLAIN = (str, int, type(None))
#: methods by which numbers and arrays of libraries tell what they are in plain Python
_PLAIN_FORMS = ("tolist", "to_pylist", "as_py")


class NotJson(TypeError):
    """A value cannot be written as JSON; the message names the part that is to blame."""


class JsonFunction:
    """`function`, but its value as a line of JSON text. Runs in the workers."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> str:
        return to_json(self.function(*args))

    def __repr__(self) -> str:
        return repr(self.function)


def to_json(value: Any) -> str:
    """`value` as strict JSON in one line.

    Beside what JSON has: tuples become arrays, dataclasses objects, paths strings; and whatever has a
    `tolist()` (NumPy's arrays and numbers), a `to_pylist()` or an `as_py()` (pyarrow's) what that gives.
    Raises: NotJson for everything else, for NaN and infinity, and for values that contain themselves.
    """
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(_explained(value, error)) from None
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: a file name that is no text, for one
        text = _encode_ascii(value)
    return text


def _plain(value: Any) -> Any:
    """What to write in place of an object that JSON does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if not isinstance(value, type):
        for name in _PLAIN_FORMS:
            if callable(form := getattr(value, name, None)):
                return form()
    raise TypeError(f"{type(value).__qualname__} is not JSON")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, default=_plain).encode


def _explained(value: Any, error: Exception) -> str:
    """One sentence: which part of `value` is to blame, and what to do."""
    try:
        path, reason = _culprit(value, "value", ()) or ("value", str(error))
    except RecursionError:
        path, reason = "value", "is nested too deeply"
    return (
        f"{path} {reason}, which JSON cannot hold:"
        " return numbers, strings, lists and dicts, or None where there is nothing"
    )


def _culprit(value: Any, path: str, inside: tuple[int, ...]) -> tuple[str, str] | None:
    """The first part that JSON cannot hold, as (path, reason); None if there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else (path, f"is {float(value)!r}")
    if isinstance(value, _PLAIN):
        return None
    if id(value) in inside:
        return path, "contains itself"
    inside = (*inside, id(value))
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, (*_PLAIN, float)):
                return path, f"has a key of type {type(key).__qualname__}"
            if found := _culprit(part, f"{path}[{key!r}]", inside):
                return found
        return None
    if isinstance(value, (list, tuple)):
        for place, part in enumerate(value):
            if found := _culprit(part, f"{path}[{place}]", inside):
                return found
        return None
    try:
        plain = _plain(value)
    except Exception:
        return path, f"is a {type(value).__qualname__}"
    return _culprit(plain, path, inside)
