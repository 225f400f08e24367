"""The parent's side of starting workers through a template; by forking itself: see `fork_launcher`.

Both answer with the same notices, (kind, worker, pid, wait status or None, largest resident bytes), where
kind is BORN, DIED or NOT_BORN of `worker.fork_server`; for worker 0 a template tells how its preload goes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Protocol

from allcores.backends.processes import templates
from allcores.system import cores, posix, procfs
from allcores.system.inheritable import umask
from allcores.system.sockets import socket_pair
from allcores.transport import authkey, surroundings, tracker
from allcores.transport.surroundings import Surroundings
from allcores.worker import identity, shared_template
from allcores.worker.fork_server import (
    BORN,
    DIED,
    FORK,
    NOT_BORN,
    NOTICE,
    PRELOAD_FAILED,
    PRELOADED,
    PRELOADING,
    REQUEST,
    SPAWN,
    THREADED,
)

Notice = tuple[int, int, int, int | None, int]

#: seconds that the template may take to go away by itself
TEMPLATE_END_S = 2.0
#: the same once it was killed: more than a busy machine needs
KILLED_END_S = 60.0
#: to open a folder that may not be read, to go there
_AS_FOLDER = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", os.O_RDONLY)


class Launcher(Protocol):
    """Starts workers and tells how they end. Used by the driver thread alone."""

    #: no descriptor of it tells of a worker's death: `notices` has to be asked
    blind: bool
    #: it can start workers now; one that still preloads cannot
    ready: bool
    #: it is in the middle of the preload function
    preloading: bool
    #: once it is closed: wait status, None if it is unknown
    status: int | None

    @property
    def pid(self) -> int:
        """Of the process between this one and the workers; 0: there is none."""

    def report(self) -> bytes:
        """What the preload left: a packed error, why it cannot be shared, or a fatal signal's stack."""

    def logged(self) -> bytes:
        """What the preload function has logged and printed, as frames; once."""

    def descriptors(self) -> list[int]:
        """What to wait on for notices."""

    def launch(self, worker: int, slot: int, pipe: int, notes: int) -> Surroundings:
        """Start a worker, which gets copies of the two descriptors, and tell what it will find around it.

        Other threads of the program may change that while it starts: what is told has to be what was given to it.
        """

    def notices(self) -> list[Notice] | None:
        """What happened since; None if the launcher itself is lost."""

    def resume(self) -> None:
        """Have what starts the workers, and tells how they end, go on if it was stopped."""

    def kill(self) -> None:
        """End what starts the workers, whatever it is doing."""

    def close(self) -> None:
        """Nothing of it is left after this."""

    def abandon(self) -> None:
        """In a forked copy of the parent: let go of descriptors, touch nothing else."""


class TemplateLauncher:
    """Workers are forked from a clean process ("template"), or are fresh interpreters ("spawn").

    That process is a copy of the program's template (`templates`), which tells of its end.

    Args:
        preload: What the template loads before it forks, as bytes; None: nothing.
        modules: What it imports before.
        descriptors: What goes along with that.
        logs: What the program wants of what is logged and printed there, as workers are told it; None: nothing.
    """

    blind = False

    def __init__(
        self,
        board_descriptor: int,
        slots: int,
        threads: int,
        share: int,
        *,
        spawn: bool,
        logs: bytes | None = None,
        preload: bytes | None = None,
        modules: Sequence[str] = (),
        descriptors: Sequence[int] = (),
    ) -> None:
        self._kind = SPAWN if spawn else FORK
        self.ready = preload is None
        self.preloading = False
        self.status: int | None = None
        #: end of file was seen: it is about to go by itself
        self._ended = False
        self._report = self._notes = -1
        self._last_report = b""
        #: of the pool's template, once it is known; whether it is known to be gone
        self._pid = 0
        self._gone = False
        tracked = tracker.descriptors() if preload is not None else []
        self._shared = templates.acquire()
        # Looked at once: what the template is given and what its workers are taken to have is the same.
        around = surroundings.current()
        bounds = surroundings.FRESH_BOUNDS if spawn else around.bounds
        self._surroundings = around.of_a_fresh_process(bounds=bounds)
        settings = {
            "path": around.path,
            "argv": list(sys.argv),
            "folder": around.folder or os.path.sep,
            "umask": umask(),
            "bounds": bounds,
            "environ": {**around.variables(), **cores.thread_environment(threads), "ALLCORES_BUDGET": str(share)},
            "slots": slots,
            "flags": self._shared.flags,
            "theirs": self._shared.foreign,
            "modules": list(modules),
            "logs": logs,
            "preloads": preload is not None,
            "authkey": authkey.current(),
            "process_name": identity.current_name(),
            "tracked": len(tracked),
        }
        with contextlib.ExitStack() as kept, contextlib.ExitStack() as sent:
            kept.callback(templates.release, self._shared)

            def lend(descriptor: int) -> int:
                sent.callback(os.close, descriptor)
                return descriptor

            # In files: they may be large, and a template that has yet to start reads nothing.
            files = [lend(_file_with(pickle.dumps(settings))), board_descriptor, 1, 2]
            with contextlib.suppress(OSError):
                folder = lend(os.open(".", _AS_FOLDER))
                # Another thread of the program may have gone elsewhere since: then it is left to its name.
                if around.folder is None or os.path.samestat(os.fstat(folder), os.stat(around.folder)):
                    files.append(folder)
            ours, theirs = socket_pair()
            sent.callback(theirs.close)
            kept.callback(ours.close)
            self._told, told = os.pipe()
            lend(told)
            kept.callback(os.close, self._told)
            os.set_blocking(self._told, False)
            if preload is not None:
                self._report = posix.anonymous_file("report")
                kept.callback(os.close, self._report)
                loads = [lend(_file_with(preload)), self._report]
                if logs is not None:
                    self._notes = posix.anonymous_file("notes")
                    kept.callback(os.close, self._notes)
                    loads.append(self._notes)
                loads += (*tracked, *descriptors)
            # One that ended at once shows as end of file in notices(), like one that is lost later.
            with contextlib.suppress(OSError):
                socket.send_fds(ours, [b"s"], files)
                if preload is not None:
                    socket.send_fds(ours, [b"p"], loads)
            by_value = shared_template.BY_VALUE if "cloudpickle" in sys.modules else 0
            self._shared.request(by_value | (shared_template.LOGS if logs is not None else 0), theirs.fileno(), told)
            ours.setblocking(False)
            kept.pop_all()
        self._control = ours
        self._rest = b""

    def _listen(self, seconds: float = 0.0) -> bool:
        """Wait for what is told of the template's beginning and end; False if nothing was, or will be."""
        if self._told < 0:
            return False
        waiting = select.poll()
        waiting.register(self._told, select.POLLIN)
        if not waiting.poll(seconds * 1000):
            return False
        told = os.read(self._told, shared_template.TOLD.size)
        if not told:
            return False
        kind, value = shared_template.TOLD.unpack(told)
        if kind == shared_template.BORN:
            self._pid = value
        else:
            self._gone = True
            self.status = value if kind == shared_template.DIED else None
            if kind == shared_template.NOT_BORN:
                # The system refuses: one that is started anew would say why.
                templates.retire(self._shared)
        return True

    @property
    def pid(self) -> int:
        """Of the template; of the program's, as long as ours is not forked."""
        while self._listen():
            pass
        return self._pid or self._shared.pid

    def descriptors(self) -> list[int]:
        return [self._control.fileno()]

    def launch(self, worker: int, slot: int, pipe: int, notes: int) -> Surroundings:
        request = REQUEST.pack(self._kind, worker, slot)
        self.resume()
        self._control.setblocking(True)
        self._control.settimeout(10.0)
        try:
            # A lost template shows as end of file in notices(), which starts a new one.
            with contextlib.suppress(OSError):
                socket.send_fds(self._control, [request], [pipe, notes])
        finally:
            self._control.setblocking(False)
        # The template's, which has been where the program was when it was made.
        return self._surroundings

    def notices(self) -> list[Notice] | None:
        try:
            data = self._control.recv(NOTICE.size * 256)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._ended = True
            return None
        data = self._rest + data
        whole = len(data) // NOTICE.size * NOTICE.size
        self._rest = data[whole:]
        notices = [NOTICE.unpack_from(data, offset) for offset in range(0, whole, NOTICE.size)]
        for kind, *_ in notices:
            if kind == PRELOADING:
                self.preloading = True
            elif kind in (PRELOADED, PRELOAD_FAILED, THREADED):
                self.preloading = False
                self.ready = kind == PRELOADED
        return notices

    def report(self) -> bytes:
        return posix.whole(self._report) if self._report >= 0 else self._last_report

    def logged(self) -> bytes:
        if self._notes < 0:
            return b""
        found = posix.whole(self._notes)
        os.close(self._notes)
        self._notes = -1
        return found

    def resume(self) -> None:
        self._shared.resume()
        while self._listen():
            pass
        # Its number is another's once its parent has collected it, and if that is gone, nobody has told.
        if self._pid and not self._gone and procfs.parent(self._pid) == self._shared.pid:
            posix.resume(self._pid)

    def kill(self) -> None:
        """End it, whatever it is doing, and what its preload has started."""
        while self._listen():
            pass
        if self._pid and not self._gone:
            posix.end_group(self._pid, signal.SIGKILL)
        elif not self._gone:
            # What is to fork it was stopped, or is stuck.
            self._shared.kill()

    def close(self) -> None:
        self._control.close()
        while self._listen():
            pass
        # One that is yet to be forked will see the end of its socket first, and do nothing.
        if not self._gone and (self._pid or self._ended):
            self._await_end()
        told, self._told = self._told, -1
        os.close(told)
        templates.release(self._shared)
        if self._report >= 0:
            self._last_report = self.report()
        self._close_files()

    def _close_files(self) -> None:
        for descriptor in (self._report, self._notes):
            if descriptor >= 0:
                os.close(descriptor)
        self._report = self._notes = -1

    def _await_end(self) -> None:
        """Until the template is gone, which it is about to be."""
        self.resume()
        if not self.ready and not self._ended:
            # Its loop, which would see the end of the socket, is still far away.
            self.kill()
        self._gone or self._listen(TEMPLATE_END_S)
        if self._gone:
            return
        if self._pid:
            posix.end_group(self._pid, signal.SIGKILL)
            # Its end is told by the program's template alone.
            if not procfs.is_stopped(self._shared.pid):
                self._listen(KILLED_END_S)
        if not self._gone:
            # That one is gone, or stopped: nobody will tell.
            self._shared.kill()
            self.status = self._shared.wait()

    def abandon(self) -> None:
        # A copy of our end would hide the parent's death from the template.
        self._control.close()
        os.close(self._told)
        self._told = -1
        self._close_files()


def _file_with(data: bytes) -> int:
    """Descriptor of a file in memory that holds `data`."""
    descriptor = posix.anonymous_file("preload")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    # Whoever gets the descriptor shares the position.
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


__all__ = [
    "BORN",
    "DIED",
    "NOT_BORN",
    "PRELOADED",
    "PRELOADING",
    "PRELOAD_FAILED",
    "THREADED",
    "Launcher",
    "Notice",
    "TemplateLauncher",
]
