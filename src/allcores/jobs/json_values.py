"""What tasks give and take, made of nothing but what JSON has; what would be lost on the way is refused by its place.

Numbers are finite, and no dict has two keys that are one in JSON (1 and "1"), as in the outputs of runs (`sinks`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from allcores.errors import UsageError
from allcores.formatting import kind_text
from allcores.jobs.rows import MAX_DEPTH, TOO_LONG, half_of_pair
from allcores.sinks import plain_values

#: what dataclasses of Pydantic's have, which say themselves what is written of them
_OF_PYDANTIC = "__pydantic_serializer__"
#: what stays as it is
_LEAVES = frozenset((str, int, bool, type(None)))
#: whole numbers below it have fewer digits than Python writes as text, whatever that is set to
_SHORT = 1 << 2_000
#: keys of a path that are shown
_SHOWN = 12


class NotJson(UsageError):
    """A value cannot be kept as JSON.

    Attributes:
        path: Keys and places that lead to the part at fault; () is the value itself.
        reason: What is wrong with that part; it goes on behind its name.
    """

    def __init__(self, reason: str, path: tuple[Any, ...] = ()) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{self.named('value')} {reason}")

    def named(self, what: str) -> str:
        """The part at fault, as in "value['a'][3]"."""
        shown = "".join(f"[{each!r}]" for each in self.path[:_SHOWN])
        return f"{what}{shown}{'...' if len(self.path) > _SHOWN else ''}"

    def below(self, key: Any) -> NotJson:
        """The same, seen from what holds the value under this key."""
        return NotJson(self.reason, (key, *self.path))


class _TooDeep(Exception):
    """Of the value as a whole: the way down to it says nothing."""


def plain_json(value: Any, *, characters: bool = False) -> Any:
    """The value in dicts with texts as keys, lists, texts, numbers, booleans and None.

    Beside what JSON has: tuples and sets become lists, dataclasses and Pydantic's models objects; dates, durations,
    enums, paths, decimals and the like what Pydantic makes of them, and what NumPy, pandas and pyarrow have what it is
    in the output of a run. Keys that are numbers, None, dates and so on become texts.

    Args:
        value: Any.
        characters: Refuse halves of surrogate pairs, which are no characters (in names of files that are no text).

    Raises:
        NotJson: For everything else; for NaN and infinities, for dicts two of whose keys are the same text, for what
            contains itself or is too deep, and for whole numbers of more digits than Python writes.
    """
    try:
        return _plain(value, 0, characters)
    except _TooDeep:
        raise NotJson(f"is deeper than {MAX_DEPTH} lists and dicts in each other, or contains itself") from None


def _plain(value: Any, depth: int, characters: bool) -> Any:
    kind = type(value)
    if kind in _LEAVES:
        if kind is str:
            _check_characters(value, characters)
        elif kind is int and not -_SHORT < value < _SHORT:
            _check_digits(value)
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotJson(f"is {float(value)!r}, which is no number of JSON: give a finite one, or None")
        return float(value)
    if depth >= MAX_DEPTH:
        raise _TooDeep
    if isinstance(value, dict):
        return _plain_dict(value, depth, characters)
    if isinstance(value, Iterator):
        value = list(value)
    if isinstance(value, list | tuple | set | frozenset | deque):
        if _is_simple(value, characters):
            return list(value)
        found = []
        for place, part in enumerate(value):
            try:
                found.append(_plain(part, depth + 1, characters))
            except NotJson as error:
                raise error.below(place) from None
        return found
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not hasattr(value, _OF_PYDANTIC):
        fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        return _plain_dict(fields, depth, characters)
    return _plain(_converted(value), depth + 1, characters)


def _is_simple(values: Collection[Any], characters: bool) -> bool:
    """Whether all of them stay as they are; told by their types, or not at all."""
    kinds = set(map(type, values))
    if kinds == {float}:
        return all(map(math.isfinite, values))
    if kinds == {int}:
        return bool(min(values) > -_SHORT and max(values) < _SHORT)
    return kinds == {str} and not characters


def _plain_dict(value: Mapping[Any, Any], depth: int, characters: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, part in value.items():
        name = key if type(key) is str else _name(key)
        _check_characters(name, characters)
        if name in found:
            first = next(other for other in value if (other if type(other) is str else _name(other)) == name)
            raise NotJson(f"has the keys {first!r} and {key!r}, which are both {name!r} in JSON")
        try:
            found[name] = _plain(part, depth + 1, characters)
        except NotJson as error:
            raise error.below(key) from None
    return found


def _name(key: Any) -> str:
    """A key as JSON has it."""
    if key is None:
        return "null"
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, tuple | list | set | frozenset):
        raise NotJson(f"has the key {key!r}, {kind_text(key)}: keys of JSON are texts")
    if isinstance(key, float) and not math.isfinite(key):
        raise NotJson(f"has the key {key!r}, which is no number of JSON")
    try:
        return str(next(iter(to_jsonable_python({key: None}))))
    except (PydanticSerializationError, ValueError, TypeError):
        raise NotJson(f"has a key of the type {type(key).__name__}: keys of JSON are texts") from None


def _converted(value: Any) -> Any:
    """Something that JSON does not know, as something that it does, or that is nearer to it."""
    try:
        # As text first: two keys that are one are still two in it, and numbers that are none are null in some.
        json.loads(to_json(value, inf_nan_mode="constants"), object_pairs_hook=_object)
        return to_jsonable_python(value, inf_nan_mode="constants")
    except PydanticSerializationError as error:
        try:
            return plain_values.plain(value)
        except plain_values.NotPlain as other:
            unknown = "unknown type" in str(error)
            reason = str(other) if unknown or "no time" in str(other) else f"cannot be written: {error}"
        except Exception:
            reason = f"is {kind_text(value)}"
    except NotJson:
        raise
    except (ValueError, RecursionError) as error:
        reason = f"cannot be written: {error}"
    raise NotJson(reason) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        name = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise NotJson(f"has two keys that are both {name!r} in JSON")
    return found


def _check_characters(text: str, wanted: bool) -> None:
    if wanted and (half := half_of_pair(text)) is not None:
        raise NotJson(f"has {half!r}, half of a surrogate pair, which is no character")


def _check_digits(value: int) -> None:
    try:
        str(value)
    except ValueError:
        pass  # it is told to write fewer
    else:
        if -TOO_LONG < value < TOO_LONG:
            return
    raise NotJson("is a whole number of more digits than Python writes as text")
