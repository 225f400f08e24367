"""What a task leaves in its process is undone after each chunk."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allcores.worker.process_reset import ProcessReset


@pytest.fixture
def state() -> Iterator[ProcessReset]:
    """This process's own state is the one to come back to."""
    tidy = ProcessReset()
    tidy.tidy()
    yield tidy
    tidy.tidy()


def usual() -> list[Any]:
    umask = os.umask(0o022)
    os.umask(umask)
    return [os.getcwd(), umask, signal.getitimer(signal.ITIMER_REAL)[0] > 0, signal.getsignal(signal.SIGUSR1)]


def rare() -> list[Any]:
    timers = [signal.getitimer(timer)[0] > 0 for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)]
    return [timers, signal.getsignal(signal.SIGRTMIN), signal.pthread_sigmask(signal.SIG_BLOCK, ())]


def disturb(folder: Path) -> None:
    os.chdir(folder)
    os.umask(0o033)
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 1000)
    for number in (signal.SIGUSR1, signal.SIGRTMIN):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


def test_all_of_it_is_undone(state: ProcessReset, tmp_path: Path) -> None:
    clean = usual(), rare()
    disturb(tmp_path)
    assert usual() != clean[0]
    assert rare() != clean[1]
    state.tidy()
    assert (usual(), rare()) == clean
