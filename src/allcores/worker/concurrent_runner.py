"""Runs several calls of an actor at a time, in threads; all else stays on the worker's main thread.

Threads call the function, and that is all: unpickling, pickling, shared memory, the pipe and the board are the main
thread's, as in any worker. It waits for the pipe and for finished calls at once. On the board is the call that was
begun last: with the order of calls, that says which were begun.
"""

from __future__ import annotations

import contextlib
import select
import threading
from _queue import Empty, SimpleQueue
from contextvars import Context, copy_context
from time import monotonic_ns

from allcores.system.posix import move_fd_high
from allcores.system.wake_pipe import WakePipe
from allcores.transport import frames
from allcores.transport.exceptions import add_note, frames_of, pack_error
from allcores.transport.pickling import ITEM_UNREAD
from allcores.transport.positions import PHASE_LOADING, PHASE_RUNNING
from allcores.transport.references import Arrivals, OpenFiles
from allcores.transport.status_board import CLAIMED, CURRENT, FIRST, LIMIT, PHASE, SEQUENCE, STARTED
from allcores.worker import following
from allcores.worker import forked as forks
from allcores.worker.chunk_runner import ChunkRunner
from allcores.worker.learned_function import LearnedFunction

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

#: of the frames that stand between a thread of calls and a function
_OWN = (globals(), LearnedFunction.calling.__globals__)


class ConcurrentRunner(ChunkRunner):
    """See the module.

    Args:
        concurrent: How many calls at a time, at most; the parent sends no more.
    """

    def __init__(self, concurrent: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._to_run: SimpleQueue[tuple[int, Context, Callable[[Any], Any], Any]] = SimpleQueue()
        self._finished: SimpleQueue[tuple[int, Any, Any, int]] = SimpleQueue()
        #: those that are running, with the time at which they were begun
        self._running: dict[int, int] = {}
        self._wake_pipe = WakePipe(move_fd_high)
        for number in range(concurrent):
            threading.Thread(target=self._work, name=f"call-{number + 1}", daemon=True).start()

    def run(self, sequence: int, body: bytes) -> None:
        """Begin a call, and send what came of others meanwhile."""
        slot = self._slot
        base = sequence << 32
        if base >= slot[LIMIT]:
            super().run(sequence, body)  # it is not to be begun, and says so
            return
        slot[STARTED] = monotonic_ns()
        slot[CURRENT] = 0
        slot[SEQUENCE] = sequence
        slot[PHASE] = PHASE_LOADING
        slot[CLAIMED] = base + 1
        number, _, _, _, _, _, slot[FIRST] = frames.CHUNK_HEAD.unpack_from(body)
        function = self._functions[number]
        broken = function.error
        if following.values is not None:
            broken = following.set_context() or broken
        item: Any = None
        if broken is None:
            try:
                (item,) = self._loads(memoryview(body)[frames.CHUNK_HEAD.size :])
            except BaseException as error:
                add_note(error, ITEM_UNREAD)
                broken = error
        slot[PHASE] = PHASE_RUNNING
        if broken is not None:
            packed = pack_error(broken)
            broken = None
            self._seal(sequence, 0, 1, [], [(0, packed)], None, 0, ended=True, unloadable=True)
            self._rest()
            return
        call = function.calling(self.state)
        if Arrivals.seen:
            # There are references among the arguments: files that are open for one call are not for another.
            Arrivals.seen = False
            call = _with_files(function.style, call)
        self._running[sequence] = monotonic_ns()
        # The decimal context and context variables are this thread's, set to what this call's caller has.
        self._to_run.put((sequence, copy_context(), call, item))

    def _work(self) -> None:
        """A thread of calls."""
        while True:
            sequence, context, call, item = self._to_run.get()
            begun = monotonic_ns()
            value = packed = None
            try:
                value = context.run(call, item)
            except BaseException as error:
                if self.forked:
                    forks.leave(error)
                packed = pack_error(error, skip_frames=frames_of(error, *_OWN))
            if self.forked:
                forks.leave()
            # What lies in blocks goes back once nobody refers to it.
            del context, call, item
            self._finished.put((sequence, value, packed, monotonic_ns() - begun))
            del value
            self._wake_pipe.wake()

    def receiving(self, pipe: socket.socket) -> Callable[[int], bytes]:
        """What receives from the pipe, and sends what comes of calls as long as there is nothing in it."""

        def receive(size: int) -> bytes:
            self._wait(pipe)
            return pipe.recv(size)

        return receive

    def _wait(self, pipe: socket.socket) -> None:
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        poller.register(self._wake_pipe.reads, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self._wake_pipe.reads in ready:
                self._wake_pipe.take()
                self._settle()
            if ready - {self._wake_pipe.reads}:
                return

    def _settle(self) -> None:
        """Seal the results that are here, and send them."""
        with contextlib.suppress(Empty):
            while True:
                sequence, value, packed, total_ns = self._finished.get_nowait()
                del self._running[sequence]
                values, failures = ([value], []) if packed is None else ([], [(0, packed)])
                del value
                self._seal(sequence, 0, 1, values, failures, None, total_ns, ended=True)
        self._rest()

    def _rest(self) -> None:
        """Send what is sealed; if nothing runs any more, the board says so."""
        if not self._running:
            super()._rest()
            return
        self.flush()
        self._slot[STARTED] = min(self._running.values())
        self._slot[PHASE] = PHASE_RUNNING


def _with_files(style: str, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The call, with the files that its arguments refer to open for it."""

    def opened(item: Any) -> Any:
        files = OpenFiles()
        try:
            return call(files.loaded(style, item))
        finally:
            files.close()

    return opened
