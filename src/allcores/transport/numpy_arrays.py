"""Arrays of NumPy, told without importing it."""

from __future__ import annotations

import sys


def is_numpy_array(value: object) -> bool:
    """Whether it is a `numpy.ndarray` and no subclass, whose meaning may be another; runs no code of the program."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is getattr(numpy, "ndarray", None)
