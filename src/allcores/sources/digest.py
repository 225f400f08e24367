"""A running digest of an input: cheap enough for tiny items, the same wherever it is asked for."""

from __future__ import annotations

import contextlib
import hashlib
import io
import marshal
import pickle
import types
from typing import Any

#: bytes; larger would not tell more inputs apart
_SIZE = 16
#: pieces that are hashed in one call. Larger saves calls, smaller holds less.
_PIECES = 2_048
#: and bytes of them
_PIECES_BYTES = 1 << 20
#: items that are turned into bytes in one call
_BLOCK = 256
#: characters or bytes of an item that is turned into bytes by itself: a block is held, and hashed anew for each mark
_LARGE = 1_000
#: types of which no task can change a value, so that their bytes may be made later, many at once
_FIXED = frozenset({str, bytes, int, float, complex, bool, type(None)})


class Digest:
    """Of bytes and of items in their order, from a seed on.

    It does not depend on how often `value` is asked for, nor on where: so that a mark made at any item can be
    compared later with one that is made there again.
    """

    def __init__(self, seed: str = "") -> None:
        """See the class.

        Args:
            seed: The value of another digest, which this one goes on with.
        """
        self._hash = hashlib.blake2b(seed.encode(), digest_size=_SIZE)
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._items: list[Any] = []

    def add(self, piece: bytes) -> None:
        """Take in bytes. How they are cut into pieces does not matter."""
        self._end_block()
        self._pieces.append(piece)
        self._bytes += len(piece)
        if len(self._pieces) >= _PIECES or self._bytes >= _PIECES_BYTES:
            self._flush()

    def add_item(self, item: Any) -> None:
        """Take in an item of any kind, as its bytes would travel, and as it is now: a task may change it."""
        kind = type(item)
        if kind not in _FIXED or ((kind is str or kind is bytes) and len(item) > _LARGE):
            self._end_block()
            piece = as_bytes([item])
            self._pieces.append(piece)
            self._bytes += len(piece)
        else:
            self._items.append(item)
            if len(self._items) < _BLOCK:
                return
            self._end_block()
        if len(self._pieces) >= 16 or self._bytes >= _PIECES_BYTES:
            self._flush()

    def _end_block(self) -> None:
        if self._items:
            piece = as_bytes(self._items)
            self._pieces.append(piece)
            self._bytes += len(piece)
            self._items = []

    def value(self) -> str:
        """The digest of all that was taken in, in hexadecimal."""
        self._flush()
        if not self._items:
            return self._hash.hexdigest()
        copy = self._hash.copy()
        copy.update(as_bytes(self._items))
        return copy.hexdigest()

    def copy(self) -> Digest:
        """Another one that goes on by itself."""
        self._flush()
        other = Digest()
        other._hash, other._items = self._hash.copy(), list(self._items)
        return other

    def _flush(self) -> None:
        self._hash.update(b"".join(self._pieces))
        self._pieces.clear()
        self._bytes = 0


def item_digest(item: Any) -> bytes:
    """The digest of one item."""
    return hashlib.blake2b(as_bytes([item]), digest_size=_SIZE).digest()


def as_bytes(items: list[Any]) -> bytes:
    """Items as bytes that are the same in each process, whatever its hash seed."""
    with contextlib.suppress(ValueError, RecursionError):  # nested too deeply, or in itself
        if all(map(_is_plain, items)):
            # Version 2 knows no references: equal items give equal bytes, whether or not they are the same object. It
            # sorts sets.
            return marshal.dumps(items, 2)
    return b"".join(map(_pickled, items))


def _is_plain(value: Any) -> bool:
    """Whether `marshal` writes it like no other value: of what has a buffer (an array) it writes the bare bytes."""
    kind = type(value)
    if kind in _FIXED:
        return True
    if kind is dict:
        parts = [*value, *value.values()]
    elif kind is tuple or kind is list or kind is set or kind is frozenset:
        parts = value
    else:
        return False
    return _FIXED.issuperset(map(type, parts)) or all(map(_is_plain, parts))


class _Pickler(pickle.Pickler):
    """Pickles sets in an order of their own, and what has no bytes but a name by that name."""

    def persistent_id(self, value: Any) -> Any:
        kind = type(value)
        if kind is memoryview:
            return kind.__name__, value.format, value.shape, value.tobytes()
        if kind is set or kind is frozenset:
            return kind.__name__, sorted(map(item_digest, value))
        if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)):
            name = getattr(value, "__qualname__", value.__name__)
            return kind.__name__, getattr(value, "__module__", None), name
        return None

    def reducer_override(self, value: Any) -> Any:
        # Sets of a subclass hand out their elements in the order of the hashes, too.
        if isinstance(value, (set, frozenset)):
            return tuple, (type(value).__qualname__, sorted(map(item_digest, value)), getattr(value, "__dict__", None))
        return NotImplemented


def _pickled(item: Any) -> bytes:
    for fast in (True, False):  # fast: no references, as above; it does not end at what contains itself
        file = io.BytesIO()
        pickler = _Pickler(file, 5)
        pickler.fast = fast
        with contextlib.suppress(Exception):  # cannot be pickled: the pool will have more to say about that
            pickler.dump(item)
            return file.getvalue()
    return f"<{type(item).__module__}.{type(item).__qualname__}>".encode()
