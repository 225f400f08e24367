"""The one place with calls that only some systems have, each with a portable fallback.

Linux is verified. macOS: the fallbacks are plain POSIX and are tested on Linux by switching the
Linux calls off; they were not run on a Mac. Windows has no fork and no descriptors to pass over a
socket: there `backend="processes"` says so, `threads` and `serial` work.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Container, Iterator

from allcores.system import procfs
from allcores.system.portable import PORTABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: what only Linux has may be used
LINUX = sys.platform.startswith("linux") and not PORTABLE
#: the kernel's names for options of prctl(2)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
#: Our descriptors live up here, where the numbers that a task's `open` gets never reach.
HIGH_DESCRIPTOR = 400


def can_fork() -> bool:
    """Whether this system can run the `processes` backend."""
    return hasattr(os, "fork") and sys.platform != "emscripten" and sys.platform != "wasi"


def has_interpreter() -> bool:
    """Whether `sys.executable` is a Python that runs what it is given; of a frozen program it is that very program."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def anonymous_file(name: str, size: int = 0) -> int:
    """Descriptor of a file in memory that has no name and leaves nothing behind."""
    descriptor = -1
    if LINUX and hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            descriptor = os.memfd_create(f"allcores-{name}", os.MFD_CLOEXEC)
    if descriptor < 0:
        import tempfile

        descriptor, path = tempfile.mkstemp(prefix=f"allcores-{name}-")
        os.unlink(path)
    try:
        os.truncate(descriptor, size)
    except BaseException:  # a limit on the size of files
        os.close(descriptor)
        raise
    return descriptor


def sparse_file(name: str, size: int) -> int | None:
    """Descriptor of a file in memory that takes none until it is written, however long; None if there are none."""
    if not (LINUX and hasattr(os, "memfd_create")):
        return None
    try:
        descriptor = os.memfd_create(f"allcores-{name}", os.MFD_CLOEXEC)
    except OSError:
        return None
    try:
        os.truncate(descriptor, size)
    except OSError:  # a limit on the size of files
        os.close(descriptor)
        return None
    return descriptor


#: of fallocate(2)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


def map_memory(descriptor: int, offset: int, size: int, flags: int) -> tuple[int, Callable[[int, int], object]]:
    """Address at which a range of a file is mapped now, to read and write, and what unmaps an address and a size.

    The latter imports nothing: it is called when the interpreter ends, too. Raises OSError (Linux).
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
    address: int | None = libc.mmap(
        None, ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_WRITE, flags, descriptor, ctypes.c_int64(offset)
    )
    if address is None or address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}, mapping {size} bytes of shared memory")
    return address, libc.munmap


#: of mmap(2)
_FIXED = 0x10


def map_privately(address: int, descriptor: int, offset: int, size: int) -> None:
    """Put a private mapping of a range of a file in the place of a shared one of the same range, in one step (Linux).

    What was written is there; what is written from now on is this process's own. Raises OSError.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    access, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | _FIXED
    where = ctypes.c_void_p(address), ctypes.c_size_t(size)
    if libc.mmap(*where, access, flags, descriptor, ctypes.c_int64(offset)) != address:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}, mapping {size} bytes of shared memory")


#: first bytes of an entry of pagemap (the highest in it): absent and not swapped out, or present and of a file
_OF_THE_FILE = bytes(byte for byte in range(256) if not byte & 0xC0 or byte & 0xE0 == 0xA0)


def is_untouched(address: int, size: int) -> bool:
    """Whether nothing was ever written to a private mapping of a file: then all of its pages are still the file's.

    False where that cannot be told. Takes a millisecond for 80 MB, a tenth of what mapping it anew costs.
    Source: kernel.org, admin-guide/mm/pagemap.rst (bits 61 to 63 of each page's entry of 8 bytes).
    """
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            entries = os.pread(file.fileno(), size // mmap.PAGESIZE * 8, address // mmap.PAGESIZE * 8)
    except OSError:
        return False
    highest = entries[7::8] if sys.byteorder == "little" else entries[::8]
    return len(highest) == size // mmap.PAGESIZE and not highest.translate(None, _OF_THE_FILE)


def whole(descriptor: int) -> bytes:
    """All that a file holds."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def punch_hole(descriptor: int, offset: int, size: int) -> None:
    """Give the memory behind a range of a file in memory back to the system (Linux)."""
    import ctypes

    # A failure costs memory, not correctness.
    ctypes.CDLL(None).fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_int64(offset), ctypes.c_int64(size))


def keep_standard() -> frozenset[int]:
    """Open the null device as each of the descriptors 0 to 2 that is missing; which were missing.

    Where a program was started without them (`>&-`, some daemons), whatever is opened next gets their numbers, and what
    is printed goes there: into our shared memory, pipes and databases.
    """
    missing = set()
    for number in range(3):
        try:
            # The cheapest question: workers ask it after each chunk.
            os.get_inheritable(number)
        except OSError:
            # The lowest number that is free is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            missing.add(number)
    return frozenset(missing)


@contextlib.contextmanager
def locked_bytes(descriptor: int, first: int, count: int) -> Iterator[None]:
    """A block in which this process alone has these bytes of a file locked; it waits for others."""
    import fcntl

    fcntl.lockf(descriptor, fcntl.LOCK_EX, count, first)
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, count, first)


def move_fd_high(descriptor: int) -> int:
    """Move a descriptor out of the way of those that tasks (and preload functions) open and close."""
    try:
        import fcntl

        lifted: int = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR)
    except (ImportError, OSError):
        return descriptor
    os.close(descriptor)
    return lifted


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the thread that made it ends (Linux only).

    Elsewhere end of file on the pipe does it, as soon as the worker looks at its pipe. Not
    retroactive, hence the look at the parent's pid afterwards.
    """
    if LINUX:
        with contextlib.suppress(Exception):
            import ctypes

            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if parent and os.getppid() != parent:
            os._exit(0)


def outlive_parent(parent: int) -> None:
    """Take `die_with_parent` back; ends this process if the parent went meanwhile."""
    if LINUX:
        with contextlib.suppress(Exception):
            import ctypes

            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def adopt_orphans() -> None:
    """Have what this process's children leave behind become its own children (Linux only): so it stays to be found.

    Without it, what a program starts before it ends belongs to the first process of the machine, as daemons do.
    """
    if LINUX:
        with contextlib.suppress(Exception):
            import ctypes

            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def fork() -> int:
    """`os.fork`, whose child never finalizes what is garbage in this process.

    The collector may come at any step of the child, in the hooks of others at a fork, too. What it would call is the
    program's: it may wait for a lock that a thread held which the child does not have, or undo what the program still
    needs. And without the warning of Python 3.12 that there are threads: who calls knows which.
    """
    collects = gc.isenabled()
    try:
        gc.disable()
        pid = _fork()
        if not pid:
            gc.freeze()
        return pid
    finally:
        if collects:
            gc.enable()


def _fork() -> int:
    if procfs.threads_alive() <= 1:
        return os.fork()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def end_by_error() -> NoReturn:
    """In a forked process: end it as Python would for the error in hand, whose traceback no copied stream writes."""
    with contextlib.suppress(BaseException):
        import traceback

        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    os._exit(1)


def has_other_threads() -> bool:
    """Whether a forked process would miss threads of this one; a thread that was just joined does not count."""
    for _ in range(20):
        if procfs.threads_lost_by_fork() <= 0:
            return False
        # The kernel lists a thread for some moments after join() has returned.
        time.sleep(0.001)
    return True


def maxrss_bytes(value: int) -> int:
    """`ru_maxrss` in bytes: kilobytes on Linux, bytes on macOS."""
    return value if sys.platform == "darwin" else value * 1024


def end_orphans(leader: int) -> None:
    """End what a process forked that is gone and was reaped elsewhere.

    As long as its group has members, its number is given to no other process. So if there is a process of that
    number again, the group is gone, too, and what has the number now is not ours.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.kill(leader, 0)
        except ProcessLookupError:
            os.killpg(leader, signal.SIGKILL)


def end_group(pid: int, number: int) -> None:
    """Send a signal to a worker and everything it forked; no error if they are gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
    # In its first instants a worker is not yet the leader of its group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def resume(pid: int) -> None:
    """Have a process of ours go on that was stopped (SIGSTOP): one that others wait for."""
    if procfs.is_stopped(pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGCONT)


def wait_for(pid: int, seconds: float) -> int | None:
    """Collect a child when it ends: its wait status; None if that is lost.

    It is lost where the program ignores SIGCHLD, or has a handler that collects whatever child has ended.

    Raises:
        TimeoutError: If it still runs after `seconds`.
    """
    until, pause_s = time.monotonic() + seconds, 0.0005
    while True:
        try:
            dead, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if dead:
            return status
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"process {pid} still runs after {seconds:g} s")
        pause_s = min(2 * pause_s, left, 0.05)
        time.sleep(pause_s)


def reap(pid: int, *, ours: Container[int] | None = None) -> tuple[int, int | None, int] | None:
    """Collect a dead child (-1: any) as (pid, wait status, largest resident bytes); None if none is dead.

    What it forked is ended first, while its pid cannot be used again. The status is None if the child is gone and
    it was reaped elsewhere, by a handler of the program that collects children or the kernel where SIGCHLD is ignored.

    Args:
        pid: Of the child.
        ours: Children that were forked here. Of others, which were adopted, nothing is ended. None: all were.
    """
    try:
        if hasattr(os, "waitid"):
            what, who = (os.P_ALL, 0) if pid == -1 else (os.P_PID, pid)
            found = os.waitid(what, who, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return None
            pid = found.si_pid
            if ours is None or pid in ours:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
        dead, status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        if pid == -1:
            return None
        end_orphans(pid)
        return pid, None, 0
    return (dead, status, maxrss_bytes(usage.ru_maxrss)) if dead else None
