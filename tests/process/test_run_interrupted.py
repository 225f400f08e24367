"""Ctrl-C, or a handler that raises, in the moments in which a run begins: the same program can go on with it."""

from __future__ import annotations

import os
import threading

import pytest

import allcores

REAL_CUT, REAL_START = os.ftruncate, threading.Thread.start


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
