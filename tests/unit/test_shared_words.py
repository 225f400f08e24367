"""Counters and flags of `shared_memory/objects.py` that several threads of a process change."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from allcores.shared_memory import parent_side
from allcores.shared_memory.buffers import WRITE
from allcores.shared_memory.objects import Counter
from allcores.system import posix

TIMES = 2_000


def test_threads_that_have_an_object_each_for_one_counter_change_it_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Calls of an actor that run at a time are given one each; the file's lock is the process's, and one lets it go."""
    locked_bytes, inside, most = posix.locked_bytes, [0], [0]

    @contextmanager
    def noting(descriptor: int, first: int, count: int) -> Iterator[None]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        with locked_bytes(descriptor, first, count):
            yield
        inside[0] -= 1

    monkeypatch.setattr(posix, "locked_bytes", noting)
    memory = parent_side.alone()
    if memory is None:
        pytest.skip("no shared memory here")
    view = memory.shared_objects.room(8, WRITE)
    found = memory.shared_objects.find(view)
    assert found is not None
    counters = [Counter(view, memory.arena.descriptor, found[0]) for _ in range(4)]

    def add(counter: Counter) -> None:
        for _ in range(TIMES):
            counter.add()

    threads = [threading.Thread(target=add, args=(counter,)) for counter in counters]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
        value = counters[0].value
        del view, found, counters, threads, add
        memory.close_alone()
    assert value == 4 * TIMES
    assert most == [1]
