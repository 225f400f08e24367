"""A small process that ends process groups when its maker is gone.

The kernel ends forked workers themselves (PR_SET_PDEATHSIG), but not what their tasks have forked; nor does it
end what a preload function has started. With a template, the template does this for the workers' groups, and
a watchdog for the template's own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct

from allcores.system import posix, procfs


class Watchdog:
    """See the module. Made by the process that is watched, which tells it what to end."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self._write = posix.move_fd_high(write)
        os.set_blocking(self._write, False)
        self._pid = posix.fork()
        if self._pid == 0:
            self._watch(read)
        os.close(read)

    def _watch(self, read: int) -> None:
        """In the child: note pids (a negative one is gone) until the pipe ends; then end their groups."""
        try:
            os.setpgid(0, 0)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            # A copy of another's descriptor would keep it open for as long as we live.
            low = os.dup2(read, 3) if read != 3 else 3
            os.closerange(0, 3)
            os.closerange(low + 1, os.sysconf("SC_OPEN_MAX"))
            alive: set[int] = set()
            while data := os.read(low, 8 * 512):
                for (pid,) in struct.iter_unpack("<q", data):
                    (alive.add if pid > 0 else alive.discard)(abs(pid))
            for pid in alive:
                posix.end_group(pid, signal.SIGKILL)
        finally:
            os._exit(0)

    def tell(self, pid: int) -> None:
        """A process was born, or (negative) is gone."""
        with contextlib.suppress(OSError):
            try:
                os.write(self._write, struct.pack("<q", pid))
            except BlockingIOError:
                # It was stopped some thousand processes ago. One that misses an end might end another's group.
                self._kill()

    def _kill(self) -> None:
        # Where the program ignores SIGCHLD, its number may be another's once it has ended.
        if procfs.parent(self._pid) == os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """End it; everything it was told of is gone, so it has nothing to do, also if it was stopped."""
        # Before the end of its pipe, which would have it end whatever it was not told to be gone.
        self._kill()
        self.abandon()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def abandon(self) -> None:
        """In a forked copy of its maker: a copy of our end would hide the maker's death."""
        descriptor, self._write = self._write, -1
        if descriptor >= 0:
            os.close(descriptor)
