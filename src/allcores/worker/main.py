"""A worker's life: guard itself, set up, run chunks until the pipe ends or it is told to stop.

Started by the template (fork), by the parent (start method "fork") or as a fresh interpreter
("spawn"); from `serve` on all are alike.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

from allcores.shared_memory.worker_side import WorkerMemory
from allcores.system import posix, standard_streams
from allcores.system.posix import move_fd_high
from allcores.system.sockets import socket_of
from allcores.transport import (
    authkey,
    chunk_ends,
    frames,
    inheritance,
    module_settings,
    process_role,
    script_globals,
    tracker,
)
from allcores.transport.exceptions import pack_error
from allcores.transport.pickling import dumps, loads
from allcores.transport.positions import PHASE_IDLE, PHASE_SETUP
from allcores.transport.spin_wait import SpinWait, readable
from allcores.transport.status_board import PHASE, PID, STARTED, Board
from allcores.worker import coverage_data, following, identity, inherited, process_reset, whole_lines
from allcores.worker.arrivals import Arrivals
from allcores.worker.chunk_runner import ChunkRunner
from allcores.worker.frame_writer import FrameWriter
from allcores.worker.watched_functions import modules_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The pipe is gone although the parent lives: the task closed a descriptor that was ours.
EXIT_LOST_PIPE = 70
#: Bytes per read. Above 128 kB malloc would map and unmap memory for every read.
READ_BYTES = 65_536
#: what stays open until the worker's very end
kept: list[socket.socket | int] = []


def serve(
    pipe_descriptor: int,
    notes_descriptor: int,
    board: Board,
    slot_number: int,
    parent: int,
    preloaded: tuple[Any, ...] | None = None,
) -> None:
    """Be a worker until the end. Never returns.

    Args:
        parent: Pid of the process that made this one.
        notes_descriptor: Where a fatal signal's stack goes.
        preloaded: What that process has loaded for all its workers: () or a tuple of one, None if nothing was asked of
            it.
    """
    code = 1
    try:
        code = _serve(pipe_descriptor, notes_descriptor, board, slot_number, parent, preloaded)
    except BaseException:
        with contextlib.suppress(BaseException):
            sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(BaseException):
            standard_streams.flush()
        os._exit(code)


def _guard(notes_descriptor: int, parent: int) -> int:
    import faulthandler

    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    posix.die_with_parent(parent)
    posix.keep_standard()
    process_role.become_worker()
    process_reset.begin()
    notes = move_fd_high(notes_descriptor)
    faulthandler.enable(notes, all_threads=False)
    return notes


def _serve(
    pipe_descriptor: int,
    notes_descriptor: int,
    board: Board,
    slot_number: int,
    parent: int,
    preloaded: tuple[Any, ...] | None,
) -> int:
    notes = _guard(notes_descriptor, parent)
    process_role.take_place(slot_number + 1)
    inherited.begin()
    identity.take(board.name_of(slot_number), slot_number + 1, board.parent)
    whole_lines.begin()
    _reseed()
    state = preloaded or ()
    pipe = socket_of(move_fd_high(pipe_descriptor))
    board.slot(slot_number)[PID] = os.getpid()

    def lost(error: OSError) -> None:
        # EPIPE: the parent is gone. Anything else: a task closed the pipe. Sealed results are safe.
        os._exit(0 if isinstance(error, (BrokenPipeError, ConnectionResetError)) else EXIT_LOST_PIPE)

    return work(pipe, board, slot_number, lost, state, notes)


def work(
    pipe: socket.socket,
    board: Board,
    slot_number: int,
    lost: Callable[[OSError], None],
    state: tuple[Any, ...] = (),
    notes: int = -1,
) -> int:
    """Do what comes through the pipe until it ends, or says so; returns the worker's exit code.

    Args:
        lost: See FrameWriter.
        state: What was preloaded for all workers: () or a tuple of one.
        notes: Where faulthandler writes; -1: it is not in use.
    """
    return WorkerLoop(pipe, board, slot_number, lost, state, notes).run()


class WorkerLoop:
    """What a worker does with each frame that comes through its pipe. See `work`."""

    def __init__(
        self,
        pipe: socket.socket,
        board: Board,
        slot_number: int,
        lost: Callable[[OSError], None],
        state: tuple[Any, ...],
        notes: int,
    ) -> None:
        # Open until the very end: it closes with the process.
        kept.append(pipe)
        self._pipe = pipe
        self._board = board
        self._slot_number = slot_number
        self._slot = board.slot(slot_number)
        self._state = state
        self._notes = notes
        self._frame_writer = frame_writer = FrameWriter(pipe, lost)
        tracker.report(lambda line: frame_writer.note(frames.frame(frames.TRACK, 0, line)))
        self._arrivals = Arrivals()
        self._receive: Callable[[int], bytes] = pipe.recv
        self._worker_memory: WorkerMemory | None = None
        #: None until it is set up
        self._chunk_runner: ChunkRunner | None = None
        self._teardown: Any = None
        #: the setup function and its arguments: tasks may use what belongs to one of them (a view of shared memory)
        self._set_up_by: tuple[Any, Any] | None = None

    def run(self) -> int:
        """Go on until the pipe ends, or says so; returns the worker's exit code."""
        inbox = frames.Inbox()
        waiting: list[tuple[int, int, bytes]] = []
        spin_wait = SpinWait()
        pollable = readable(self._pipe.fileno())
        while True:
            chunk_runner = self._chunk_runner
            if not waiting:
                prompt = chunk_runner is not None and chunk_runner.prompt
                if prompt and pollable is not None:
                    spin_wait.look(pollable)
                try:
                    if chunk_runner is not None:
                        data = self._receive(READ_BYTES)
                    else:
                        data = self._arrivals.receive(self._pipe, READ_BYTES)
                except OSError:
                    return EXIT_LOST_PIPE
                if not data:
                    return 0
                if prompt:
                    spin_wait.answered()
                waiting = inbox.feed(data)
                continue
            kind, number, body = waiting.pop(0)
            if kind == frames.CHUNK:
                assert chunk_runner is not None
                chunk_runner.run(number, body)
                if chunk_runner.leaving:
                    return self._leave()
            elif kind == frames.RETURNED:
                assert self._worker_memory is not None
                self._worker_memory.returned(body)
            else:
                code = self._take(kind, number, body)
                if code is not None:
                    return code

    def _take(self, kind: int, number: int, body: bytes) -> int | None:
        """Do what comes seldom; returns the exit code if that is the end."""
        chunk_runner = self._chunk_runner
        if kind == frames.FUNCTION:
            assert chunk_runner is not None
            chunk_runner.learn(number, body)
        elif kind == frames.SURROUNDINGS:
            if chunk_runner is not None:
                chunk_runner.follow(body)
            else:
                following.follow(body)
        elif kind == frames.FORGET:
            assert chunk_runner is not None
            chunk_runner.forget(number)
        elif kind == frames.BLOCKS:
            start, budget = frames.RANGE.unpack(body)
            blocks = move_fd_high(os.dup(self._board.descriptor))
            elsewhere = self._arrivals.of(kind)
            kept.extend((blocks, *elsewhere))
            self._worker_memory = WorkerMemory(blocks, start, budget, *elsewhere)
        elif kind == frames.PRELOAD:
            return self._preload(body)
        elif kind == frames.SETUP:
            return self._set_up(body)
        elif kind == frames.AUTHKEY:
            authkey.adopt(bytes(body))
        elif kind == frames.INHERIT:
            self._arrivals.sort(body[0], number)
            if body[0] == 0:
                tracker.share(self._arrivals.of(0))
        elif kind == frames.LOGS:
            from allcores.worker import log_forwarding

            log_forwarding.install(self._frame_writer, body)
        elif kind == frames.STOP:
            return self._leave()
        return None

    def _preload(self, body: bytes) -> int | None:
        """Load what nobody could load for all workers."""
        from allcores.worker import preload

        self._slot[STARTED] = 1
        self._slot[PHASE] = PHASE_SETUP
        try:
            with inheritance.opening(self._arrivals.of(frames.PRELOAD)):
                self._state = preload.load(body)
        except BaseException as error:
            return self._fail(frames.PRELOAD, error, skip_frames=preload.FRAMES)
        return None

    def _set_up(self, body: bytes) -> int | None:
        """Run the setup function, and be ready for chunks."""
        slot, frame_writer, worker_memory = self._slot, self._frame_writer, self._worker_memory
        slot[STARTED] = 1
        slot[PHASE] = PHASE_SETUP
        try:
            with inheritance.opening(self._arrivals.of(frames.SETUP)):
                setup, args, teardown, items_limit, growth_limit = (
                    loads if worker_memory is None else worker_memory.loads
                )(body)
            with script_globals.binding():
                value = setup(*self._state, *args) if setup is not None else None
        except BaseException as error:
            return self._fail(frames.SETUP, error, skip_frames=1)
        module_settings.begin()
        self._teardown, self._set_up_by = teardown, (setup, args)
        outbox = self._board.outbox(self._slot_number)
        options: dict[str, Any] = {
            "items_limit": items_limit,
            "growth_limit": growth_limit,
            "worker_memory": worker_memory,
            "behind": frame_writer.behind,
            "notes": self._notes,
            "left_alone": frozenset(modules_of(setup) | modules_of(teardown)),
        }
        concurrent = getattr(setup, "concurrent_calls", 1)
        if concurrent > 1:
            from allcores.worker.concurrent_runner import ConcurrentRunner

            concurrent_runner = ConcurrentRunner(concurrent, frame_writer.send, slot, outbox, **options)
            chunk_runner: ChunkRunner = concurrent_runner
            self._receive = concurrent_runner.receiving(self._pipe)
        else:
            chunk_runner = ChunkRunner(frame_writer.send, slot, outbox, **options)
        chunk_runner.state = self._state if value is None else (value,)
        self._chunk_runner = chunk_runner
        slot[STARTED] = 0
        slot[PHASE] = PHASE_IDLE
        frame_writer.send(frames.frame(frames.READY, 0))
        return None

    def _fail(self, step: int, error: BaseException, *, skip_frames: int) -> int:
        """Tell that `step` has raised. What it has put into queues (log records, say) is there before."""
        packed = dumps(pack_error(error, skip_frames=skip_frames))
        inherited.end_soon()
        self._frame_writer.send(frames.frame(frames.SETUP_FAILED, step, packed))
        coverage_data.save()
        return 1

    def _leave(self) -> int:
        """End in the normal way."""
        chunk_runner = self._chunk_runner
        try:
            if chunk_runner is not None:
                chunk_runner.flush()
                chunk_ends.run()
                if self._teardown is not None:
                    self._teardown(*chunk_runner.state)
        finally:
            inherited.end()
            log_forwarding: Any = sys.modules.get("allcores.worker.log_forwarding")
            if log_forwarding is not None:
                log_forwarding.finish()
            coverage_data.save()
            self._frame_writer.finish()
        return 0


def _reseed() -> None:
    """Random numbers of its own for each worker that was forked with NumPy loaded, as Python sees to for `random`."""
    numbers: Any = sys.modules.get("numpy.random")
    if numbers is not None:
        with contextlib.suppress(Exception):
            if hasattr(numbers, "set_bit_generator"):
                # Another one, not the copy seeded anew: a thread of the program may have held its lock at the fork.
                numbers.set_bit_generator(type(numbers.get_bit_generator())())
            else:
                numbers.seed()


def spawned(arguments: list[str]) -> None:
    """Entry of a fresh interpreter: descriptors and numbers come as words on the command line, and a name."""
    *numbers, identity.program_name = arguments
    pipe, notes, board, slots, slot_number, parent = map(int, numbers)
    mapped = Board(board, slots)
    serve(pipe, notes, mapped, slot_number, parent)
