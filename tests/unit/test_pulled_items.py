"""A few of many items, as they were when they were pulled."""

from __future__ import annotations

import datetime
import pathlib
from multiprocessing import resource_sharer
from typing import Any

import pytest

from allcores.backends.pulled_items import SMALL_SHARE, opens_once, part_of, stream_of
from allcores.scheduler.chunk_parts import PulledItems
from allcores.shared_memory.buffers import BufferedPickle
from allcores.transport import pickling

COUNT = 40


class Own:
    """A class whose objects say when they are made anew."""

    made = 0

    def __setstate__(self, _: Any) -> None:
        type(self).made += 1

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}


class Fails:
    """A class whose objects cannot be made anew."""

    def __setstate__(self, _: Any) -> None:
        raise ValueError

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}


def pulled(items: list[Any]) -> PulledItems:
    return PulledItems(pickling.dumps(items), len(items))


@pytest.mark.parametrize(
    "make",
    [
        lambda number: number,
        lambda number: (str(number), b"bytes", 1.5, None, True),
        lambda number: {"number": [number, {number}, complex(number)]},
        lambda number: datetime.date(2026, 1, 1) + datetime.timedelta(number),
        lambda number: pathlib.Path(str(number)),
    ],
    ids=["int", "tuple", "dict", "date", "path"],
)
def test_plain_ones_are_read_back(make: Any) -> None:
    items = [make(number) for number in range(COUNT)]
    of_them = pulled(items)
    assert part_of(of_them, 7, 2, stream_of) == items[7:9]
    assert part_of(of_them, COUNT - 1, 1, stream_of) == items[-1:]


def test_they_are_read_once() -> None:
    looks: list[int] = []

    def look(payload: bytes | BufferedPickle) -> bytes | None:
        looks.append(1)
        return stream_of(payload)

    of_them = pulled([[number] for number in range(COUNT)])
    assert [part_of(of_them, number, 1, look) for number in range(COUNT)] == [[[number]] for number in range(COUNT)]
    assert len(looks) == 1


def test_no_object_of_the_program_is_made() -> None:
    """The scheduler waits meanwhile, and it may be one that cannot be made here."""
    of_them = pulled([Own() for _ in range(COUNT)])
    assert [part_of(of_them, number, 1, stream_of) for number in range(COUNT)] == [None] * COUNT
    assert not Own.made


def test_what_cannot_be_made_here_travels_whole() -> None:
    of_them = PulledItems(pickling.dumps([Fails() for _ in range(COUNT)]), COUNT)
    assert [part_of(of_them, number, 1, stream_of) for number in range(COUNT)] == [None] * COUNT


def test_many_of_them_travel_as_they_are() -> None:
    of_them = pulled(list(range(COUNT)))
    assert part_of(of_them, 0, COUNT // SMALL_SHARE, stream_of) is not None
    assert part_of(of_them, 0, COUNT // SMALL_SHARE + 1, stream_of) is None


def test_what_lies_elsewhere_is_left_there() -> None:
    of_them = PulledItems(BufferedPickle(b"\x01", 1, {}), COUNT)
    assert part_of(of_them, 0, 1, stream_of) is None


def test_what_opens_once_is_known() -> None:
    """A connection, whose descriptor is fetched by a key that is good for one time: it is told by its class."""
    assert opens_once(pickling.dumps([1, resource_sharer.DupFd]), stream_of)
    assert not opens_once(pickling.dumps([1, "a text about multiprocessing and its resource_sharer"]), stream_of)
