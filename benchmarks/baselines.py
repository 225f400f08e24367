"""The least that the work costs: loops over pipes and sockets, with none of what makes a pool usable.

No crash, no error, no order but the simplest is taken care of in here.
"""

from __future__ import annotations

import os
import pickle
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

_LENGTH = struct.Struct("=I")


def _receive(connection: socket.socket) -> Any:
    """One pickled message, None at the end."""
    head = connection.recv(_LENGTH.size, socket.MSG_WAITALL)
    if len(head) < _LENGTH.size:
        return None
    return pickle.loads(connection.recv(_LENGTH.unpack(head)[0], socket.MSG_WAITALL))


def _send(connection: socket.socket, message: Any) -> None:
    data = pickle.dumps(message, 5)
    connection.sendall(_LENGTH.pack(len(data)) + data)


def _fork_worker(run: Callable[[socket.socket], None], others: list[socket.socket]) -> socket.socket:
    """Fork a process that runs `run` on its end of a new socket pair; returns our end."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        for connection in (*others, ours):
            connection.close()
        try:
            run(theirs)
        finally:
            os._exit(0)
    theirs.close()
    return ours


def _run_chunks(connection: socket.socket) -> None:
    while (message := _receive(connection)) is not None:
        fn, chunk = message
        _send(connection, [fn(item) for item in chunk])


class SocketWorkers:
    """Two chunks in flight per worker, sent and collected in turn by one thread."""

    def __init__(self, workers: int) -> None:
        self.connections: list[socket.socket] = []
        for _ in range(workers):
            self.connections.append(_fork_worker(_run_chunks, self.connections))

    def stream(self, fn: Callable[[Any], Any], items: Iterable[Any], chunk: int) -> Iterator[Any]:
        """Ordered results; right only while chunks are small enough for the sockets' buffers."""
        source = iter(items)
        waiting: deque[socket.socket] = deque()

        def send(connection: socket.socket) -> None:
            part = list(islice(source, chunk))
            if part:
                _send(connection, (fn, part))
                waiting.append(connection)

        for connection in self.connections * 2:
            send(connection)
        while waiting:
            connection = waiting.popleft()
            results = _receive(connection)
            send(connection)
            yield from results

    def close(self) -> None:
        """Closing the sockets ends the workers."""
        for connection in self.connections:
            connection.close()


class PingPong:
    """A pipe each way, eight bytes, no pickling."""

    def __init__(self) -> None:
        read_there, self._write = os.pipe()
        self._read, write_there = os.pipe()
        if os.fork() == 0:
            os.close(self._write)
            os.close(self._read)
            try:
                while data := os.read(read_there, 8):
                    os.write(write_there, data)
            finally:
                os._exit(0)
        os.close(read_there)
        os.close(write_there)

    def exchange(self, number: int) -> int:
        """Send and get back."""
        os.write(self._write, number.to_bytes(8, "little"))
        return int.from_bytes(os.read(self._read, 8), "little")

    def close(self) -> None:
        """Closing the pipe ends the process."""
        os.close(self._write)
        os.close(self._read)


def echo(connection: Connection, parents_end: Connection) -> None:
    """Send back what comes, until the other end is closed."""
    parents_end.close()
    try:
        while True:
            connection.send(connection.recv())
    except EOFError:
        pass


class DriverThread:
    """`submit` wakes a thread, which sends; the thread waits in a selector and sets the future."""

    def __init__(self, workers: int) -> None:
        self._idle: deque[socket.socket] = deque()
        for _ in range(workers):
            self._idle.append(_fork_worker(_run_chunks, list(self._idle)))
        self._wake_read, self._wake_write = os.pipe()
        self._queue: deque[tuple[Any, Any, Future[Any]]] = deque()
        self._running: dict[int, Future[Any]] = {}
        self._connections = list(self._idle)
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[[Any], Any], argument: Any) -> Future[Any]:
        """A future, as executors give one."""
        future: Future[Any] = Future()
        self._queue.append((fn, argument, future))
        os.write(self._wake_write, b"x")
        return future

    def _drive(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._wake_read, selectors.EVENT_READ, None)
        for connection in self._connections:
            selector.register(connection, selectors.EVENT_READ, connection)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    if b"q" in os.read(self._wake_read, 4096):
                        return
                else:
                    results = _receive(key.data)
                    self._idle.append(key.data)
                    self._running.pop(key.fd).set_result(results[0])
            while self._queue and self._idle:
                fn, argument, future = self._queue.popleft()
                connection = self._idle.popleft()
                self._running[connection.fileno()] = future
                _send(connection, (fn, [argument]))

    def close(self) -> None:
        """End the thread, then the workers."""
        os.write(self._wake_write, b"q")
        self._thread.join()
        for connection in self._connections:
            connection.close()


def split_run(fn: Callable[[Any], float], shares: list[list[Any]]) -> tuple[float, float]:
    """Fork a process per share, start them together, seconds until the last one is done and sum of the results.

    Each is bound to a core of its own where that is possible: two processes woken by one pipe may sit on the
    same core for half a second while the other is idle, and a limit should not depend on that.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    go_read, go_write = os.pipe()
    done_read, done_write = os.pipe()
    pids = []
    for number, share in enumerate(shares):
        pid = os.fork()
        if pid == 0:
            try:
                if number < len(cores):
                    os.sched_setaffinity(0, {cores[number]})
                os.close(go_write)
                os.read(go_read, 1)
                total = 0.0
                for item in share:
                    total += fn(item)
                os.write(done_write, struct.pack("=d", total))
            finally:
                os._exit(0)
        pids.append(pid)
    os.close(go_read)
    time.sleep(0.05)  # let them all arrive at their read
    started = time.perf_counter()
    os.close(go_write)
    total = sum(struct.unpack("=d", os.read(done_read, 8))[0] for _ in shares)
    seconds = time.perf_counter() - started
    os.close(done_read)
    os.close(done_write)
    for pid in pids:
        os.waitpid(pid, 0)
    return seconds, total
