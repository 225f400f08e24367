"""What tests and workers wait for each other with: real conditions, never a sleep.

A `Bell` is rung by workers and heard by the test; at a `Gate` workers wait until the test opens it. Both
are files, so that a worker needs nothing but the path, whatever way it was started.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # workers import this module, and have no use for pools, nor for what takes long to import
    from pathlib import Path

    from allcores import Pool

#: seconds after which a condition that should come about is given up; a busy machine needs some
PATIENCE_S = 120.0


class Bell:
    """A named pipe. Workers `ring` with a word; the test hears them one by one."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        # Open for both directions: so it never ends, and nobody waits to open it.
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._rest = b""

    def hear(self, count: int = 1, seconds: float = PATIENCE_S) -> list[tuple[int, str]]:
        """The next `count` rings as (pid, word)."""
        until = monotonic() + seconds
        while self._rest.count(b"\n") < count:
            left = until - monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                raise AssertionError(f"{self._rest.count(10)} rings of {count} within {seconds:g} s: {self._rest!r}")
            self._rest += os.read(self._descriptor, 65_536)
        *heard, self._rest = self._rest.split(b"\n", count)
        return [(int(pid), word) for pid, _, word in (line.decode().partition(" ") for line in heard)]

    def pids(self, count: int = 1) -> list[int]:
        """Who rang, for the next `count` rings."""
        return [pid for pid, _ in self.hear(count)]

    def __enter__(self) -> Bell:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def ring(path: str, word: object = "") -> None:
    """In a worker: tell the test. Short enough to arrive in one piece."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, f"{os.getpid()} {word}\n".encode())
    finally:  # an interpreter that was let go gets an exception here
        os.close(descriptor)


class Gate:
    """A locked file. Workers `wait_at` it until the test opens it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def open(self) -> None:
        """Let everybody through, now and later."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()
        os.close(self._descriptor)


def wait_at(path: str) -> None:
    """In a worker: go on when the gate is open. Any number may pass at a time."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    finally:  # an interpreter that was let go gets an exception here
        os.close(descriptor)


def wait_gone(pids: Iterable[int], seconds: float = PATIENCE_S) -> None:
    """Return when none of these processes runs any more."""
    watched: dict[int, int] = {}
    for pid in pids:
        try:
            watched[os.pidfd_open(pid)] = pid
        except ProcessLookupError:
            continue
    poller = select.poll()
    for descriptor in watched:
        poller.register(descriptor, select.POLLIN)
    until = monotonic() + seconds
    try:
        while watched:
            left = until - monotonic()
            for descriptor, _ in poller.poll(max(0.0, left) * 1000):
                poller.unregister(descriptor)
                os.close(descriptor)
                del watched[descriptor]
            if watched and left <= 0:
                raise AssertionError(f"processes {sorted(watched.values())} still run after {seconds:g} s")
    finally:
        for descriptor in watched:
            os.close(descriptor)


def wait_until(
    condition: Callable[[], Any], what: str = "what the test waits for", *, seconds: float = PATIENCE_S
) -> Any:
    """For what another process or thread brings about a little after what the test has seen already.

    A worker sends its results first and notes then that it is idle, say. Gives back what is true then.
    """
    until = monotonic() + seconds
    # Less often with time: to look may be a request, or all of /proc, and takes from what is waited for.
    pause_s = 0.005
    while not (found := condition()):
        if monotonic() > until:
            raise AssertionError(f"{what} did not come within {seconds:g} s")
        threading.Event().wait(pause_s)
        pause_s = min(0.05, pause_s * 1.2)
    return found


def listens(port: int) -> bool:
    """Whether something of this machine takes connections there."""
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
    except (ConnectionRefusedError, ConnectionResetError):  # the other while a socket is closed
        return False
    return True


class Watcher:
    """An observer that remembers its news and can be waited on."""

    def __init__(self) -> None:
        self.new_events: list[Any] = []
        self._condition = threading.Condition()  # its lock is reentrant: conditions may ask `of`

    def __call__(self, event: Any) -> None:
        with self._condition:
            self.new_events.append(event)
            self._condition.notify_all()

    def of(self, kind: type) -> list[Any]:
        """All news of one kind so far."""
        with self._condition:
            return [each for each in self.new_events if isinstance(each, kind)]

    def wait_for(self, kind: type, count: int = 1) -> list[Any]:
        """All news of one kind once there are so many. They may come later than the results that they are about."""
        self.wait_until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)

    def wait_until(self, condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """Look at `condition` with each piece of news, and between them, until it holds: not every change is news."""
        end = time.monotonic() + seconds
        with self._condition:
            while not self._condition.wait_for(condition, 0.05):
                if time.monotonic() > end:
                    raise AssertionError(f"not within {seconds:g} s; the news were {self.new_events}")


def begin_records(pool: Pool) -> None:
    """Of a pool that several tests use: its thread for records begins with the first, and none is charged with it."""
    import logging  # workers import this module, and may have no use for it

    logger = logging.getLogger("tests")
    pool.submit(logger.warning, "ready").result()


def wait_full_strength(pool: Pool, watcher: Watcher) -> None:
    """Return when as many workers live as the pool should have."""
    watcher.wait_until(lambda: pool.statistics().workers == pool.workers)


def lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a file that workers append to; empty if there is none yet."""
    try:
        with open(path) as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def note(path: str | os.PathLike[str], word: object) -> None:
    """In a worker: append a line, in one piece."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    os.write(descriptor, f"{word}\n".encode())
    os.close(descriptor)
