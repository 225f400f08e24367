"""Inputs that yield one object again and again: what is taken of them, item by item."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from threading import Lock
from typing import Any

import pytest

from allcores.outcome import Kind
from allcores.pool.executor_map import all_of
from allcores.transport import refilled_items
from allcores.transport.refilled_items import COMPARISONS, LOOKS, RefilledItems, as_pulled

COUNT = 50


def one_dict() -> Iterator[Any]:
    row: dict[str, int] = {}
    for number in range(COUNT):
        row["number"] = number
        yield row


def one_list() -> Iterator[Any]:
    row = [0]
    for number in range(COUNT):
        row[0] = number
        yield row


def two_in_turns() -> Iterator[Any]:
    rows = [[0], [0]]
    for number in range(COUNT):
        rows[number % 2][0] = number
        yield rows[number % 2]


def in_a_tuple() -> Iterator[Any]:
    row = bytearray(1)
    for number in range(COUNT):
        row[0] = number
        yield "same", row


def in_a_dict() -> Iterator[Any]:
    row = [0]
    for number in range(COUNT):
        row[0] = number
        yield {"row": row}


def in_a_new_list() -> Iterator[Any]:
    row = {"number": 0}
    for number in range(COUNT):
        row["number"] = number
        yield [row]


def late() -> Iterator[Any]:
    """Not with the second one."""
    row = [0]
    for number in range(COUNT):
        row[0] = number // 3
        yield row


INPUTS = [one_dict, one_list, two_in_turns, in_a_tuple, in_a_dict, in_a_new_list, late]


@pytest.mark.parametrize("make", INPUTS)
def test_items_are_what_they_were_when_they_were_pulled(make: Callable[[], Iterator[Any]]) -> None:
    assert [repr(item) for item in as_pulled(make())] == [repr(item) for item in make()]


@pytest.mark.parametrize("make", INPUTS)
def test_items_that_travel_alone_are_copied_once_it_is_known(make: Callable[[], Iterator[Any]]) -> None:
    """So that an outcome shows the item that it is of."""
    refilled = RefilledItems()
    found = []
    for item in make():
        found.append(refilled.see(item, alone=True))
        assert refilled.needed
    first = {two_in_turns: 4, late: 3}.get(make, 2)
    assert [repr(item) for item in found[first:]] == [repr(item) for item in make()][first:]


def watched(items: Iterator[Any]) -> int:
    """How many items are looked at."""
    refilled, count = RefilledItems(), 0
    while refilled.needed:
        refilled.see(next(items), alone=True)
        count += 1
    return count


@pytest.mark.parametrize(
    ("items", "count"),
    [
        ((number for number in range(COUNT)), LOOKS),
        ((str(number) for number in range(COUNT)), LOOKS),
        (((number, "text") for number in range(COUNT)), LOOKS),
        (([number] for number in range(COUNT)), LOOKS),
        (({"number": number} for number in range(COUNT)), LOOKS),
        # the same twice, and never changed: the third is the first that can be compared
        (zip(range(COUNT), [settings := {"of": "all"}] * COUNT, strict=False), 2 + COMPARISONS),
        ((settings for _ in range(COUNT)), 2 + COMPARISONS),
    ],
    ids=["int", "str", "tuple", "list", "dict", "zipped", "constant"],
)
def test_others_are_looked_at_for_a_short_while(items: Iterator[Any], count: int) -> None:
    assert watched(items) == count


def test_large_ones_are_compared_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refilled_items, "COMPARED_BYTES", 10_000)
    large = bytearray(20_000)
    assert watched(large for _ in range(COUNT)) < 1 + COMPARISONS


def test_what_is_in_memory_is_not_looked_at() -> None:
    rows = [[0]] * COUNT
    for items in (rows, tuple(rows)):
        assert all(item is rows[0] for item in as_pulled(items))


def test_a_copy_is_made_as_its_item_is() -> None:
    """What is in it twice is once in the copy, what holds itself does so, and an array lies in memory as it did."""
    np = pytest.importorskip("numpy")

    def filled() -> Iterator[Any]:
        array = np.zeros((2, 3), order="F")
        row: list[Any] = [array, {"again": array}, (array, deque([array], maxlen=3)), {1, 2}]
        row.append(row)
        for number in range(LOOKS + 3):
            array[:] = number
            yield row

    for number, row in enumerate(list(as_pulled(filled()))):
        array, table, (in_tuple, queue), numbers, itself = row
        assert table["again"] is array
        assert in_tuple is array
        assert queue[0] is array
        assert queue.maxlen == 3
        assert numbers == {1, 2}
        assert itself is row
        assert array.flags.f_contiguous
        assert (array == number).all()


def test_what_cannot_be_copied_is_taken_as_it_is() -> None:
    lock = Lock()
    assert [item[1] is lock for item in as_pulled((number, lock) for number in range(COUNT))] == [True] * COUNT


def test_the_number_of_an_object_that_is_gone_is_not_taken_for_it() -> None:
    """Two come twice each, one after the other; the second may lie where the first lay."""

    def in_pairs() -> Iterator[Any]:
        for number in range(COUNT):
            row = [number]
            yield row
            yield row
            del row

    assert watched(in_pairs()) <= COUNT


def test_a_signal_handler_s_exception_is_not_swallowed() -> None:
    class Interrupted:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    item = [Interrupted()]
    with pytest.raises(KeyboardInterrupt):
        list(as_pulled(item for _ in range(COUNT)))


class Owner:
    """Something that must not be there twice, and is no row that is filled anew."""

    def __deepcopy__(self, _: object) -> Any:
        raise AssertionError("it was copied")

    def __reduce__(self) -> Any:
        raise AssertionError("it was pickled")


@pytest.mark.parametrize("kind", ["itself", "tuple", "list", "dict"])
def test_what_is_not_plain_is_never_copied(kind: str) -> None:
    owner = Owner()

    def items() -> Iterator[Any]:
        for number in range(COUNT):
            pair = number, owner
            yield {"itself": owner, "tuple": pair, "list": list(pair), "dict": dict(enumerate(pair))}[kind]

    assert all((item if kind == "itself" else item[1]) is owner for item in as_pulled(items()))


def test_a_large_table_that_all_items_have_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be in memory several times. What cannot travel alone may be larger than what can."""
    monkeypatch.setattr(refilled_items, "MOST_COPIED", 10_000)
    row = bytearray(20_000)
    assert RefilledItems().see((1, row), alone=False)[1] is row
    assert RefilledItems().see((1, row), alone=False, may_stay=False)[1] is not row
    table = bytearray(10_000 * refilled_items.AT_ALL_COSTS + 1)
    found = list(as_pulled((number, table) for number in range(COUNT)))
    assert all(item[1] is table for item in found)


def test_a_constant_of_several_inputs_is_not_copied() -> None:
    settings = {"of": "all"}
    style, items = all_of((range(COUNT), itertools.repeat(settings)))
    assert style == "star"
    assert all(item[1] is settings for item in items)


def test_a_row_of_several_inputs_is() -> None:
    _, items = all_of((range(COUNT), one_list()))
    assert items == [(number, [number]) for number in range(COUNT)]


@pytest.mark.parametrize("constant", [Kind.FAILED, frozenset(), (1, "a"), None, 3.5])
def test_constants_that_are_returned_are_not_watched_for_long(constant: Any) -> None:
    refilled, count = RefilledItems(), 0
    while refilled.needed:
        refilled.look(constant)
        count += 1
    assert count == LOOKS


def test_a_table_that_is_returned_each_time_is_believed_after_a_while() -> None:
    refilled, table, count = RefilledItems(), {"of": "all"}, 0
    while refilled.needed:
        refilled.look((count, table))
        count += 1
    assert count == 2 + COMPARISONS


def test_one_that_comes_in_pairs_in_short_chunks_is_not_believed() -> None:
    """There is nothing to compare it with: each time it is the first of its chunk."""
    refilled, row = RefilledItems(), [0]
    for number in range(100):
        for _ in range(2):
            row[0] = number
            refilled.look(row)
        refilled.let_go()
    assert refilled.needed


@pytest.mark.parametrize("length", [1, 2, LOOKS - 1])
def test_those_of_short_chunks_are_always_looked_at(length: int) -> None:
    """Two in turns show in the third, one that comes twice in the third, and the next chunk may be longer."""
    refilled, row = RefilledItems(), [0]
    for again in (False, True):
        for _ in range(10):
            for number in range(min(length, 2)):
                refilled.look(row if again else [number])
            refilled.let_go()
    assert refilled.watching
    for number in range(3):
        row[0] = number
        refilled.look(row)
    assert refilled.found


class AsksAgain:
    """Begins anew when it is asked once more after its end, as a terminal does, or after it has raised."""

    def __init__(self, count: int, error: type[Exception]) -> None:
        self._left = self._count = count
        self._error = error
        self.ends = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self._left -= 1
        if self._left < 0:
            self._left = self._count
            self.ends += 1
            raise self._error
        return self._left


@pytest.mark.parametrize("count", [0, 1, LOOKS - 1, LOOKS, LOOKS + 1, 100])
@pytest.mark.parametrize("error", [StopIteration, OSError])
def test_an_input_that_has_ended_is_not_asked_again(count: int, error: type[Exception]) -> None:
    source = AsksAgain(count, error)
    items = as_pulled(source)
    found: list[int] = []
    with contextlib.suppress(OSError):
        found.extend(items)
    assert len(found) == count
    assert source.ends == 1


def test_a_generator_that_is_left_is_not_closed() -> None:
    for left in (1, LOOKS, LOOKS + 5):
        source = (number for number in range(COUNT))
        items = as_pulled(source)
        assert list(islice(items, left)) == list(range(left))
        del items
        assert next(source) == left
