"""worker/frame_writer.py: whole frames on one pipe, whoever writes; notes never wait."""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Iterator

import pytest

from allcores.transport import frames
from allcores.worker.frame_writer import MOST_NOTES, FrameWriter


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


def fail(error: OSError) -> None:
    raise error


def drain(end: socket.socket, inbox: frames.Inbox | None = None) -> list[tuple[int, int, bytes]]:
    """Frames that are there."""
    inbox, found = inbox or frames.Inbox(), list[tuple[int, int, bytes]]()
    end.setblocking(False)
    while True:
        try:
            found += inbox.feed(end.recv(1 << 16))
        except BlockingIOError:
            break
    return found


def test_notes_go_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    frame_writer = FrameWriter(ends[0], fail)
    assert frame_writer.note(frames.frame(frames.LOG, 0, b"one"))
    assert drain(ends[1]) == [(frames.LOG, 0, b"one")]


def test_a_full_pipe_stops_nobody(ends: tuple[socket.socket, socket.socket]) -> None:
    """Nobody reads: notes pile up to the bound, the rest is dropped and counted; later all frames are whole."""
    frame_writer = FrameWriter(ends[0], fail)
    note = frames.frame(frames.LOG, 0, b"x" * 5000)
    for _ in range(MOST_NOTES + 500):
        assert frame_writer.note(note)
    assert 0 < frame_writer.dropped < 500
    dropped = frame_writer.dropped
    sender = threading.Thread(
        target=frame_writer.send, args=(frames.frame(frames.READY, 0), frames.frame(frames.STOP, 0))
    )
    sender.start()
    inbox, found = frames.Inbox(), list[tuple[int, int, bytes]]()
    while not any(kind == frames.STOP for kind, _, _ in found):
        found += inbox.feed(ends[1].recv(1 << 16))
    sender.join()
    while not any((kind, number) == (frames.LOG, 2) for kind, number, _ in found):
        frame_writer._pass_on()
        found += inbox.feed(ends[1].recv(1 << 16))
    assert (frames.LOG, 2, str(dropped).encode()) in found
    kinds = [kind for kind, _, _ in found]
    assert kinds.index(frames.STOP) == kinds.index(frames.READY) + 1, "nothing comes between the parts of a frame"
    assert {body for kind, number, body in found if (kind, number) == (frames.LOG, 0)} == {b"x" * 5000}


def test_the_rest_of_the_last_note_goes_when_there_is_room(ends: tuple[socket.socket, socket.socket]) -> None:
    """No other note waits behind it: it goes all the same, and not only with the next result."""
    frame_writer = FrameWriter(ends[0], fail)
    note = frames.frame(frames.LOG, 0, b"x" * 5000)
    sent = 0
    while not frame_writer._rest:
        assert frame_writer.note(note)
        sent += 1
    assert not frame_writer._notes
    inbox = frames.Inbox()
    found = drain(ends[1], inbox)
    frame_writer._pass_on()
    found += drain(ends[1], inbox)
    assert [body for _, _, body in found] == [b"x" * 5000] * sent


def test_a_note_inside_of_a_frame_waits_for_its_end(ends: tuple[socket.socket, socket.socket]) -> None:
    """A finalizer may log while a frame is being written, on the same thread."""
    frame_writer = FrameWriter(ends[0], fail)
    body = b"y" * 100

    class Interrupted:
        """A pipe in whose sendall the garbage collector runs."""

        def sendall(self, data: bytes) -> None:
            frame_writer.note(frames.frame(frames.LOG, 0, b"from a finalizer"))
            ends[0].sendall(data)

        def send(self, data: bytes, flags: int) -> int:
            return ends[0].send(data, flags)

    frame_writer._pipe = Interrupted()  # type: ignore[assignment]
    frame_writer.send(frames.HEADER.pack(100, frames.RESULTS, 0), body)
    assert [kind for kind, _, _ in drain(ends[1])] == [frames.RESULTS, frames.LOG, frames.LOG]


def test_many_threads_write_whole_frames(ends: tuple[socket.socket, socket.socket]) -> None:
    frame_writer = FrameWriter(ends[0], fail)

    def write(number: int) -> None:
        for _ in range(40):
            frame_writer.note(frames.frame(frames.LOG, number, bytes([number]) * 997))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = drain(ends[1])
    frame_writer.finish()
    found += drain(ends[1])
    assert all(body == bytes([number]) * 997 for _, number, body in found)
    assert len(found) == 160


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_copy_writes_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    """What a task forks must not speak for the worker."""
    frame_writer = FrameWriter(ends[0], fail)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads, since Python 3.12
        pid = os.fork()
    if pid == 0:
        os._exit(1 if frame_writer.note(b"never") else 0)
    assert os.waitpid(pid, 0)[1] == 0
    assert drain(ends[1]) == []


def test_notes_that_wait_go_before_the_next_frame(ends: tuple[socket.socket, socket.socket]) -> None:
    """What an item has logged is there before its result, also when the pipe was full in between."""
    frame_writer = FrameWriter(ends[0], fail)
    note = frames.frame(frames.LOG, 0, b"x" * 5000)
    while not frame_writer.behind():
        assert frame_writer.note(note)
    assert frame_writer.note(note)
    sender = threading.Thread(target=frame_writer.send, args=(frames.frame(frames.RESULTS, 0),))
    sender.start()
    inbox, found = frames.Inbox(), list[tuple[int, int, bytes]]()
    while not found or found[-1][0] != frames.RESULTS:
        found += inbox.feed(ends[1].recv(1 << 16))
    sender.join()
    assert [kind for kind, _, _ in found[:-1]] == [frames.LOG] * (len(found) - 1)
    assert not frame_writer.behind()
    assert drain(ends[1]) == []
