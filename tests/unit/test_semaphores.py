"""transport/semaphores.py: a semaphore without a name moves, and who uses it notices nothing."""

from __future__ import annotations

import multiprocessing
import os
import threading

import pytest

from allcores.transport import inheritance, pickling

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")

context = multiprocessing.get_context("fork")


def hand_over(obj: object) -> None:
    """As for a worker that is about to start."""
    legacy = inheritance.Legacy()
    with inheritance.to_new_processes(legacy):
        pickling.dumps(obj)
    legacy.close()


def test_threads_that_wait_are_woken() -> None:
    """By a release that came after the move, through a method that was taken before it."""
    for _ in range(5):
        lock, got = context.Lock(), threading.Semaphore(0)
        lock.acquire()
        release = lock.release
        started = threading.Barrier(4)

        def wait(lock=lock, got=got, started=started) -> None:  # type: ignore[no-untyped-def]
            started.wait()
            with lock:
                got.release()

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        hand_over(lock)
        assert not lock.acquire(False)
        release()
        for thread in threads:
            assert got.acquire(timeout=30)
            thread.join()


def test_nothing_is_lost_while_others_count() -> None:
    """Acquired and released by other threads at the very moment of the move."""
    semaphore, over = context.BoundedSemaphore(3), threading.Event()

    def use() -> None:
        while not over.is_set():
            with semaphore:
                pass

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    hand_over(semaphore)
    over.set()
    for thread in threads:
        thread.join(30)
    assert semaphore.get_value() == 3


def test_pages_are_used_again() -> None:
    """A page is free once its semaphore is gone, and the file goes with the last of them."""
    from allcores.transport import semaphores

    kept = context.Lock()
    for _ in range(5):
        hand_over([kept, *(context.Lock() for _ in range(4))])
        assert semaphores._file is not None and semaphores._file.used <= 5
    del kept
    assert semaphores._file is None


def test_without_a_new_process_nothing_changes() -> None:
    with pytest.raises(RuntimeError, match="inheritance"):
        pickling.dumps(context.Lock())
