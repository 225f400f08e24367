"""A worker that is an interpreter of its own within the program's process: the same loop, and nothing of the process.

Called by `backends.interpreter_launcher` in the new interpreter, on the thread that keeps it.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading

from allcores.system.posix import move_fd_high
from allcores.system.sockets import socket_of
from allcores.transport import process_role
from allcores.transport.positions import PHASE_IDLE
from allcores.transport.status_board import PHASE, Board
from allcores.worker import extensions, inherited, main, whole_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: pause between two tries to end what catches everything, ms
AGAIN_MS = 50


class _Lost(BaseException):
    """The pipe is gone: nobody wants what this worker does."""


class _Watcher:
    """A thread that ends this interpreter's work once the program has let go of it, as far as that can be done.

    Python code ends at its next step, by an exception that is raised in it. What waits in C code goes on.
    """

    def __init__(self, pipe: int, slot: Any) -> None:
        import ctypes

        self._set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
        self._set_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
        self._worker = threading.get_ident()
        self._pipe = pipe
        self._slot = slot
        self._read, self._write = os.pipe()
        # Not a daemon: there are none in such an interpreter.
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        gone, ended = select.poll(), select.poll()
        # Without events: only the end of the other side.
        gone.register(self._pipe, 0)
        gone.register(self._read, select.POLLIN)
        ended.register(self._read, select.POLLIN)
        gone.poll()
        while not ended.poll(0):
            # Between two chunks it finds out by itself.
            if self._slot[PHASE] != PHASE_IDLE:
                self._set_exception(self._worker, _Lost)
            if ended.poll(AGAIN_MS):
                return

    def end(self) -> None:
        """The worker's thread is done: no exception is raised in it after this."""
        ended = False
        while not ended:
            # One may be on its way.
            with contextlib.suppress(_Lost):
                os.write(self._write, b"!")
                self._thread.join()
                # Here at the latest it arrives.
                sum(range(100))
                ended = True
        main.kept.extend((self._read, self._write))


def serve(
    pipe_descriptor: int,
    board_descriptor: int,
    slots: int,
    slot_number: int,
    share: int,
    environ: Mapping[bytes, bytes],
) -> None:
    """Be a worker until the end. It closes the two descriptors.

    Args:
        board_descriptor: Of the status board's file.
        slots: On the board.
        share: Cores that this worker and its nested pools may use.
        environ: The variables that it was started with; those of the process may have changed since.
    """
    process_role.become_interpreter()
    process_role.take_place(slot_number + 1)
    extensions.explain_refusals()
    inherited.begin()
    whole_lines.begin()
    # Not through `os.environ`, which would set them for the process.
    below = vars(os.environ)["_data"]
    below.clear()
    below.update(environ)
    below[b"ALLCORES_BUDGET"] = str(share).encode()
    pipe = socket_of(move_fd_high(pipe_descriptor))
    main.kept.append(board_descriptor)
    board = Board(board_descriptor, slots)
    watcher = _Watcher(pipe.fileno(), board.slot(slot_number))
    try:
        main.work(pipe, board, slot_number, _lost)
    except _Lost:
        pass
    finally:
        watcher.end()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        for each in main.kept:
            with contextlib.suppress(OSError):
                os.close(each) if isinstance(each, int) else each.close()


def _lost(error: OSError) -> None:
    raise _Lost from error
