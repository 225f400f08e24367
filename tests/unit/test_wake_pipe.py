"""system/wake_pipe.py: what ends the wait of a thread that polls."""

from __future__ import annotations

import select

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
