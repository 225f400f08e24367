"""Parcels: what goes into blocks, what comes out, and when a block is free again. No process is needed."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.supervision import system
from allcores.transport import noticing
from allcores.transport.arena import RANGE, SPAN, Arena
from allcores.transport.parcels import MARK, PRIVATE, Packer, Parcel, Unpacker, loads, unchanging

np = pytest.importorskip("numpy")

BUDGET = 4 << 20


class Ends:
    """A sender and a receiver in one process."""

    def __init__(self, budget: int = BUDGET) -> None:
        descriptor = system.sparse_file("test", RANGE)
        if descriptor is None:
            pytest.skip("no sparse files in memory here")
        self.descriptor = descriptor
        self.arena = Arena(descriptor)
        self.packer = Packer(self.arena, SPAN, SPAN, budget, 4096)
        self.dead: list[int] = []
        self.unpacker = Unpacker(self.arena, self.dead.append, lambda _: None)

    def pack(self, value: object, **options: int) -> Parcel:
        parcel = self.packer.dumps(value, **options)
        assert isinstance(parcel, Parcel)
        return parcel

    def leased(self) -> int:
        if self.packer.figures()[0]:
            gc.collect()  # only if it may matter: among many tests it takes longer than all the rest
        return self.packer.figures()[0]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.arena.close()
    os.close(ends.descriptor)


def test_small_things_stay_plain_pickles(ends: Ends) -> None:
    for value in (1, "text", [1, 2, 3], np.arange(10), {"a": b"b"}):
        packed = ends.packer.dumps(value)
        assert isinstance(packed, bytes)
        assert packed[:1] != MARK
        np.testing.assert_equal(loads(packed, ends.unpacker), value)
    assert ends.leased() == 0


def test_one_block_for_all_buffers_of_a_parcel(ends: Ends) -> None:
    value = [np.full(1000, number) for number in range(10)]
    parcel = ends.pack(value)
    assert len(parcel.leases) == 1
    assert len(parcel) >= 10 * 8000
    assert len(parcel.data) < 2000
    assert ends.leased() == 1
    found = ends.unpacker.loads(parcel.data)
    np.testing.assert_equal(found, value)
    assert all(array.__array_interface__["data"][0] % 64 == 0 for array in found)
    assert not ends.dead
    last = found[3][5:6]
    del found
    gc.collect()
    assert not ends.dead, "a slice still refers to the block"
    del last
    gc.collect()
    assert len(ends.dead) == 1
    del parcel
    assert ends.leased() == 0


def test_a_parcel_that_is_not_sent_gives_its_block_back(ends: Ends) -> None:
    parcel = ends.pack(np.ones(10_000))
    assert ends.leased() == 1
    del parcel
    assert ends.leased() == 0


def test_a_parcel_that_is_not_opened_says_so(ends: Ends) -> None:
    parcel = ends.pack([np.ones(10_000), np.ones(20_000)])
    ends.unpacker.skip(parcel.data)
    assert ends.dead == list(parcel.leases)


def test_private_views_are_copied_when_they_are_written_to(ends: Ends) -> None:
    parcel = ends.pack(np.ones(10_000), access=PRIVATE)
    one, other = ends.unpacker.loads(parcel.data), ends.unpacker.loads(parcel.data)
    one[:] = 5
    assert (other == 1).all()
    assert (ends.unpacker.loads(parcel.data) == 1).all()


def through(ends: Ends, value: Any) -> Any:
    """What arrives at the other end."""
    packed = ends.packer.dumps(value)
    return loads(packed.data if isinstance(packed, Parcel) else packed, ends.unpacker)


def where(view: Any) -> int:
    """The address of an array's bytes."""
    return int(view.__array_interface__["data"][0])


@pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="needs /proc/self/pagemap")
def test_a_private_view_that_was_only_read_is_mapped_once(ends: Ends) -> None:
    """What nobody wrote to serves the next one; as long as somebody has it, the next one gets another."""
    parcel = ends.pack(np.ones(10_000), access=PRIVATE)
    one = ends.unpacker.loads(parcel.data)
    assert one.sum() == 10_000
    address = where(one)
    other = ends.unpacker.loads(parcel.data)
    assert where(other) != address
    del one
    gc.collect()
    again = ends.unpacker.loads(parcel.data)
    assert where(again) == address
    again[-1] = 7
    del again, other
    gc.collect()
    assert [(ends.unpacker.loads(parcel.data) == 1).all() for _ in range(3)] == [True] * 3


def test_without_pagemap_each_private_view_is_mapped_anew(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can tell whether it was written to, it is taken to be."""
    monkeypatch.setattr(system, "is_untouched", lambda address, size: False)
    parcel = ends.pack(np.ones(10_000), access=PRIVATE)
    for _ in range(3):
        view = ends.unpacker.loads(parcel.data)
        assert (view == 1).all()
        view[:] = 2


class Scratch:
    """Pickles by way of one buffer, which it fills anew each time."""

    buffer = np.zeros(1 << 18)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        Scratch.buffer[:] = self.number
        return float_of, (pickle.PickleBuffer(Scratch.buffer),)


def float_of(buffer: Any) -> float:
    return float(np.frombuffer(buffer)[-1])


def test_within_a_spell_an_array_is_compared_once(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """And once more in the next one, for it may have changed between the two."""
    compared: list[int] = []
    same = noticing._same
    monkeypatch.setattr(noticing, "_same", lambda one, other: (compared.append(1), same(one, other))[1])
    ends.packer.noticed = noticing.Noticed()
    items = [(np.ones(1 << 18), 1)] * 6
    with unchanging(items):
        for item in items:
            assert through(ends, item)[0].sum() == 1 << 18
    assert len(compared) == 0, "the first two are copied"
    items[0][0][:] = 2
    with unchanging(items):
        for item in items:
            assert through(ends, item)[0].sum() == 2 << 18
    assert len(compared) == 1
    through(ends, items[0])
    assert len(compared) == 2


def test_what_pickles_by_code_of_its_own_is_always_compared(ends: Ends) -> None:
    """It may fill the same buffer with something else, though nobody else runs meanwhile."""
    ends.packer.noticed = noticing.Noticed()
    items = [Scratch(number) for number in range(5)]
    with unchanging(items):
        assert [through(ends, item) for item in items] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_without_room_the_pipe_carries_it(ends: Ends) -> None:
    held = [ends.packer.dumps(np.ones(1 << 16)) for _ in range(10)]
    kinds = [type(packed) for packed in held]
    assert kinds[:8] == [Parcel] * 8
    assert kinds[8:] == [bytes] * 2
    assert (loads(held[-1], ends.unpacker) == 1).all()  # type: ignore[arg-type]
    assert ends.packer.figures()[2] <= BUDGET


def test_an_object_that_fails_to_pickle_takes_no_block(ends: Ends) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        ends.packer.dumps([np.ones(10_000), threading.Lock()])
    assert ends.leased() == 0


def test_one_that_fails_to_load_gives_its_block_back(ends: Ends) -> None:
    parcel = ends.pack([np.ones(10_000), Refuses()])
    with pytest.raises(ValueError, match="refused"):
        ends.unpacker.loads(parcel.data)
    gc.collect()
    assert ends.dead == list(parcel.leases)


class Refuses:
    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, ()


def refuse() -> None:
    raise ValueError("refused")


@given(
    st.recursive(
        st.none() | st.binary(max_size=200_000) | st.integers(0, 60_000).map(lambda size: np.arange(size)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    )
)
def test_what_comes_out_is_what_went_in(value: object) -> None:
    ends = Ends(64 << 20)
    try:
        packed = ends.packer.dumps(value)
        data = packed if isinstance(packed, bytes) else packed.data
        np.testing.assert_equal(loads(data, ends.unpacker), pickle.loads(pickle.dumps(value)))
        del packed
        assert ends.leased() == 0
    finally:
        ends.arena.close()
        os.close(ends.descriptor)
