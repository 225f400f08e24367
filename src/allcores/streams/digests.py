"""A running digest of an input: cheap enough for tiny items, the same wherever it is asked for."""

from __future__ import annotations

import hashlib
import io
import marshal
import pickle
from typing import Any

#: bytes; larger would not tell more inputs apart
_SIZE = 16
#: pieces that are hashed in one call. Larger saves calls, smaller holds less.
_PIECES = 2_048
#: items that are turned into bytes in one call
_BLOCK = 256


class Digest:
    """Of bytes and of items in their order, from a seed on.

    It does not depend on how often `value` is asked for, nor on where: so that a mark made at any item can be
    compared later with one that is made there again.
    """

    def __init__(self, seed: str = "") -> None:
        """seed: the value of another digest, which this one goes on with."""
        self._hash = hashlib.blake2b(seed.encode(), digest_size=_SIZE)
        self._pieces: list[bytes] = []
        self._items: list[Any] = []

    def add(self, piece: bytes) -> None:
        """Take in bytes. How they are cut into pieces does not matter."""
        self._pieces.append(piece)
        if len(self._pieces) >= _PIECES:
            self._flush()

    def add_item(self, item: Any) -> None:
        """Take in an item of any kind, as its bytes would travel."""
        self._items.append(item)
        if len(self._items) >= _BLOCK:
            self._pieces.append(_as_bytes(self._items))
            self._items = []
            if len(self._pieces) >= 16:
                self._flush()

    def value(self) -> str:
        """The digest of all that was taken in, in hexadecimal."""
        self._flush()
        if not self._items:
            return self._hash.hexdigest()
        copy = self._hash.copy()
        copy.update(_as_bytes(self._items))
        return copy.hexdigest()

    def _flush(self) -> None:
        self._hash.update(b"".join(self._pieces))
        self._pieces.clear()


def item_digest(item: Any) -> bytes:
    """The digest of one item."""
    return hashlib.blake2b(_as_bytes([item]), digest_size=_SIZE).digest()


def _as_bytes(items: list[Any]) -> bytes:
    try:
        # Version 2 knows no references: equal items give equal bytes, whether or not they are the same object.
        return marshal.dumps(items, 2)
    except (ValueError, TypeError):
        return b"".join(map(_pickled, items))


def _pickled(item: Any) -> bytes:
    file = io.BytesIO()
    try:
        pickler = pickle.Pickler(file, 5)
        pickler.fast = True  # no references, as above
        pickler.dump(item)
    except Exception:  # contains itself, or cannot be pickled: the pool will have more to say about that
        try:
            return pickle.dumps(item, 5)
        except Exception:
            return f"<{type(item).__module__}.{type(item).__qualname__}>".encode()
    return file.getvalue()
