"""Buffered pickles: what goes into blocks, what comes out, and when a block is free again. No process is needed."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.shared_memory import repeats
from allcores.shared_memory.arena import RANGE, SPAN, Arena
from allcores.shared_memory.buffers import MARK, PRIVATE, BufferedPickle, Decoder, Encoder, loads, unchanging
from allcores.shared_memory.objects import SharedObjects
from allcores.system import posix

np = pytest.importorskip("numpy")
empty_shared = pytest.importorskip("allcores.shared_memory.arrays").empty_shared

BUDGET = 4 << 20


class Ends:
    """A sender and a receiver in one process."""

    def __init__(self, budget: int = BUDGET) -> None:
        descriptor = posix.sparse_file("test", RANGE)
        if descriptor is None:
            pytest.skip("no sparse files in memory here")
        self.descriptor = descriptor
        self.arena = Arena(descriptor)
        self.encoder = Encoder(self.arena, SPAN, SPAN, budget, 4096)
        self.dead: list[int] = []
        self.decoder = Decoder(self.arena, self.dead.append, lambda _: None)

    def pack(self, value: object, **options: int) -> BufferedPickle:
        buffered_pickle = self.encoder.dumps(value, **options)
        assert isinstance(buffered_pickle, BufferedPickle)
        return buffered_pickle

    def leased(self) -> int:
        if self.encoder.figures()[0]:
            gc.collect()  # only if it may matter: among many tests it takes longer than all the rest
        return self.encoder.figures()[0]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.arena.close()
    os.close(ends.descriptor)


def test_small_things_stay_plain_pickles(ends: Ends) -> None:
    for value in (1, "text", [1, 2, 3], np.arange(10), {"a": b"b"}):
        packed = ends.encoder.dumps(value)
        assert isinstance(packed, bytes)
        assert packed[:1] != MARK
        np.testing.assert_equal(loads(packed, ends.decoder), value)
    assert ends.leased() == 0


def test_one_block_for_all_buffers_of_a_buffered_pickle(ends: Ends) -> None:
    value = [np.full(1000, number) for number in range(10)]
    buffered_pickle = ends.pack(value)
    assert len(buffered_pickle.leases) == 1
    assert len(buffered_pickle) >= 10 * 8000
    assert len(buffered_pickle.data) < 2000
    assert ends.leased() == 1
    found = ends.decoder.loads(buffered_pickle.data)
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
    del buffered_pickle
    assert ends.leased() == 0


def test_a_buffered_pickle_that_is_not_sent_gives_its_block_back(ends: Ends) -> None:
    buffered_pickle = ends.pack(np.ones(10_000))
    assert ends.leased() == 1
    del buffered_pickle
    assert ends.leased() == 0


def test_a_buffered_pickle_that_is_not_opened_says_so(ends: Ends) -> None:
    buffered_pickle = ends.pack([np.ones(10_000), np.ones(20_000)])
    ends.decoder.skip(buffered_pickle.data)
    assert ends.dead == list(buffered_pickle.leases)


def test_what_is_only_named_is_given_back_too(ends: Ends) -> None:
    """An array that workers fill together has its place in the stream, which may not be opened, or not to its end."""
    shared_objects = SharedObjects(ends.arena, RANGE - SPAN, SPAN)
    ends.encoder.find = shared_objects.find
    array = empty_shared(shared_objects, 1000, "int64")
    buffered_pickle = ends.pack([array[:10], array[500:]])
    ends.decoder.skip(buffered_pickle.data)
    assert ends.dead == list(buffered_pickle.leases)
    ends.dead.clear()
    for refuses_first in (True, False):
        buffered_pickle = ends.pack([Refuses(), array] if refuses_first else [array, Refuses()])
        with pytest.raises(ValueError, match="refused"):
            ends.decoder.loads(buffered_pickle.data)
        gc.collect()
        assert ends.dead == list(buffered_pickle.leases)
        ends.dead.clear()
    (found,) = ends.decoder.loads(ends.pack([array]).data)
    found[3] = 7
    assert array[3] == 7
    assert not ends.dead
    del found
    gc.collect()
    assert len(ends.dead) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs signals")
def test_a_signal_that_comes_while_a_block_is_taken_costs_none(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler runs right after the section in which the block was taken, and raises."""
    before = signal.signal(signal.SIGALRM, out_of_time)
    try:
        with monkeypatch.context() as patched, pytest.raises(TimeoutError):
            patched.setattr(ends.arena, "drop", lambda _: signal.raise_signal(signal.SIGALRM))
            ends.encoder.take(10_000)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ends.leased() == 0


def out_of_time(number: int, frame: object) -> None:
    raise TimeoutError


def test_private_views_are_copied_when_they_are_written_to(ends: Ends) -> None:
    buffered_pickle = ends.pack(np.ones(10_000), access=PRIVATE)
    one, other = ends.decoder.loads(buffered_pickle.data), ends.decoder.loads(buffered_pickle.data)
    one[:] = 5
    assert (other == 1).all()
    assert (ends.decoder.loads(buffered_pickle.data) == 1).all()


def through(ends: Ends, value: Any) -> Any:
    """What arrives at the other end."""
    packed = ends.encoder.dumps(value)
    return loads(packed.data if isinstance(packed, BufferedPickle) else packed, ends.decoder)


def where(view: Any) -> int:
    """The address of an array's bytes."""
    return int(view.__array_interface__["data"][0])


@pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="needs /proc/self/pagemap")
def test_a_private_view_that_was_only_read_is_mapped_once(ends: Ends) -> None:
    """What nobody wrote to serves the next one; as long as somebody has it, the next one gets another."""
    buffered_pickle = ends.pack(np.ones(10_000), access=PRIVATE)
    one = ends.decoder.loads(buffered_pickle.data)
    assert one.sum() == 10_000
    address = where(one)
    other = ends.decoder.loads(buffered_pickle.data)
    assert where(other) != address
    del one
    gc.collect()
    again = ends.decoder.loads(buffered_pickle.data)
    assert where(again) == address
    again[-1] = 7
    del again, other
    gc.collect()
    assert [(ends.decoder.loads(buffered_pickle.data) == 1).all() for _ in range(3)] == [True] * 3


def test_without_pagemap_each_private_view_is_mapped_anew(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can tell whether it was written to, it is taken to be."""
    monkeypatch.setattr(posix, "is_untouched", lambda address, size: False)
    buffered_pickle = ends.pack(np.ones(10_000), access=PRIVATE)
    for _ in range(3):
        view = ends.decoder.loads(buffered_pickle.data)
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


def test_while_items_are_constant_an_array_is_compared_once(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """And once more in the next one, for it may have changed between the two."""
    compared: list[int] = []
    same = repeats._same
    monkeypatch.setattr(repeats, "_same", lambda one, other: compared.append(1) or same(one, other))  # type: ignore[func-returns-value]
    ends.encoder.repeat_cache = repeats.RepeatCache()
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
    ends.encoder.repeat_cache = repeats.RepeatCache()
    items = [Scratch(number) for number in range(5)]
    with unchanging(items):
        assert [through(ends, item) for item in items] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_without_room_the_pipe_carries_it(ends: Ends) -> None:
    held = [ends.encoder.dumps(np.ones(1 << 16)) for _ in range(10)]
    kinds = [type(packed) for packed in held]
    assert kinds[:8] == [BufferedPickle] * 8
    assert kinds[8:] == [bytes] * 2
    assert (loads(held[-1], ends.decoder) == 1).all()  # type: ignore[arg-type]
    assert ends.encoder.figures()[2] <= BUDGET


def test_an_object_that_fails_to_pickle_takes_no_block(ends: Ends) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        ends.encoder.dumps([np.ones(10_000), threading.Lock()])
    assert ends.leased() == 0


def test_one_that_fails_to_load_gives_its_block_back(ends: Ends) -> None:
    buffered_pickle = ends.pack([np.ones(10_000), Refuses()])
    with pytest.raises(ValueError, match="refused"):
        ends.decoder.loads(buffered_pickle.data)
    gc.collect()
    assert ends.dead == list(buffered_pickle.leases)


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
        packed = ends.encoder.dumps(value)
        data = packed if isinstance(packed, bytes) else packed.data
        np.testing.assert_equal(loads(data, ends.decoder), pickle.loads(pickle.dumps(value)))
        del packed
        assert ends.leased() == 0
    finally:
        ends.arena.close()
        os.close(ends.descriptor)


@pytest.mark.parametrize("step", ["pwrite", "map_memory"])
def test_a_file_that_gets_our_number_meanwhile_is_not_written_to(
    step: str, ends: Ends, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another thread may close the pool, and a third one open a file, between two steps of ours."""
    module = os if step == "pwrite" else posix
    real, other = getattr(module, step), os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    kept = os.dup(ends.descriptor)

    def later(*arguments: Any) -> Any:
        os.dup2(other, ends.descriptor)
        return real(*arguments)

    monkeypatch.setattr("allcores.shared_memory.arena.PIECE", 1_000)
    monkeypatch.setattr(module, step, later)
    value = np.arange(10_000)
    if step == "map_memory":
        monkeypatch.undo()
        packed = ends.pack(value)
        monkeypatch.setattr(module, step, later)
    else:
        packed = ends.pack(value)
        os.dup2(kept, ends.descriptor)
    found = ends.decoder.loads(packed.data)
    np.testing.assert_equal(found, value)
    assert os.fstat(other).st_size == 0
    os.dup2(kept, ends.descriptor)
    os.close(kept)
    os.close(other)
