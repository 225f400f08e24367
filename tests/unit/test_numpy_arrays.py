"""What counts as an array of NumPy's: see `transport.numpy_arrays`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from allcores.transport.numpy_arrays import is_numpy_array

np = pytest.importorskip("numpy")


class Pretends:
    """By its names alone."""


Pretends.__name__ = Pretends.__qualname__ = "ndarray"
Pretends.__module__ = "numpy"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.zeros(3), True),
        (np.zeros((2, 0)), True),
        (np.array([object()]), True),
        (np.array(1.0), True),
        (np.float64(1.0), False),
        (np.ma.masked_array([1]), False),
        (np.rec.array([(1, 2)]), False),
        (memoryview(b""), False),
        ([], False),
        (Pretends(), False),
        (np.ndarray, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_array_is_one_of_exactly_that_type(value: object, expected: bool) -> None:
    assert is_numpy_array(value) is expected


def test_a_class_is_asked_nothing() -> None:
    """Its metaclass may answer with code of the program."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> object:
            raise AssertionError(name)

    class Asked(metaclass=Meta):
        pass

    assert not is_numpy_array(Asked())


def test_numpy_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from allcores.transport.numpy_arrays import is_numpy_array\n"
        "assert not is_numpy_array([])\n"
        "print('numpy' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
