"""worker/chunk_runner.py: when finished values are sealed, and when they are sent."""

from __future__ import annotations

import ctypes

import pytest

from allcores.transport import chunk_ends, frames, pickling, status_board
from allcores.transport.positions import NO_LIMIT, mark
from allcores.worker import chunk_runner
from allcores.worker.chunk_runner import SEAL_NS, ChunkRunner
from allcores.worker.learned_function import LearnedFunction

MILLI = 1_000_000


class Clock:
    """Time stands still but for what items take."""

    def __init__(self) -> None:
        self.now = 1_000 * MILLI

    def __call__(self) -> int:
        return self.now


class Worker:
    """A runner whose items take `item_ns`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.item_ns = 0
        #: of each frame, the items of each of its records
        self.sent: list[list[int]] = []
        slot = (ctypes.c_uint64 * status_board.SLOT_WORDS)()
        slot[status_board.LIMIT] = NO_LIMIT
        self.runner = ChunkRunner(self._send, slot, memoryview(bytearray(status_board.OUTBOX_BYTES)))
        self.runner._functions[1] = LearnedFunction("one", self._item)
        self._sequence = 0

    def _item(self, item: object) -> object:
        self.clock.now += self.item_ns
        return item

    def _send(self, *parts: bytes) -> None:
        data = b"".join(parts)
        if data:
            self.sent.append([record[2] for record in frames.records(data[frames.HEADER.size :])])

    def run(self, items: int, *, report_ns: int) -> list[list[int]]:
        self._sequence += 1
        self.sent = []
        head = frames.CHUNK_HEAD.pack(1, 0, items, report_ns // 1000, 0, 0, 0)
        self.runner.run(self._sequence, head + pickling.dumps(list(range(items))))
        return self.sent


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    clock = Clock()
    monkeypatch.setattr(chunk_runner, "monotonic_ns", clock)
    return Worker(clock)


def test_what_is_sealed_is_sent_as_often_as_the_parent_wants_it(worker: Worker) -> None:
    """The parent says with each chunk how much work may go unreported; what is left goes with the chunk's end."""
    worker.item_ns = 2 * MILLI
    worker.run(1, report_ns=0)
    assert worker.run(10, report_ns=100 * MILLI) == [[1] * 10]
    *frames_sent, last = [sum(frame) for frame in worker.run(100, report_ns=20 * MILLI)]
    assert set(frames_sent) == {11}
    assert last <= 11
    assert worker.run(3, report_ns=0) == [[1], [1], [1]]


def test_finished_work_is_sealed_after_a_millisecond(worker: Worker) -> None:
    """Less than SEAL_NS and the item that runs has to run again after a crash."""
    # The first of a function are sealed one by one: it may return one object again and again.
    assert worker.run(10, report_ns=1_000 * MILLI) == [[1, 1, 1, 7]]
    worker.item_ns = SEAL_NS // 4
    assert set(worker.run(50, report_ns=1_000 * MILLI)[0]) <= {5, 50 % 5}


def test_the_last_item_of_a_chunk_that_was_cut_short_goes_with_its_end(worker: Worker) -> None:
    """What is put off until the chunk's end is done before its last results leave, whoever runs the rest."""
    worker.item_ns = 2 * MILLI
    worker.run(1, report_ns=0)

    def cut(item: int) -> int:
        if item == 4:
            worker.runner._slot[status_board.LIMIT] = mark(worker._sequence, 5)
        return int(str(worker._item(item)))

    worker.runner._functions[1] = LearnedFunction("one", cut)
    put_off: list[int] = []
    chunk_ends.waiting.append(lambda: put_off.append(len(worker.sent)))
    assert worker.run(10, report_ns=0) == [[1], [1], [1], [1], [1]]
    assert put_off == [4]
