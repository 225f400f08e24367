"""Values as strict JSON, one line each, and what to say of a value that JSON cannot hold.

Values become JSON inside the workers (`JsonFunction`): encoding is work that all cores can share, a line of
text is cheaper to carry than objects, and a value that JSON cannot hold fails its own item, with the place
of the part at fault, like any other exception of the function.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from allcores.formatting import kind_text
from allcores.sinks.plain_values import NotPlain, has_no_names, plain
from allcores.system.async_functions import close_unawaited

#: what JSON holds as it is
_PLAIN = (str, int, type(None))
#: the same, for values that are exactly of these types
_LEAVES = frozenset((str, int, float, bool, type(None)))
_NAMES = frozenset((str,))
#: what to do about values that are often returned; the first that fits
_WAYS: tuple[tuple[Any, str], ...] = (
    (float, "return None where there is no number"),
    ((bytes, bytearray, memoryview), "decode what is text (.decode()), and return other bytes in base64, say"),
    ((set, frozenset), "return a list of it, sorted if its order is to be the same each time"),
    (Decimal, "return it as text (str), or as a float"),
    (complex, "return its parts, [z.real, z.imag]"),
    ((Iterator, range), "return a list of what it gives"),
)
_ANY_WAY = "return numbers, strings, lists and dicts, or None where there is nothing"


class NotJson(TypeError):
    """A value cannot be written as JSON; the message names the part at fault."""


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

    Beside what JSON has: tuples become arrays, dataclasses objects, paths strings; and times and what NumPy, pandas
    and pyarrow have becomes what `plain_values` says.

    Raises:
        NotJson: For everything else, for NaN and infinity, for values that contain themselves, and for dicts with two
            keys that JSON writes alike (1 and "1").
    """
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(_explained(value, error)) from None
    if type(value) not in _LEAVES and _has_ambiguous_names(value):
        raise NotJson(_explained(value, None))
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: a file name that is no text, for one
        text = _encode_ascii(value)
    return text


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=plain).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, default=plain).encode


def _has_ambiguous_names(value: Any) -> bool:
    """True if a dict in `value` has two keys with one name in JSON. It contains itself nowhere."""
    waiting = [value]
    for each in waiting:
        parts: Any = each
        if isinstance(each, dict):
            if not set(map(type, each)) <= _NAMES and _repeated(each) is not None:
                return True
            parts = each.values()
        elif not isinstance(each, (list, tuple)):
            if isinstance(each, (*_PLAIN, float)) or has_no_names(each):
                continue
            parts = (plain(each),)
        if not set(map(type, parts)) <= _LEAVES:
            waiting += (part for part in parts if type(part) not in _LEAVES)
    return False


def _repeated(value: dict[Any, Any]) -> str | None:
    """A name that JSON would write twice."""
    seen: set[str] = set()
    for key in value:
        name = str(key) if isinstance(key, str) else _encode({key: 0})[2:-5]
        if name in seen:
            return name
        seen.add(name)
    return None


def _explained(value: Any, error: Exception | None) -> str:
    """One sentence: which part of `value` cannot be written, and what to do."""
    try:
        path, reason, part = _find_unwritable(value, "value", ()) or ("value", str(error), value)
    except RecursionError:
        path, reason, part = "value", "is nested too deeply", value
    close_unawaited(value)
    way = next((text for kinds, text in _WAYS if isinstance(part, kinds)), _ANY_WAY)
    return f"{path} {reason}, which JSON cannot hold: {way}"


def _find_unwritable(value: Any, path: str, inside: tuple[int, ...]) -> tuple[str, str, Any] | None:
    """The first part that JSON cannot hold, as (path, reason, part); None if there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else (path, f"is {float(value)!r}", value)
    if isinstance(value, _PLAIN):
        return None
    if id(value) in inside:
        return path, "contains itself", value
    inside = (*inside, id(value))
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, (*_PLAIN, float)):
                return path, f"has a key of type {type(key).__qualname__}", value
        if (name := _repeated(value)) is not None:
            return path, f"has two keys that are {name!r} as text", value
        for key, part in value.items():
            if found := _find_unwritable(part, f"{path}[{key!r}]", inside):
                return found
        return None
    if isinstance(value, (list, tuple)):
        for place, part in enumerate(value):
            if found := _find_unwritable(part, f"{path}[{place}]", inside):
                return found
        return None
    try:
        form = plain(value)
    except NotPlain as error:
        return path, str(error), value
    except Exception:
        return path, f"is {kind_text(value)}", value
    return _find_unwritable(form, path, inside)
