"""The program's template, of which each pool's own is a copy: started by the first pool, kept until the program ends.

An interpreter takes over a tenth of a second of processor time to start and to import what workers need; a copy of one
takes a few milliseconds. So there is one for all pools (`worker.shared_template`), kept when the last is closed.
Pools are as far from each other as if each had started its own: the end of a pool's template concerns no other,
and the end of the program's only pools whose templates have yet to be copied, which start another.

What a process inherits and cannot change later, and what an interpreter looks at when it starts, is compared
(`_preparation`). If it differs, or cannot be told, another is started and takes the place of the former. All else is
sent with each request and set in the copy (`worker.starting_state`).

A worker whose tasks make pools of their own keeps none: it ends with the last of them, so that workers which are done
with that hold no memory for it. A forked copy of the program lets go of it and starts one of its own. Locks: the
registry is used in a `ForkLock`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import sys
import threading

from allcores.system import environment, fork_lock, forks, own_imports, posix
from allcores.system.inheritable import inheritable
from allcores.system.sockets import socket_pair
from allcores.transport import process_role

#: seconds that the program's template may take to take a request: it is busy for some milliseconds at most
REQUEST_S = 10.0
#: seconds that it may take to go away by itself
END_S = 2.0
#: seconds that it may take to go once it was killed
KILLED_END_S = 60.0

#: Modules that it imports besides as it starts. None: what functions need is imported where they are run. Only for our
#: tests, whose modules all need pytest: that would be imported again in each worker of each pool.
imported: tuple[str, ...] = ()

#: beginnings of the names of variables that are read by the interpreter as it starts, by its C library, or by what
#: is commonly loaded with it
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "DYLD_", "MALLOC_", "GLIBC_", "COVERAGE_", "COV_CORE_")


class SharedTemplate:
    """The program's side of one. `users`: pools' templates that were asked of it and are not gone yet."""

    def __init__(self, preparation: object) -> None:
        import subprocess  # 7 ms that only this start method needs

        self.preparation = preparation
        self.users = 0
        #: it is not handed out any more, and ends when nobody uses it
        self.retired = False
        #: of the interpreter, for fresh ones; and see `own_imports`
        self.flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        self.foreign = own_imports.foreign()
        #: its wait status, once it is gone; None if that is lost
        self.status: int | None = None
        self._gone = False
        self._end_lock = threading.Lock()
        ours, theirs = socket_pair()
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
        # What we import comes from where Python keeps it: not from the working folder, and from the folder of
        # allcores only allcores itself. Functions of the program find theirs once its sys.path is there.
        code = (
            "import sys; sys.flags.safe_path or sys.path.pop(0); "
            f"sys.path.insert(0, {package!r}); from allcores.system import own_imports; sys.path.pop(0); "
            f"own_imports.install({self.foreign!r}); {''.join(f'import {name}; ' for name in imported)}"
            f"from allcores.worker.shared_template import run; run({theirs.fileno()})"
        )
        try:
            # A group of its own: Ctrl-C in a terminal must reach the program alone.
            self._process = subprocess.Popen(
                [sys.executable, *self.flags, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        ours.setblocking(False)
        self._control = ours

    def fileno(self) -> int:
        """Of our end of its socket; -1 once that is closed."""
        return self._control.fileno()

    @property
    def lost(self) -> bool:
        """Whether it is gone: nothing but the end ever comes from it."""
        try:
            return not self._control.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def request(self, loaded: int, session: int, told: int) -> None:
        """Have it make a template that serves `session` and whose end is written to `told`.

        If it is lost, so are these two: their other ends show it.
        """
        self.resume()
        waiting = select.poll()
        waiting.register(self._control, select.POLLOUT)
        # It is busy, or has yet to start, with a few hundred requests before this one.
        waiting.poll(REQUEST_S * 1000)
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [bytes([loaded])], [session, told])

    def resume(self) -> None:
        """Have it go on if it was stopped: it makes templates, and tells of their ends."""
        if not self._end_lock.acquire(blocking=False):
            return  # it is being ended, which nobody has to wait for here
        try:
            # Until it is collected, its number is given to no other process.
            if not self._gone:
                posix.resume(self.pid)
        finally:
            self._end_lock.release()

    def kill(self) -> None:
        """End it, whatever it is doing."""
        with self._end_lock:
            # Until it is collected, its number is given to no other process.
            if not self._gone and not self._collect():
                posix.end_group(self.pid, signal.SIGKILL)

    def _collect(self) -> bool:
        """Whether it has ended; with `_end_lock` held."""
        try:
            dead, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._left(None)
            return True
        if dead:
            self._left(status)
        return bool(dead)

    def _left(self, status: int | None) -> None:
        self._gone, self.status = True, status
        # Popen takes a child that was reaped elsewhere for one that ended well.
        self._process.returncode = os.waitstatus_to_exitcode(status) if status is not None else 0

    def wait(self) -> int | None:
        """Until it is gone, which it is about to be; killed if that takes long. Its wait status, None if unknown."""
        with self._end_lock:
            if not self._gone:
                posix.resume(self.pid)
                try:
                    status = posix.wait_for(self.pid, END_S)
                except TimeoutError:
                    posix.end_group(self.pid, signal.SIGKILL)
                    status = posix.wait_for(self.pid, KILLED_END_S)
                self._left(status)
            return self.status

    def close(self) -> None:
        """Have it end; nobody uses it."""
        self._control.close()
        self.wait()

    def abandon(self) -> None:
        """In a forked copy of the program: a copy of our end would hide the program's end from it."""
        self._control.close()
        # It is no child of this process: Popen is not to miss its end.
        self._process.returncode = 0


#: the one that new pools use
_current: SharedTemplate | None = None
#: all whose socket is open here
_open: set[SharedTemplate] = set()


def acquire() -> SharedTemplate:
    """The program's template; started now if there is none that will do. To be given back by `release`.

    Raises:
        OSError: If it cannot be started.
    """
    global _current
    with fork_lock.ForkLock():
        preparation = _preparation()
        former = _current
        if former is None or former.lost or preparation is None or preparation != former.preparation:
            new = SharedTemplate(preparation)
            _open.add(new)
            _current = new
        else:
            new = former
        new.users += 1
    if former is not None and former is not new:
        retire(former)
    return new


def start() -> None:
    """Start it, if there is none: a pool is about to be made, and it begins while that is imported.

    A failure is left to the pool, which will try again and say so.
    """
    if not posix.has_interpreter():
        return  # its pools are forked from it
    if _current is None and not process_role.is_worker() and inheritable() is not None:
        posix.keep_standard()
        with contextlib.suppress(OSError):
            release(acquire())


def release(template: SharedTemplate) -> None:
    """A pool's template that was asked of it is gone."""
    with fork_lock.ForkLock():
        template.users -= 1
    if template.preparation is None or template.lost or process_role.is_worker():
        # No other pool may use it, or can; nor is there one kept in each worker whose tasks have had a pool.
        retire(template)
    else:
        _end_unused(template)


def current() -> SharedTemplate | None:
    """The one that the next pool is likely to use."""
    return _current


def in_use() -> list[SharedTemplate]:
    """Those that pools use: more than one where a pool cannot take another one's (see `_preparation`)."""
    return [template for template in list(_open) if template.users]


def shutdown() -> None:
    """End the program's template as soon as no pool uses it: at once if none does. Another pool starts another."""
    template = _current
    if template is not None:
        retire(template)


def retire(template: SharedTemplate) -> None:
    """Hand it out no more; it ends when nobody uses it."""
    global _current
    with fork_lock.ForkLock():
        template.retired = True
        if _current is template:
            _current = None
    _end_unused(template)


def _end_unused(template: SharedTemplate) -> None:
    with fork_lock.ForkLock():
        if template.users or not template.retired or template not in _open:
            return
        _open.discard(template)
    # It may take a while: others need not wait.
    template.close()


def _preparation() -> object:
    """What a template is made of that its copies cannot change; None if that cannot be told here."""
    inherited = inheritable()
    if inherited is None:
        return None
    return (
        inherited,
        sys.executable,
        tuple(sys.warnoptions),
        tuple(own_imports.foreign()),
        tuple(sorted(item for item in environment.variables().items() if item[0].startswith(_READ_AT_START))),
    )


@forks.in_child
def _after_fork() -> None:
    global _current
    _current = None
    for template in list(_open):
        template.abandon()
    _open.clear()


atexit.register(shutdown)
