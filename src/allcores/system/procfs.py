"""The one reader of /proc about processes (Linux): memory, processor time, states, threads, descriptors, mappings.

What is missing, gone or hidden is None, 0 or empty, not an error: each function says which. Fields are those of
proc_pid_stat(5) and its neighbours. For the machine's memory and control groups see `cgroups` and `cores`.
"""

from __future__ import annotations

import contextlib
import os
import time

from allcores.system.portable import PORTABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: whether there is anything to read
AVAILABLE = os.path.exists("/proc/self/stat") and not PORTABLE


def read(path: str) -> bytes | None:
    """The content of a file below /proc (given without it), or of another file of the kernel's (with a slash)."""
    if PORTABLE and path[:1] != "/":
        return None
    try:
        with open(path if path[:1] == "/" else f"/proc/{path}", "rb") as file:
            return file.read()
    except OSError:
        return None


def descriptors_folder(thread: int) -> str:
    """Where a thread of this process has its descriptors: `FOLDER/NUMBER` opens one, also in another process.

    The folder is there for as long as the thread is.
    """
    return f"/proc/{os.getpid()}/task/{thread}/fd"


def is_descriptor(path: str) -> bool:
    """Whether a path is one of a descriptor, and so names a file for a while only."""
    return path.startswith("/proc/") and "/fd/" in path


def number(path: str) -> int | None:
    """A file that holds one whole number; None for "max"."""
    try:
        return int(read(path) or b"")
    except ValueError:
        return None


def processes() -> Iterator[int]:
    """The numbers of all processes that can be seen."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            yield int(name)


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    return os.path.isdir(f"/proc/{pid}")


def owner(pid: int) -> int:
    """The user that a process belongs to. Raises: OSError."""
    return os.stat(f"/proc/{pid}").st_uid


def descriptors(pid: int) -> list[str]:
    """Paths of a process's open files, which can be looked at and opened. Raises: OSError."""
    folder = f"/proc/{pid}/fd"
    return [f"{folder}/{name}" for name in os.listdir(folder)]


def open_descriptor(pid: int, descriptor: int) -> int:
    """Open what a process has open, to be read. Raises: OSError."""
    return os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)


def runs_the_same_program(pid: int) -> bool:
    """Whether a process runs the file that this one runs."""
    try:
        return os.path.samefile(f"/proc/{pid}/exe", "/proc/self/exe")
    except OSError:
        return False


def stat_fields(pid: int) -> list[bytes] | None:
    """Fields of a process's stat from the third on, which is its state."""
    # The second is the name in brackets, which may hold spaces and brackets.
    fields = (read(f"{pid}/stat") or b"").rpartition(b")")[2].split()
    return fields if len(fields) >= 22 else None


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal (SIGSTOP, SIGTSTP, ...); False where that cannot be told."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] == b"T"


def cpu_ns(pid: int) -> int | None:
    """Processor time that a process has used, its children apart."""
    fields = stat_fields(pid)
    if fields is None:
        return None
    return (int(fields[11]) + int(fields[12])) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def started_ns(pid: int) -> int:
    """When a process began, on the monotonic clock; 0 if that cannot be told."""
    fields = stat_fields(pid)
    if fields is None:
        return 0
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.monotonic_ns() - int(age_s * 1e9)


def resident_bytes(pid: int) -> int | None:
    """Resident memory that is a process's own, shared memory and files apart."""
    try:
        _, resident, shared, *_ = map(int, (read(f"{pid}/statm") or b"").split())
    except ValueError:
        return None
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes(pid: int) -> int | None:
    """The largest resident memory of a process so far, since it runs its program; shared memory and files count."""
    for line in (read(f"{pid}/status") or b"").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def proportional_bytes(pid: int) -> int | None:
    """A process's memory, of each page that others have, too, its share (PSS)."""
    for line in (read(f"{pid}/smaps_rollup") or b"").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return None


def private_bytes(pid: int) -> int | None:
    """Memory that a process shares with no other; what it was forked with and has not changed is shared.

    Where the kernel does not tell that (it is built without, or the process is another user's): all that is resident.
    """
    found = [
        int(line.split()[1])
        for line in (read(f"{pid}/smaps_rollup") or b"").splitlines()
        if line.startswith((b"Private_Clean:", b"Private_Dirty:"))
    ]
    return 1024 * sum(found) if found else resident_bytes(pid)


def peak_private_bytes(pid: int) -> int | None:
    """The same at its largest: what was given back since then is taken to have been its own."""
    private, peak = private_bytes(pid), peak_resident_bytes(pid)
    try:
        resident = int((read(f"{pid}/statm") or b"").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (IndexError, ValueError):
        return private
    if private is None or peak is None:
        return private
    return private + max(0, peak - resident)


def parent(pid: int) -> int | None:
    """The process that started a process, or that has taken its place."""
    fields = stat_fields(pid)
    return None if fields is None else int(fields[1])


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants, as far as they can be seen."""
    waiting = [pid]
    while waiting:
        pid = waiting.pop()
        yield pid
        with contextlib.suppress(OSError, ValueError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                waiting += map(int, (read(f"{pid}/task/{thread}/children") or b"").split())


def tree_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; what cannot be told counts nothing."""
    return sum(resident_bytes(each) or 0 for each in tree(pid))


def tree_proportional_bytes(pid: int) -> int:
    """Memory of a process and its descendants, shared pages counted once; what cannot be told counts nothing."""
    return sum(proportional_bytes(each) or 0 for each in tree(pid))


#: The allocator's own threads, which Arrow brings along: it is ready for a fork, and does without them in the child.
#: Source: background_thread_postfork_child in jemalloc's src/background_thread.c (5.0 and later).
_READY_FOR_FORK = b"jemalloc_bg_thd\n"


def threads_alive() -> int:
    """Threads of this process, those of C libraries included; 1 where it cannot be told."""
    if PORTABLE:
        return 1
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        import threading

        return threading.active_count()


def blocking(pid: int, signal_number: int) -> set[str]:
    """Threads of a process in which a signal is blocked, as while its handler runs; none where that is not told."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for line in (read(f"{pid}/task/{thread}/status") or b"").splitlines():
                if line.startswith(b"SigBlk:") and int(line.split()[1], 16) >> (signal_number - 1) & 1:
                    found.add(thread)
    return found


def threads_lost_by_fork() -> int:
    """Those of this process that a forked one would miss: all but the caller's, and some that are ready for that."""
    alive = threads_alive()
    if alive <= 1 or PORTABLE:
        return alive - 1
    names = [read(f"self/task/{number}/comm") for number in os.listdir("/proc/self/task")]
    # One that has ended since has no name any more.
    return sum(name is not None and name != _READY_FOR_FORK for name in names) - 1


def command(pid: int) -> str:
    """The command line of a process; empty if it cannot be told."""
    return " ".join((read(f"{pid}/cmdline") or b"").decode("utf-8", "replace").split("\0")).strip()


class Mapping:
    """A line of a process's maps: addresses from `start` to before `end`, and the file that is seen there."""

    __slots__ = ("device", "end", "inode", "path", "start")

    def __init__(self, line: str) -> None:
        fields = line.split(None, 5)
        self.start, self.end = (int(part, 16) for part in fields[0].split("-"))
        self.device = fields[3]
        self.inode = int(fields[4])
        self.path = fields[5].strip() if len(fields) > 5 else ""


def mappings(pid: int | str) -> list[Mapping]:
    """What a process has mapped ("self": this one); empty if it cannot be told."""
    try:
        return [Mapping(line) for line in os.fsdecode(read(f"{pid}/maps") or b"").splitlines()]
    except ValueError:
        return []


def boot_id() -> str | None:
    """What is different after each start of the machine."""
    content = read("sys/kernel/random/boot_id")
    return None if content is None else content.decode("ascii", "replace").strip()


def processor_model() -> str | None:
    """What the first core calls itself; None if the kernel does not tell."""
    for line in (read("cpuinfo") or b"").splitlines():
        name, _, value = line.partition(b":")
        if name.strip() in (b"model name", b"Hardware", b"cpu model"):
            return " ".join(value.decode("utf-8", "replace").split()) or None
    return None


def clock_mhz() -> float | None:
    """The clock rate of the first core now, as the kernel tells it; None if it does not."""
    for line in (read("cpuinfo") or b"").splitlines():
        name, _, value = line.partition(b":")
        if name.strip() == b"cpu MHz":
            try:
                return float(value)
            except ValueError:
                return None
    return None
