"""Digests tell values apart, also arrays, whose bytes alone may be the same."""

from __future__ import annotations

import array
import tracemalloc
from itertools import combinations
from typing import Any

import pytest

from allcores.sources.digest import Digest, item_digest

numpy = pytest.importorskip("numpy")

#: all different, and many of the same bytes
VALUES: list[Any] = [
    b"\0" * 48,
    numpy.zeros((2, 3)),
    numpy.zeros((3, 2)),
    numpy.zeros(6),
    numpy.zeros(6, dtype="int64"),
    numpy.zeros(12, dtype="int32"),
    numpy.zeros(6, dtype="datetime64[s]"),
    array.array("d", [0.0] * 6),
    array.array("q", [0] * 6),
    memoryview(bytes(48)),
    memoryview(array.array("q", [0] * 6)),
]


@pytest.mark.parametrize(
    "around",
    [lambda value: value, lambda value: [value], lambda value: (1, value), lambda value: {"a": [{"b": value}]}],
    ids=["bare", "list", "tuple", "deep"],
)
def test_what_differs_has_another_digest(around: Any) -> None:
    for one, other in combinations(VALUES, 2):
        assert item_digest(around(one)) != item_digest(around(other)), (one, other)


def test_equal_values_have_one_digest() -> None:
    word = "".join(["a", "b"])
    for one, other in [
        ([word, word], ["ab", "".join(["a", "b"])]),
        ({1: {2, 3}}, {1: {3, 2}}),
        (numpy.arange(6.0), numpy.arange(6.0)),
        ([numpy.arange(3)], [numpy.arange(3)]),
    ]:
        assert item_digest(one) == item_digest(other)


def test_values_that_contain_themselves_end() -> None:
    own: list[Any] = [1]
    own.append(own)
    assert item_digest(own) != item_digest([1])


def test_a_running_digest_tells_arrays_apart() -> None:
    digests = []
    for shape in [(2, 3), (3, 2)]:
        digest = Digest()
        digest.add_item("before")
        digest.add_item(numpy.zeros(shape))
        digests.append(digest.value())
    assert digests[0] != digests[1]


def test_large_pieces_are_not_gathered() -> None:
    """A block of a file, a line or an item may be large: few of them are held, and none is hashed twice."""
    megabyte = bytes(1 << 20)
    for add in ("add", "add_item"):
        tracemalloc.start()
        try:
            digest = Digest()
            for number in range(64):
                getattr(digest, add)(megabyte + bytes([number]))
            held, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 3 << 20 and most < 8 << 20, add


@pytest.mark.parametrize("length", [10, 999, 1_000, 1_001, 100_000])
def test_marks_do_not_change_a_digest(length: int) -> None:
    """Whether it is asked for behind each item, or at the end; and items are told apart, whatever their sizes."""
    items = [char * length for char in "abc"] + ["d", b"e" * length, 1]
    marked, whole = Digest(), Digest()
    seen = set()
    for item in items:
        marked.add_item(item)
        seen.add(marked.value())
        whole.add_item(item)
    assert marked.value() == whole.value() == marked.copy().value()
    assert len(seen) == len(items)
    other = Digest()
    for item in [*items[1:], items[0]]:
        other.add_item(item)
    assert other.value() != whole.value()
