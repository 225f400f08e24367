"""The home of numpy: arrays that workers fill together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allcores.shared_memory import buffers
from allcores.shared_memory.buffers import WRITE

if TYPE_CHECKING:
    from allcores.shared_memory.buffers import Place
    from allcores.shared_memory.objects import SharedObjects


class SharedArray(np.ndarray[Any, Any]):
    """An array in memory that all workers of a pool read and write. From `Pool.empty_shared`.

    It and every view of it (a slice, every other row, a transpose) are given to functions by reference: what a
    worker writes is seen by all. Let workers write disjoint parts. Results of arithmetic are ordinary arrays.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        batch = buffers.at_work.batch
        place = batch.place_of(_span(self)) if batch is not None and self.size else None
        if place is None:
            return np.array(self, copy=True, subok=False).__reduce_ex__(protocol)
        first = self.__array_interface__["data"][0] - bounds(self)[0]
        return attach, (place, self.shape, self.dtype, self.strides, first, self.flags.writeable)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        # What is computed from it lies elsewhere.
        return array[()] if return_scalar or array.ndim == 0 else np.asarray(array)


def _span(array: Any) -> memoryview:
    """The bytes between an array's lowest and highest address, gaps included."""
    import ctypes

    low, high = bounds(array)
    view = memoryview((ctypes.c_ubyte * (high - low)).from_address(low))
    # What keeps the memory is the array.
    base: Any = view.obj
    base.array = array
    return view.cast("B")


def bounds(array: Any) -> tuple[int, int]:
    """Its lowest address, and the one after its highest."""
    low = high = array.__array_interface__["data"][0]
    for length, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (length - 1) * stride
        else:
            high += (length - 1) * stride
    return low, high + array.itemsize


def attach(
    place: Place, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...], first: int, is_writable: bool
) -> SharedArray:
    """In a worker: the same memory."""
    decoder = buffers.at_work.decoder
    assert decoder is not None
    view = decoder.view(place)
    return SharedArray(shape, dtype, view if is_writable else view.toreadonly(), first, strides)


def empty_shared(shared_objects: SharedObjects, shape: Any, dtype: Any) -> SharedArray:
    """A new array, all zero. Raises what numpy raises for a shape or dtype that makes no sense, and OSError."""
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"dtype={dtype!r} holds Python objects, which cannot be shared between processes")
    like = np.broadcast_to(np.zeros((), kind), shape)
    size = like.size * kind.itemsize
    return SharedArray(like.shape, kind, shared_objects.room(size, WRITE)[:size])
