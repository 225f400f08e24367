"""Ctrl-C, or a handler that raises, in the moments in which a run begins: the same program can go on with it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S

import allcores
from allcores.runs import writer

REAL_CUT, REAL_START = os.ftruncate, threading.Thread.start
REAL_WRITE, REAL_JOIN = os.pwrite, threading.Thread.join


pytestmark = pytest.mark.usefixtures("here")


def run() -> allcores.RunResult:
    journal = allcores.Journal(folder="runs", resume=True, fsync="never")
    with allcores.Pool(backend="serial") as pool:
        return pool.run(abs, range(10), "out.jsonl", journal=journal)


def test_while_a_run_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is given back: it was "at work in this very process" for the rest of the program."""
    assert run().resumed == 0
    cut: list[int] = []

    def interrupted(descriptor: int, size: int) -> None:
        cut.append(size)
        if len(cut) == 1:
            raise KeyboardInterrupt
        REAL_CUT(descriptor, size)

    monkeypatch.setattr(os, "ftruncate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert run().resumed == 10


def test_while_its_thread_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends: it looked ten times a second for outcomes, for the rest of the program."""
    begun: list[threading.Thread] = []

    def interrupted(thread: threading.Thread) -> None:
        REAL_START(thread)
        if thread.name == "allcores-journal":
            begun.append(thread)
            if len(begun) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    begun[0].join(120.0)
    assert not begun[0].is_alive()
    assert run().ok == 10


@pytest.mark.parametrize("stuck", [False, True])
def test_while_the_last_commit_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stuck: bool) -> None:
    """It goes on, so nothing of the run is let go of before: its descriptor may be another file's by then.

    Args:
        stuck: The disk takes nothing for longer than that is waited for.
    """
    writing, may = threading.Event(), threading.Event()
    if stuck:
        monkeypatch.setattr(writer, "LET_GO_S", 0.0)
    journals: list[threading.Thread] = []

    def slow(descriptor: int, data: Any, place: int) -> int:
        writing.set()
        assert may.wait(PATIENCE_S)
        return REAL_WRITE(descriptor, data, place)

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name == "allcores-journal" and timeout is None:
            assert writing.wait(PATIENCE_S)
            journals.append(thread)
            raise KeyboardInterrupt
        if thread.name == "allcores-journal" and not stuck:
            may.set()
        REAL_JOIN(thread, timeout)

    monkeypatch.setattr(os, "pwrite", slow)
    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    others = [open(tmp_path / f"other{number}", "w+b") for number in range(20)]  # noqa: SIM115
    if stuck:
        with pytest.raises(allcores.RunInUse):
            run()
    may.set()
    REAL_JOIN(journals[0], PATIENCE_S)
    assert not journals[0].is_alive()
    for each in others:
        assert each.read() == b""
        each.close()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run().resumed == 10


def test_while_the_thread_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of Python's own, which is taken for that, stayed taken: nobody went on any more."""
    enter, ended, left = threading.Condition.__enter__, threading.Event(), [1]

    def interrupted(condition: threading.Condition) -> bool:
        taken = enter(condition)
        caller = sys._getframe(2)
        if caller.f_code.co_filename == writer.__file__ and caller.f_code.co_name == "put" and left.pop():
            left.append(0)
            raise KeyboardInterrupt
        return taken

    def work() -> None:
        journal = allcores.Journal(folder="runs", fsync="never", commit_items=2)
        with allcores.Pool(backend="serial") as pool, contextlib.suppress(KeyboardInterrupt):
            pool.run(abs, range(10), "out.jsonl", journal=journal)
        ended.set()

    monkeypatch.setattr(threading.Condition, "__enter__", interrupted)
    threading.Thread(target=work, daemon=True).start()
    assert ended.wait(PATIENCE_S)
    monkeypatch.undo()
