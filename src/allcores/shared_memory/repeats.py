"""The same large array given to many tasks is noticed, and copied once instead of for each of them.

Told by address and size, and then by comparing every byte with the copy: an array that was changed in
between (a generator that fills one buffer again and again) is another array. Once is enough as long as the
caller's own code does not run: in a `map` of a list, say, which is one `ConstantItems`. Receivers get private copies
of its pages, so that a task that writes to its argument is the only one to see that.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict

from allcores.transport.numpy_arrays import is_numpy_array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from allcores.shared_memory.allocator import Lease

#: Bytes from which on it pays to look.
LEAST = 1 << 20
#: Arrays that are remembered.
MOST = 8


class ConstantItems:
    """A time in which the arrays among `items` cannot change: the one who could change them waits for us.

    Only plain NumPy arrays that are items, or in an item that is a tuple, count: anything else runs code of its own
    when it is pickled, which might fill the same buffer anew.
    """

    def __init__(self, items: Sequence[object]) -> None:
        self._items = items
        self._arrays: set[int] | None = None

    def covers(self, owner: object) -> bool:
        """Whether a buffer of this object is sure not to change. The first call looks through all items."""
        if self._arrays is None:
            parts = (part for item in self._items for part in (item if type(item) is tuple else (item,)))
            self._arrays = {id(part) for part in parts if is_numpy_array(part)}
        return id(owner) in self._arrays


class RepeatCache:
    """What was sent lately. Used with its packer's lock held."""

    def __init__(self) -> None:
        #: (address, bytes) -> a copy that may be given to any number of receivers; None after the first time
        self._seen: OrderedDict[tuple[int, int], tuple[Lease, memoryview] | None] = OrderedDict()
        #: the constant items for which a copy was last compared
        self._compared: dict[tuple[int, int], ConstantItems | None] = {}

    def place(
        self,
        raw: memoryview,
        copy: Callable[[memoryview], tuple[Lease, memoryview] | None],
        constant_items: ConstantItems | None = None,
    ) -> Lease | None:
        """A copy that others have, too; None if this is the first time, or there is no room for one.

        Args:
            copy: Makes one, as a lease and a view of its bytes.
            constant_items: What they cover is compared once.
        """
        if constant_items is not None and not constant_items.covers(raw.obj):
            constant_items = None
        key = (address_of(raw), raw.nbytes)
        if key not in self._seen:
            while len(self._seen) >= MOST:
                old, _ = self._seen.popitem(last=False)
                self._compared.pop(old, None)
            self._seen[key] = None
            return None
        self._seen.move_to_end(key)
        known = self._seen[key]
        if known is None or not (
            (constant_items is not None and self._compared.get(key) is constant_items) or _same(known[1], raw)
        ):
            known = self._seen[key] = copy(raw)
        self._compared[key] = constant_items
        return known[0] if known is not None else None

    def __len__(self) -> int:
        return sum(copy is not None for copy in self._seen.values())

    def forget(self) -> bool:
        """Let go of all copies; True if there were any."""
        found = bool(len(self))
        self._seen.clear()
        self._compared.clear()
        return found


def _same(one: memoryview, other: memoryview) -> bool:
    compare: Any = ctypes.CDLL(None).memcmp
    compare.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
    return not compare(address_of(one), address_of(other), other.nbytes)


class _PyBuffer(ctypes.Structure):
    """Py_buffer of the C API."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def address_of(view: memoryview) -> int:
    """Where its bytes lie; ctypes.addressof takes writable ones only."""
    buffer = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    try:
        return int(buffer.buf or 0)
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
