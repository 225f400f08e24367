"""The items that a function is measured with: how they are read, and which of them are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from allcores.advisor.measuring import sample, travel
from allcores.advisor.measuring.sample import Beginning, Sample
from allcores.advisor.tuning.known import known_by
from allcores.cli import measured
from allcores.system import procfs


class Clock:
    """Stands still but for what an input takes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pulled = 0

    def slow_input(self, item_s: float) -> Iterator[int]:
        """No end of items that take so many seconds each."""
        while True:
            self.now += item_s
            self.pulled += 1
            yield self.pulled


@pytest.mark.parametrize(
    ("module", "read"),
    [(sample, lambda items: Sample(items).count), (measured, lambda items: len(measured._read(items)[0]))],
)
def test_a_slow_input_is_read_for_its_seconds_alone(
    module: ModuleType, read: Callable[[Any], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "perf_counter", lambda: clock.now)
    assert read(clock.slow_input(0.6)) == clock.pulled
    assert clock.now <= module.READ_S + 0.6


def rows_in_one() -> Iterator[dict[str, Any]]:
    row: dict[str, Any] = {}
    for number in range(50):
        row["id"], row["body"] = number, bytearray(100)
        yield row


def test_an_input_that_fills_one_object_anew_has_different_items() -> None:
    """Else all of them would be the last one, and what is in that an object that all of them have in common."""
    found = Sample(rows_in_one()).take(50)
    assert [item["id"] for _, item in sorted(found, key=lambda pair: pair[0])] == list(range(50))
    assert travel.common_object([item for _, item in found]) is None


@pytest.mark.parametrize("make", [lambda clock: clock.slow_input(0.03), lambda clock: Stored(clock, 1_000, 0.03)])
def test_large_items_are_read_while_there_is_room(
    make: Callable[[Clock], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second is enough for gigabytes of them: each takes a hundredth of what is available here."""
    clock = Clock()
    monkeypatch.setattr(sample, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(procfs, "resident_bytes", lambda pid: 5_000 + 100 * clock.pulled)
    monkeypatch.setattr(sample, "machine_memory", lambda: SimpleNamespace(available=10_000))
    assert Sample(make(clock)).count == 21


class Stored(Sequence[int]):
    """As a data set on a disk is: it has a length, and reads each item when it is asked for."""

    def __init__(self, clock: Clock, count: int, item_s: float) -> None:
        self._clock, self._count, self._item_s = clock, count, item_s

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        self._clock.now += self._item_s
        self._clock.pulled += 1
        return 10 * place


def test_a_sequence_that_reads_its_items_is_read_for_those_seconds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And from all over it; each of those is asked for once, however often it is looked at and taken."""
    clock = Clock()
    monkeypatch.setattr(sample, "perf_counter", lambda: clock.now)
    found = Sample(Stored(clock, 1_000, 0.01))
    assert found.total == 1_000 and not found.whole
    assert clock.now <= sample.READ_S + 0.02
    assert found.count == clock.pulled > 90
    looked = found.look(20) + found.take(200) + found.take(5) + found.beginning(3)
    found.called(index for index, _ in looked)
    assert all(item == 10 * index for index, item in looked)
    assert clock.pulled == found.count
    assert found.called_on()[0][0] == 0 and found.called_on()[-1][1] > 900
    assert known_by(found) == known_by(Sample(Stored(clock, 1_000, 0.02)))
    few = Sample(Stored(clock, 5, 0.01))
    assert (few.count, few.whole, clock.now > 0) == (5, True, True)
    pulled = clock.pulled
    quick = Sample(Stored(clock, 1_000, 0.0))
    assert (quick.count, quick.whole, clock.pulled - pulled) == (1_000, True, sample.LOOKS)


class Table:
    """As data frames are: its length is that of its rows, its items are names of columns, and so is what it gives."""

    columns = ("a", "b")

    def __len__(self) -> int:
        return 1_000

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __getitem__(self, name: str) -> list[int]:
        return {"a": [1], "b": [2]}[name]


class Pairs:
    """Has keys, and is no `Mapping`."""

    def __init__(self) -> None:
        self._pairs = {"a": 1, "b": 2, "c": 3}

    def keys(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __getitem__(self, name: str) -> int:
        return self._pairs[name]


def series() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.Series([1, 2, 3, 4], index=[10, 20, 30, 40])[lambda values: values % 2 == 0]


def frame() -> Any:
    return pytest.importorskip("pandas").DataFrame({"x": [1, 2, 3], "y": [4, 5, 6]})


@pytest.mark.parametrize("make", [Table, Pairs, series, frame, lambda: {"a": 1}, lambda: "abc", lambda: range(5)])
def test_items_are_what_an_iteration_gives(make: Callable[[], Any]) -> None:
    items = make()
    found = Sample(items)
    assert found.count == found.total == len(list(items))
    assert sorted(item for _, item in found.take(10)) == sorted(items)


def test_the_length_of_what_is_read_in_part_is_known_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "MOST_READ", 2)
    found = Sample(dict.fromkeys(range(1_000)))
    assert (found.count, found.total) == (3, 1_000)


@pytest.mark.parametrize(("total", "expected"), [(None, None), (0, 3), (2, 3), (99, 99)])
def test_there_are_no_fewer_items_than_were_read(
    total: int | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "MOST_READ", 2)
    assert Sample(iter(range(1_000)), total=total).total == expected


def test_an_input_that_is_read_in_part_is_known_again_however_far_that_came() -> None:
    """A search that was ended goes on with the same items."""
    once, again, other = (
        Sample(Beginning(list(numbers)), total=99) for numbers in (range(30), range(20), range(1, 31))
    )
    assert known_by(once) == known_by(again) != known_by(other)
    once.cut(again.count)
    assert once.count == 20
    assert once.look_from(15, 20) == again.look_from(15, 20)
    whole = Sample(range(7))
    whole.cut(5)
    assert whole.count == 7
