"""worker/folding.py: which merged values are pickled at once, and what becomes of one that cannot be packed."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import pytest
from tests.unit.scheduler.harness import FUNCTION, Harness

from allcores.backends.processes.decoding import results_of
from allcores.scheduler.map_state import Chunk
from allcores.transport import frames
from allcores.transport.reduction import MERGED, Reduction
from allcores.worker import folding
from allcores.worker.folding import Fold, is_of_arrays, packing
from allcores.worker.result_packer import ResultPacker

numpy = pytest.importorskip("numpy")
LARGE = 50_000


def large(number: int) -> Any:
    return numpy.full(LARGE, float(number))


def fold(fn: Any, items: range, *, merge: Any = operator.add, shared: bool = True) -> Fold:
    reduction = Reduction(fn, merge)
    made = Fold(reduction, reduction, shared=shared)
    for item in items:
        made.add(item)
    return made


FREE = {
    "an array": lambda: large(1),
    "a tuple": lambda: (large(1), 3, "x", None),
    "a list": lambda: [large(1), large(2)],
    "a dict": lambda: {"mean": large(1), 5: 0.5},
    "one that is not in one piece": lambda: large(1)[::2],
}
OTHERS = {
    "a small array": lambda: numpy.zeros(10),
    "an array of objects": lambda: numpy.full(LARGE, object()),
    "an array with what nobody knows": lambda: numpy.zeros(LARGE, numpy.dtype("f8", metadata={"a": object()})),
    "a subclass": lambda: numpy.ma.masked_array(large(1)),
    "a container further down": lambda: [large(1), [large(2)]],
    "an object beside it": lambda: (large(1), object()),
    "a key of a class": lambda: {object(): large(1)},
    "a subclass of dict": lambda: Counter({"a": 1}),
    "many parts": lambda: [large(1)] * 1_000,
    "no array": lambda: "x" * LARGE * 8,
}


@pytest.mark.parametrize("make", FREE.values(), ids=FREE)
def test_large_arrays_with_scalars_go_as_they_are(make: Any) -> None:
    assert is_of_arrays(make())


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_what_may_fail_or_is_small_does_not(make: Any) -> None:
    assert not is_of_arrays(make())


def test_the_value_of_a_run_is_the_array_itself_and_all_others_have_an_entry() -> None:
    ((value, nothing), *others) = fold(large, range(5)).take(aligned=False)
    assert nothing is None and value[0] == 10.0
    assert others == [MERGED] * 4


@pytest.mark.parametrize("why", ["no shared memory", "many items"])
def test_else_it_is_pickled(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "MOST_ENTRIES", 4)
    items = range(5 if why == "many items" else 3)
    ((data,),) = fold(large, items, shared=why == "many items").take(aligned=False)
    assert isinstance(data, bytes) and len(data) > LARGE * 8


def test_a_run_that_ended_at_a_failure_is_pickled_then() -> None:
    """The function may fill the same array again before the report."""
    out = numpy.zeros(LARGE)

    def refilled(number: int) -> Any:
        if number == 2:
            raise ValueError
        out.fill(number)
        return out

    made = fold(refilled, range(1, 2))
    with pytest.raises(ValueError):
        made.add(2)
    made.add(3)
    first, second = made.take(aligned=True)
    assert len(first) == 1 and second[0] is out


def test_a_batch_whose_value_is_an_array() -> None:
    call = packing(lambda batch: [(large(len(batch)), None), *[MERGED] * (len(batch) - 1)], shared=True)
    ((value, _), *others) = call([1, 2, 3])
    assert value[0] == 3.0 and others == [MERGED] * 2
    # Whether arrays in a container are filled again is seen by nobody.
    call = packing(lambda batch: [((large(len(batch)), 1), None)], shared=True)
    assert isinstance(call([1])[0][0], bytes)


class Refused:
    """An array's memory, for which there is none."""

    def __reduce__(self) -> Any:
        raise MemoryError("no room")


class Unread:
    """What cannot be read."""

    def __reduce__(self) -> Any:
        return _raising, ()


def _raising() -> None:
    raise MemoryError("no room here")


@pytest.mark.parametrize("value", [Refused(), Unread()])
def test_what_cannot_be_packed_or_read_is_no_items_failure(value: object) -> None:
    """With on_error="skip" the first item would be left out, and the values of all others with it."""
    mode, payload = ResultPacker(None).pack(0, [(value, None), MERGED, MERGED], [], None, merged=True)
    harness = Harness(1)
    chunk = Chunk(harness.map_state(), FUNCTION, 0, [1, 2, 3])
    event = results_of(1, (1, 0, 3, mode, 5, payload), chunk)
    assert mode == frames.MIXED and event.failures is None and event.values is not None
    name, message, *_ = event.values[0]
    assert (name, "no room" in message) == ("MemoryError", True)
    assert list(event.values[1:]) == [MERGED, MERGED]
