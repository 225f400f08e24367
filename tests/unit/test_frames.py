"""transport/frames.py: frames come out as they went in, however the pipe cuts them; half of one never does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.transport import frames
from allcores.transport.frames import HEADER, RECORD, Inbox, frame, records

kinds = st.sampled_from([frames.SETUP, frames.FUNCTION, frames.CHUNK, frames.FORGET, frames.STOP, frames.RESULTS])
numbers = st.integers(0, 2**32 - 1)
#: bodies around the sizes at which the inbox works in another way
bodies = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([65_535, 65_536, 65_537, 200_000]).map(lambda size: bytes(range(256)) * (size // 256 + 1)),
)
some_frames = st.lists(st.tuples(kinds, numbers, bodies), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]


@given(some_frames, st.lists(st.integers(0, 10**6), max_size=30))
def test_any_cut_gives_the_same_frames(sent: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    """A pipe may hand over any number of bytes at a time."""
    inbox = Inbox()
    got = [each for piece in pieces(b"".join(frame(*each) for each in sent), cuts) for each in inbox.feed(piece)]
    assert got == sent


@given(some_frames)
def test_byte_by_byte(sent: list[tuple[int, int, bytes]]) -> None:
    """The worst pipe of all gives the same, and each frame as soon as its last byte is there."""
    inbox = Inbox()
    for each in sent:
        data = frame(*each)
        if len(data) > 1000:
            assert inbox.feed(data[:1000]) == []
            data = data[1000:]
        for index in range(min(len(data) - 1, 100)):
            assert inbox.feed(data[index : index + 1]) == []
        assert inbox.feed(data[min(len(data) - 1, 100) :]) == [each]


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_000])
def test_what_is_missing_is_never_made_up(size: int) -> None:
    """A frame whose end does not come (its worker died) is not delivered, and disturbs nothing before it."""
    inbox = Inbox()
    whole, torn = frame(frames.RESULTS, 1, b"whole"), frame(frames.RESULTS, 2, bytes(size))
    assert inbox.feed(whole + torn[:-1]) == [(frames.RESULTS, 1, b"whole")]
    assert inbox.feed(b"") == []


def test_frames_are_made_of_parts() -> None:
    """A body may be given in parts, which arrive as one."""
    assert Inbox().feed(frame(frames.CHUNK, 9, b"head", b"", b"body")) == [(frames.CHUNK, 9, b"headbody")]
    assert len(frame(frames.STOP, 0)) == HEADER.size == 16


def test_kinds_do_not_collide() -> None:
    """Each kind of frame has a number of its own, and flags are bits of their own."""
    kinds = [
        frames.SETUP, frames.FUNCTION, frames.CHUNK, frames.FORGET, frames.STOP,
        frames.READY, frames.SETUP_FAILED, frames.RESULTS,
    ]  # fmt: skip
    assert len(set(kinds)) == len(kinds)
    flags = [frames.PLAIN, frames.MIXED, frames.ENDED, frames.LEAVING, frames.UNLOADABLE]
    assert sum(flags) == 2 ** len(flags) - 1


# --- records --------------------------------------------------------------------------------------

some_records = st.lists(
    st.tuples(numbers, numbers, numbers, st.integers(0, 31), st.integers(0, 2**64 - 1), st.binary(max_size=50)),
    max_size=10,
)


def packed(each: tuple[int, int, int, int, int, bytes]) -> bytes:
    return RECORD.pack(*each[:5], len(each[5])) + each[5]


@given(some_records)
def test_records_come_out_as_they_went_in(sealed: list[tuple[int, int, int, int, int, bytes]]) -> None:
    """A row of records is read back from any kind of buffer."""
    body = b"".join(map(packed, sealed))
    for buffer in (body, bytearray(body), memoryview(body)):
        assert list(records(buffer)) == sealed


@given(some_records, st.integers(0, 10**6))
def test_a_torn_outbox_gives_what_is_whole(sealed: list[tuple[int, int, int, int, int, bytes]], cut: int) -> None:
    """Cut anywhere, the records before the cut are all there, and nothing else."""
    body = b"".join(map(packed, sealed))
    cut %= len(body) + 1
    whole, length = [], 0
    for each in sealed:
        length += len(packed(each))
        if length <= cut:
            whole.append(each)
    assert list(records(body[:cut])) == whole


def test_a_length_from_nowhere_is_no_record() -> None:
    """A header that promises more than there is, however much, is left out."""
    assert list(records(RECORD.pack(1, 0, 1, 0, 0, 2**63) + b"abc")) == []
