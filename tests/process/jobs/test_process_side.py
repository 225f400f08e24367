"""The supervisor's processes of jobs, spoken for by the test: whose seconds begin when."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from allcores.jobs.core_shares import CoreShares
from allcores.jobs.job_processes import JobProcess
from allcores.jobs.messages import MessagePipe
from allcores.jobs.process_side import GRANT_S, VAIN_S, ProcessSide


class Side:
    """A `ProcessSide` whose processes say what the test says, and live until that ends."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._shares = CoreShares(2)
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self.processes = ProcessSide(str(folder), (), self._shares, self._selector, boot_s=300.0)

    def begin(
        self, job: str, *, ago: float = 0.0, timeout: float | None = None, ends: bool = False
    ) -> tuple[JobProcess, MessagePipe]:
        """Begin one, that long ago; its end of the pipe is the test's."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        for each in (ours, theirs):
            self._stack.callback(each.close)
        popen = subprocess.Popen(["true"] if ends else ["sleep", "1000"], start_new_session=True)
        self._stack.callback(popen.wait)
        self._stack.callback(popen.kill)
        claim: Any = SimpleNamespace(job=SimpleNamespace(id=job), attempt=1)
        process = JobProcess(claim, popen.pid, MessagePipe(ours), time.monotonic() - ago, timeout, popen=popen)
        self.processes.processes[job] = process
        self._shares.begin(job)
        self._selector.register(ours, selectors.EVENT_READ)
        return process, MessagePipe(theirs)

    def select(self) -> list[object]:
        """Sockets that wake the supervisor now."""
        return [key.fileobj for key, _ in self._selector.select(0)]


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    with ExitStack() as stack:
        yield Side(tmp_path, stack)


def test_the_end_of_a_long_job_takes_no_seconds_of_another(side: Side) -> None:
    """One has loaded its tasks, and says so, as another one ends that was begun an hour ago."""
    long, _ = side.begin("long", ago=3600.0, ends=True)
    new, its = side.begin("new", timeout=60.0)
    os.waitid(os.P_PID, long.pid, os.WEXITED | os.WNOWAIT)
    before = time.monotonic()
    its.send(op="ready", memory=0)
    assert [each.process for each in side.processes.ended()] == [long]
    side.processes.hear()
    side.processes.watch(time.monotonic())
    assert new.ended_for is None
    assert new.deadline is not None and new.deadline >= before + 60.0


def test_who_waited_for_cores_in_vain_does_not_do_so_for_each_of_its_maps(side: Side) -> None:
    """Another job has the other core for long; while one waits, no job begins at all."""
    side.begin("long")
    process, its = side.begin("maps")

    def asked_at(now: float) -> tuple[bool, bool]:
        """Whether it waits a moment after it has asked, and when it has waited for its share of seconds."""
        its.send(op="cores")
        side.processes.hear()
        process.wants_cores = now
        waits = []
        for later in (0.0, GRANT_S + 0.1):
            side.processes.watch(now + later)
            waits.append(side.processes.wanting)
        its.send(op="give_back")
        side.processes.hear()
        return waits[0], waits[1]

    now = time.monotonic()
    assert asked_at(now) == (True, False)
    assert asked_at(now + 3.0) == (False, False)
    assert asked_at(now + 2 * VAIN_S) == (True, False)


def test_seconds_for_which_all_was_stopped_are_no_part_of_a_timeout(side: Side) -> None:
    """Nor of those for loading the tasks."""
    loading, _ = side.begin("loading", timeout=60.0)
    ready, its = side.begin("ready", timeout=60.0)
    its.send(op="ready", memory=0)
    side.processes.hear()
    side.processes.excuse(3600.0)
    side.processes.watch(time.monotonic() + 3630.0)
    assert (loading.ended_for, ready.ended_for) == (None, None)
    side.processes.watch(time.monotonic() + 3630.0 + 300.0)
    assert (loading.ended_for, ready.ended_for) == ("boot", "deadline")


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\n",
        b"[1]\n",
        b'{"op": "ready"}\n',
        b'{"op": "ready", "memory": "much"}\n',
        b'{"op": "ready", "memory": 1' + 400 * b"0" + b"}\n",
        b'{"op": "done", "answer": [true, "1", [["a", 1' + 30 * b"0" + b', "text/csv"]], "", "", "", 0.0, false]}\n',
        b'{"op": "done", "answer": [true, "1", [["a", -1, "text/csv"]], "", "", "", 0.0, false]}\n',
        b'{"op": "progress", "done": 1, "failed": 0, "total": 2, "at": NaN, "started": 1.0, "run": null, "note": ""}\n',
        b'{"op": "progress", "done": 1' + 400 * b"0" + b', "failed": 0, "total": 2, "at": 1.0, "started": 1.0,'
        b' "run": null, "note": ""}\n',
        b'{"op": "done"}\n',
        b'{"op": "done", "answer": 5}\n',
        b'{"op": "done", "answer": [true, 1]}\n',
        b'{"op": "done", "answer": [true, "1", [["a"]]]}\n',
        b'{"op": "progress", "done": "x"}\n',
        b'{"op": "progress", "done": 1, "failed": 0, "total": 2, "at": 1.0, "started": 1.0, "run": {}, "note": 5}\n',
    ],
)
def test_what_is_no_message_ends_its_sender_alone(side: Side, data: bytes) -> None:
    """A task has all descriptors of its process, and its allcores may be of another version."""
    other, its = side.begin("other")
    wrong, of_wrong = side.begin("wrong")
    of_wrong.connection.sendall(data)
    its.send(op="ready", memory=0)
    side.processes.hear()
    side.processes.watch(time.monotonic())
    assert (wrong.ended_for, other.ended_for, other.ready) == ("message", None, True)
    os.waitid(os.P_PID, wrong.pid, os.WEXITED | os.WNOWAIT)
    (end,) = side.processes.ended()
    assert end.process is wrong and end.death is not None and end.death.cause == "no message"


def test_the_last_word_of_a_process_is_its_answer_whatever_comes_behind_it(side: Side) -> None:
    process, its = side.begin("job", ends=True)
    its.send(op="done", answer=[False, None, [], "ValueError", "no", "", 0.0, False])
    its.connection.sendall(b"nonsense\n")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    (end,) = side.processes.ended()
    assert (process.ended_for, end.death) == (None, None)
    assert end.answer is not None and end.answer.type == "ValueError"


def test_a_process_that_has_closed_its_end_wakes_nobody_any_more(side: Side) -> None:
    """The supervisor would have turned as fast as it can, for as long as the job runs."""
    process, its = side.begin("job")
    its.send(op="ready", memory=0)
    its.close()
    assert side.select() == [process.pipe.connection]
    side.processes.hear()
    assert process.ready and process.ended_for is None and side.select() == []
