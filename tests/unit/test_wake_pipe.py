"""system/wake_pipe.py: what ends the wait of a thread that polls."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from allcores.system.wake_pipe import WakePipe


def _is_awake(wake_pipe: WakePipe) -> bool:
    return bool(select.select([wake_pipe.reads], [], [], 0)[0])


def test_one_look_takes_all_that_has_woken_it() -> None:
    """Whoever is woken many times at once looks once."""
    wake_pipe = WakePipe()
    try:
        assert not _is_awake(wake_pipe)
        for _ in range(3):
            wake_pipe.wake()
        assert _is_awake(wake_pipe)
        wake_pipe.take()
        assert not _is_awake(wake_pipe)
        wake_pipe.take()
    finally:
        wake_pipe.close()


def test_whoever_wakes_never_waits() -> None:
    """A full pipe ends the wait already."""
    wake_pipe = WakePipe()
    try:
        for _ in range(200_000):
            wake_pipe.wake()
        assert _is_awake(wake_pipe)
    finally:
        wake_pipe.close()


def test_what_is_closed_may_be_woken_and_closed() -> None:
    """The end of an object, or a signal's handler, comes when it likes; the numbers may be of other files by then."""
    wake_pipe = WakePipe()
    wake_pipe.close()
    wake_pipe.wake()
    wake_pipe.close()
    assert wake_pipe.reads == -1


def test_what_wakes_it_as_it_is_closed_writes_into_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread closes it, and opens a file, between the look at the number and the use of it."""
    wake_pipe, opened = WakePipe(), list[int]()
    write = os.write

    def paused_write(descriptor: int, data: bytes) -> int:
        wake_pipe.close()
        opened.extend(os.open(tmp_path / str(number), os.O_WRONLY | os.O_CREAT) for number in range(4))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", paused_write)
    wake_pipe.wake()
    monkeypatch.undo()
    for descriptor in opened:
        os.close(descriptor)
    assert opened
    assert not any(each.stat().st_size for each in tmp_path.iterdir())


def test_both_ends_are_closed() -> None:
    before = os.listdir("/dev/fd")
    wake_pipe = WakePipe()
    wake_pipe.wake()
    wake_pipe.close()
    wake_pipe.close()
    assert os.listdir("/dev/fd") == before
