"""Keys of a cache: digests of functions and of items, the same in each process, whatever its hash seed.

Two that differ never have the same bytes here: what has no bytes of its own has no key, and is not looked up.
"""

from __future__ import annotations

import hashlib
import io
import marshal
import pickle
import sys
import threading
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from allcores.cache.code import Facts
from allcores.cache.kinds import is_own, name_of
from allcores.errors import UsageError
from allcores.formatting import kind_text
from allcores.system import deferral
from allcores.transport.numpy_arrays import is_numpy_array

#: bytes of a key
SIZE = 16
#: what is counted up when keys are made in another way
_WAY = b"1"
#: types whose values `marshal` writes like no others: what has a buffer, an array for one, looks like bytes to it
_PLAIN = frozenset({str, bytes, int, float, complex, bool, type(None)})
#: operations of a pickle that make sets
_SETS = (pickle.EMPTY_SET, pickle.FROZENSET)

#: in each thread, the functions whose digests are being made, the innermost last; and the classes, by their ids
_underway = threading.local()
#: of what classes do, and what they name, at the beginning of a map
_class_digests: WeakKeyDictionary[type, bytes] = WeakKeyDictionary()


class NoKey(Exception):
    """A value has no bytes by which it is told from others."""


def forget_classes() -> None:
    """A map begins: what its items' classes do, and what they name, may be other than it was for the one before."""
    _class_digests.clear()


def function_key(function: Callable[..., Any], *more: Any) -> bytes:
    """The key of a function: its code, that of what it names, and what is bound to it.

    Args:
        function: Any callable.
        *more: What else tells results apart; plain data.

    Raises:
        UsageError: Something that is bound to it has no bytes.
    """
    forget_classes()
    python = (sys.implementation.name, *sys.version_info[:2])
    try:
        facts = Facts(key_bytes).of(function)
        return _digest(_WAY, key_bytes([python, facts, more]))
    except NoKey as error:
        raise UsageError(
            f"cache= needs a function whose results depend on nothing but its arguments, and around {name_of(function)}"
            f" (in its closure, defaults, partial arguments or object) there is {error}, which cannot be told from"
            " others of its kind. Hand it over another way (setup=, say), and name it by Cache(version=...)"
        ) from None


def item_key(function_key: bytes, item: Any) -> bytes:
    """The key of a function's result for an item.

    Raises:
        NoKey: The item has no bytes.
    """
    made = hashlib.blake2b(digest_size=SIZE, key=function_key)
    if _is_plain_array(item):
        # As it lies in memory, without a copy, if it does so row by row.
        made.update(b"a" + key_bytes((item.dtype.str, *item.shape)) + b".")
        made.update(item.data if item.flags.c_contiguous else item.tobytes())
    else:
        made.update(key_bytes(item))
    return made.digest()


def _is_plain_array(value: Any) -> bool:
    """Whether it is an array of NumPy's whose type says what its bytes are."""
    return is_numpy_array(value) and value.dtype.kind in "biufcSU"


def key_bytes(value: Any) -> bytes:
    """Bytes that no other value has.

    Raises:
        NoKey: There are none.
    """
    kind = type(value)
    if (
        kind in _PLAIN
        or ((kind is tuple or kind is list) and _PLAIN.issuperset(map(type, value)))
        or (kind is dict and _PLAIN.issuperset(map(type, value)) and _PLAIN.issuperset(map(type, value.values())))
    ):
        # Version 2 knows no references: equal values give equal bytes, whether or not their parts are the same object.
        return b"m" + marshal.dumps(value, 2)
    error: Exception = NoKey()
    for fast in (True, False):  # fast: no references, as above; it does not end at what contains itself
        try:
            data = _pickled(_Pickler, value, fast)
            if any(made in data for made in _SETS):
                # There may be a set in it, whose order is another in each process.
                data = b"s" + _pickled(_SetPickler, value, fast)
            return (b"p" if fast else b"r") + data
        except Exception as found:
            if deferral.raised_by_handler(found):
                raise  # a time limit of the program, say
            error = found
    raise NoKey(f"{kind_text(value)} ({error})") from None


def _pickled(kind: type[pickle.Pickler], value: Any, fast: bool) -> bytes:
    file = io.BytesIO()
    pickler = kind(file, 5)
    pickler.fast = fast
    pickler.dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Pickles the user's functions and classes by what they do, and other ones by their names."""

    def reducer_override(self, value: Any) -> Any:
        if value is stands_for:
            return NotImplemented
        if isinstance(value, type):
            return (stands_for, (_class_digest(value),)) if is_own(value) else NotImplemented
        if isinstance(value, FunctionType):
            return (stands_for, (_function_digest(value),)) if is_own(value) else NotImplemented
        if isinstance(value, ModuleType):
            return stands_for, (name_of(value),)
        if isinstance(value, (set, frozenset)):
            # Sets of a subclass: those of the two types themselves do not come by here.
            return stands_for, (type(value), _elements(value), getattr(value, "__dict__", None))
        return NotImplemented


class _SetPickler(_Pickler):
    """The same, and sets in an order of their own."""

    def persistent_id(self, value: Any) -> Any:
        kind = type(value)
        return (kind.__name__, _elements(value)) if kind is set or kind is frozenset else None


def stands_for(*facts: Any) -> Any:
    """What a pickle calls that is never read."""
    raise pickle.UnpicklingError("these are the bytes of a key")


def _elements(values: Any) -> list[bytes]:
    return sorted(_digest(key_bytes(value)) for value in values)


def _function_digest(function: FunctionType) -> bytes:
    """Of one that is bound to another; where it is bound to itself, by way of whatever, it says how far up that is."""
    above: list[FunctionType] = _underway.__dict__.setdefault("functions", [])
    for distance, each in enumerate(reversed(above)):
        if each is function:
            return f"{name_of(function)} {distance}".encode()
    above.append(function)
    try:
        return _digest(key_bytes(Facts(key_bytes).of(function)))
    finally:
        above.pop()


def _class_digest(kind: type) -> bytes:
    underway: set[int] = _underway.__dict__.setdefault("classes", set())
    if id(kind) in underway:
        # By its name: it is in what its own methods name.
        return name_of(kind).encode()
    digest = _class_digests.get(kind)
    if digest is None:
        underway.add(id(kind))
        try:
            digest = _digest(key_bytes(Facts(key_bytes).of(kind)))
        finally:
            underway.discard(id(kind))
        _class_digests[kind] = digest
    return digest


def _digest(*parts: bytes) -> bytes:
    made = hashlib.blake2b(digest_size=SIZE)
    for part in parts:
        made.update(part)
    return made.digest()
