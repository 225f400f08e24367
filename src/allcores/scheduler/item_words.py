"""What messages call an item or a call."""

from __future__ import annotations

import enum
import reprlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allcores.scheduler.map_state import Chunk


#: what is looked at as Python does; classes that are derived from these may have code of their own
_PLAIN = frozenset({str, int, list, tuple, dict, set, frozenset, deque})
#: modules whose objects have a short text that is made without code of the program
_OF_SHORT_TEXT = frozenset({"datetime", "decimal", "fractions", "uuid", "ipaddress", "zoneinfo", "numpy"})
#: our own, whose items say which rows or group they are
_OF_OWN_TEXT = ("allcores.slices", "allcores.frames", "allcores.adapters")


def describe(chunk: Chunk, position: int) -> str:
    """Words for an item: its place and a short look at it, for which no code of the program runs.

    A lock may be held here on which the whole pool waits, and one of the program's that its `__repr__` takes may be
    held by a thread that waits for the pool.
    """
    if chunk.future is not None:
        function = chunk.function
        if function.words is None or position >= len(chunk.items):  # stolen meanwhile
            return f"{function.name}(...)"
        return function.words(function.name, *chunk.items[position])
    try:
        text = _item.repr(chunk.items[position])
    except Exception:  # it changes meanwhile
        return f"items[{chunk.first + position}]"
    return f"items[{chunk.first + position}] ({text})"


class _Short(reprlib.Repr):
    """Looks at plain values only, and at few of them: no code of the program runs."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 40
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 3
        self.maxlevel = 2

    def repr1(self, x: Any, level: int) -> str:
        # Told by the class, and not by its name as in the base class: a class of the program may have the same.
        return super().repr1(x, level) if type(x) in _PLAIN else self.repr_instance(x, level)

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, (float, complex, bool, type(None))):
            return repr(x)
        if isinstance(x, bytes):
            return repr(x[:40])
        if isinstance(x, int):
            return int.__repr__(x)
        if type(x).__module__.startswith("pathlib"):
            return self.repr_str(str(x), level)
        return f"<{type(x).__name__}>"

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 200 else f"<int of {x.bit_length()} bits>"

    # As they come: the base class sorts all of them.

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if not x:
            return "{}"
        pairs = (
            f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}"
            for key, value in islice(dict.items(x), self.maxdict if level > 0 else 0)
        )
        return f"{{{_row(pairs, more=level <= 0 or len(x) > self.maxdict)}}}"

    def repr_set(self, x: set[Any], level: int) -> str:
        return f"{{{self._elements(x, level, self.maxset)}}}" if x else "set()"

    def repr_frozenset(self, x: frozenset[Any], level: int) -> str:
        return f"frozenset({{{self._elements(x, level, self.maxfrozenset)}}})" if x else "frozenset()"

    def _elements(self, x: set[Any] | frozenset[Any], level: int, most: int) -> str:
        shown = (self.repr1(each, level - 1) for each in islice(x, most if level > 0 else 0))
        return _row(shown, more=level <= 0 or len(x) > most)


def _row(shown: Iterable[str], *, more: bool) -> str:
    return ", ".join([*shown, *(("...",) if more else ())])


class _Item(_Short):
    """The same for items, of which a little more is shown: fields of records, and values of well-known classes."""

    def __init__(self) -> None:
        reprlib.Repr.__init__(self)
        self.maxstring = self.maxother = 60

    def repr_instance(self, x: Any, level: int) -> str:
        kind = type(x)
        name = kind.__name__
        if kind is bytes or kind is bytearray:
            return self._cut(repr(x[: self.maxother]), longer=len(x) > self.maxother)
        if kind in (float, complex, bool, type(None), range) or kind.__module__ in _OF_SHORT_TEXT:
            has_objects = getattr(getattr(x, "dtype", None), "hasobject", False)
            return f"<{name}>" if has_objects else self._cut(repr(x))
        if kind.__module__.startswith(_OF_OWN_TEXT):
            return self._cut(repr(x))
        if kind.__module__ == "array":
            return f"array({x.typecode!r}, {self.repr1(list(x[: self.maxlist + 1]), level)})"
        if kind.__module__.startswith("pathlib"):
            return f"{name}({self.repr_str(str(x), level)})"
        if _has_own_text(kind):
            # It may hide what must not be shown.
            return f"<{name}>"
        if isinstance(x, enum.Enum):
            return f"{name}.{object.__getattribute__(x, '_name_')}"
        fields = kind.__dict__.get("__dataclass_fields__") or getattr(kind, "_fields", None)
        if fields and (isinstance(x, tuple) or "__dataclass_fields__" in kind.__dict__):
            return f"{name}({self._fields(x, fields, level)})"
        if isinstance(x, str):
            return self.repr_str(str.__str__(x), level)
        if isinstance(x, (float, int)):
            return float.__repr__(x) if isinstance(x, float) else self.repr_int(int.__int__(x), level)
        bases: tuple[tuple[Any, Any], ...] = ((dict, dict.items), (list, list.__iter__), (tuple, tuple.__iter__))
        for base, elements in bases:
            if isinstance(x, base):
                # One more than is shown, so that it is seen that there are more.
                return f"{name}({self.repr1(base(islice(elements(x), self.maxlist + 1)), level - 1)})"
        return f"<{name}>"

    def _fields(self, x: Any, fields: Iterable[str], level: int) -> str:
        if isinstance(x, tuple):
            pairs: Iterable[tuple[str, Any]] = zip(fields, tuple.__iter__(x), strict=False)
        else:
            pairs = _attributes(x, [name for name, field in type(x).__dataclass_fields__.items() if field.repr])
        few = list(islice(pairs, self.maxlist + 1 if level > 0 else 0))
        shown = (f"{name}={self.repr1(value, level - 1)}" for name, value in few[: self.maxlist])
        return _row(shown, more=level <= 0 or len(few) > self.maxlist)

    def _cut(self, text: str, *, longer: bool = False) -> str:
        if len(text) > self.maxother or longer:
            return f"{text[: self.maxother - 3]}..."
        return text


def _has_own_text(kind: type) -> bool:
    """Whether a class has a `__repr__` that neither Python nor `dataclass` has made."""
    owner = next(base for base in kind.__mro__ if "__repr__" in base.__dict__)
    if owner.__module__ in ("builtins", "collections", "enum"):
        return False
    made: Any = owner.__dict__["__repr__"]
    made = getattr(made, "__wrapped__", made)
    of_dataclass = "__dataclass_fields__" in owner.__dict__ and made.__code__.co_filename == "<string>"
    return not (of_dataclass or getattr(made, "__globals__", {}).get("__name__") == "collections")


def _attributes(x: Any, fields: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Those of a data class, by name; what a property would make is left out."""
    try:
        values: dict[str, Any] = object.__getattribute__(x, "__dict__")
    except AttributeError:
        values = {}
    for name in fields:
        slot = next((vars(base)[name] for base in type(x).__mro__ if name in vars(base)), None)
        if name in values:
            yield name, values[name]
        elif type(slot) is MemberDescriptorType:
            try:
                yield name, slot.__get__(x)
            except AttributeError:  # not set yet
                continue


_item = _Item()
_short = _Short()
#: characters of all arguments of a call that are shown
CALL_CHARACTERS = 80


def call_text(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A call as it may stand in a program, with a short look at its arguments: `Index.search('word', limit=3)`."""
    try:
        shown = [_short.repr(value) for value in args]
        shown += [f"{key}={_short.repr(value)}" for key, value in kwargs.items()]
    except Exception:  # they change meanwhile
        shown = ["..."]
    text = ", ".join(shown)
    return f"{name}({text if len(text) <= CALL_CHARACTERS else text[: CALL_CHARACTERS - 1] + '…'})"
