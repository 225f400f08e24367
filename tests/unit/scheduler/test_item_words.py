"""Tests of what messages call an item."""

from __future__ import annotations

import datetime
import enum
from array import array
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pytest

from allcores.frames.group_call import Group
from allcores.scheduler.chunk_size import Chunker
from allcores.scheduler.function import Function
from allcores.scheduler.item_words import describe
from allcores.scheduler.map_state import Chunk, MapState


class Own:
    """What has code of its own wherever Python would look."""

    def __repr__(self) -> str:
        raise AssertionError("its own code runs")

    def __iter__(self) -> Any:
        raise AssertionError("its own code runs")

    def __lt__(self, other: object) -> bool:
        raise AssertionError("its own code runs")


class OwnText(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise AssertionError("its own code runs")

    __str__ = __repr__


class OwnList(list[Any]):
    def __repr__(self) -> str:
        raise AssertionError("its own code runs")

    def __iter__(self) -> Any:
        raise AssertionError("its own code runs")


class OwnNumber(float):
    def __repr__(self) -> str:
        raise AssertionError("its own code runs")


class Colour(enum.Enum):
    RED = Own()


class Point(NamedTuple):
    x: int
    y: object


@dataclass
class Rows:
    name: str
    rows: list[int]
    secret: str = field(default="hidden", repr=False)


@dataclass(slots=True)
class Slotted:
    name: str
    own: Own


@dataclass
class Login:
    password: str

    def __repr__(self) -> str:
        return "Login(***)"


class Key(NamedTuple):
    secret: str

    def __repr__(self) -> str:
        return "Key(***)"


def words(item: Any) -> str:
    map_state = MapState(1, chunker=Chunker())
    return describe(Chunk(map_state, Function(1, None, b"", "one", "work"), 7, [item]), 0)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Own(), "<Own>"),
        ([Own(), {"a": Own()}, (Own(),)], "[<Own>, {'a': <Own>}, (<Own>,)]"),
        ({"b": 1, "a": Own()}, "{'b': 1, 'a': <Own>}"),
        ({Own()}, "{<Own>}"),
        (frozenset({Own()}), "frozenset({<Own>})"),
        (OwnText("abc"), "<OwnText>"),
        (OwnList([1, 2]), "<OwnList>"),
        (OwnNumber(1.5), "<OwnNumber>"),
        (Colour.RED, "Colour.RED"),
        (Point(1, Own()), "Point(x=1, y=<Own>)"),
        (Rows("a", [1, 2]), "Rows(name='a', rows=[1, 2])"),
        (Slotted("a", Own()), "Slotted(name='a', own=<Own>)"),
        (Login("abc"), "<Login>"),
        (Key("abc"), "<Key>"),
        (OrderedDict(a=Own()), "OrderedDict({'a': <Own>})"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_code_of_an_item_runs(item: Any, text: str) -> None:
    """What is said of an item is made without code of its class: a lock is held, on which the pool waits."""
    assert words(item) == f"items[7] ({text})"


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (None, "None"),
        (3, "3"),
        (-1.5, "-1.5"),
        (True, "True"),
        ("a.png", "'a.png'"),
        (b"ab", "b'ab'"),
        (range(3), "range(0, 3)"),
        ((1, "a"), "(1, 'a')"),
        (set(), "set()"),
        ({}, "{}"),
        (PurePosixPath("a/b.png"), "PurePosixPath('a/b.png')"),
        (datetime.date(2026, 1, 31), "datetime.date(2026, 1, 31)"),
        (array("i", [1, 2]), "array('i', [1, 2])"),
        (Group(0, 2, "Bonn", ("city",)), "group city='Bonn'"),
        (Counter("aab"), "Counter({'a': 2, 'b': 1})"),
    ],
)
def test_plain_values_are_shown_as_python_shows_them(item: Any, text: str) -> None:
    """Small plain values are in messages as they would be in a program."""
    assert words(item) == f"items[7] ({text})"


@pytest.mark.parametrize(
    "item",
    [
        "x" * 10_000,
        b"x" * 10_000,
        bytearray(10_000),
        list(range(10_000)),
        dict.fromkeys(range(10_000)),
        set(range(10_000)),
        OwnList(range(10_000)),
        Counter(range(10_000)),
        array("i", range(10_000)),
        Rows("a" * 10_000, list(range(10_000))),
        10**10_000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_little_is_shown_of_what_is_large(item: Any) -> None:
    """However large an item is, a message has some words of it."""
    assert len(words(item)) < 200
