"""Why a worker died: from its exit status to a sentence that a person can act on. Pure: no processes here."""

from __future__ import annotations

import os
import re
import signal as signals

from allcores.formatting import size_text
from allcores.system.plain_record import record

#: a worker ends with this code when its pipe to the parent is gone while it is still needed
LOST_PARENT = 70
#: share of the limit from which a SIGKILL is put down to memory even if nobody counted a kill
NEARLY_FULL = 0.9
#: frames after which faulthandler stops and writes "  ..." (MAX_FRAME_DEPTH in Python/traceback.c)
_CUT = "\n  ..."


@record
class Death:
    """What is known about a worker's end.

    Attributes:
        worker: Its number.
        exitcode: What it exited with; None if a signal ended it, or if it could not be told.
        signal: Number of the signal that ended it; None if it exited.
        peak_memory: Largest resident memory of the process, in bytes; None if unknown.
        stack: What faulthandler wrote at a fatal signal; None if nothing.
        oom_killed: The kernel's count of out-of-memory kills rose when it died.
        reason: What the supervisor knows and no exit status tells, as a clause ("it used more memory than
            memory_per_worker allows"); it takes the place of guess and advice. None: guess.
    """

    worker: int
    exitcode: int | None = None
    signal: int | None = None
    peak_memory: int | None = None
    stack: str | None = None
    oom_killed: bool = False
    reason: str | None = None

    @property
    def signal_name(self) -> str | None:
        """Its name ("SIGSEGV"), or "signal 42" for a number without a name; None if no signal ended it."""
        return None if self.signal is None else signal_name(self.signal)


def from_wait_status(
    worker: int,
    status: int,
    maxrss_bytes: int | None = None,
    stack: str | None = None,
    oom_killed: bool = False,
    reason: str | None = None,
) -> Death:
    """The death that a status of os.waitpid or os.wait4 tells of.

    Args:
        maxrss_bytes: Bytes; note that ru_maxrss is in KiB on Linux and in bytes on macOS.

    Raises:
        ValueError: If the status is that of a stopped process, which is not dead.
    """
    return from_exitcode(worker, os.waitstatus_to_exitcode(status), maxrss_bytes, stack, oom_killed, reason)


def from_exitcode(
    worker: int,
    exitcode: int | None,
    maxrss_bytes: int | None = None,
    stack: str | None = None,
    oom_killed: bool = False,
    reason: str | None = None,
) -> Death:
    """The death that an exit code tells of, where a negative one is a signal, as in `multiprocessing`."""
    # Windows' codes are unsigned there and may come as negative numbers of 32 bits from elsewhere.
    if exitcode is not None and -0x80000000 <= exitcode < -1024:
        exitcode += 1 << 32
    by_signal = exitcode is not None and exitcode < 0
    return Death(
        worker,
        None if by_signal else exitcode,
        -exitcode if exitcode is not None and by_signal else None,
        maxrss_bytes,
        stack or None,
        oom_killed,
        reason,
    )


def sentence(death: Death, *, item: str = "", limit: int | None = None, who: str = "", step: str = "running") -> str:
    """What happened, to which item, the likely cause, and what to do.

    Args:
        item: What it was running, as a noun ("items[812]", "setup"); empty if it was idle.
        limit: Bytes of memory that the worker could have had at most, to show beside its peak, and to tell an
            out-of-memory kill from another; None if unknown.
        who: What died, if it was no worker ("The template").
        step: What it did with the item ("running", "unpickling"), or by itself ("starting").
    """
    doing = "while idle" if not item and step == "running" else f"while {step} {item}".rstrip()
    cause, advice = _cause_and_advice(death, limit)
    if death.reason:
        cause, advice = death.reason, ""
    if death.signal is not None:
        what = f"was killed by {signal_name(death.signal)}"
    elif death.exitcode is not None:
        what = f"exited with {_exit_name(death.exitcode)}"
    else:
        what = "died"
    memory = ""
    if death.peak_memory:
        of = f" of {size_text(limit)}" if limit else ""
        memory = f" (peak memory {size_text(death.peak_memory)}{of})"
    text = f"{who or f'Worker {death.worker}'} {what} {doing}"
    text += f"{', ' if cause else ''}{cause}{memory}."
    return f"{text} {advice}" if advice else text


def signal_name(number: int) -> str:
    """Its name ("SIGSEGV"), or "signal 42" for a number that has no name here."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


# --- causes ---------------------------------------------------------------------------------------

_FEWER = "Try fewer workers, smaller items, or Limits(memory_per_worker=...) to find the item early."
_NATIVE = "Run the item alone with backend='serial' under a debugger, or look for an update of that library."
_RECURSION = "Turn the recursion into a loop, or lower sys.setrecursionlimit: RecursionError comes first then."

#: signal to (likely cause, what to do). By name: Windows has only some of them.
_SIGNALS = {
    "SIGSEGV": ("most likely a crash in native code", _NATIVE),
    "SIGABRT": (
        "because native code gave up (a failed assertion, memory found damaged, an uncaught C++ exception)",
        "Its own message is on standard error.",
    ),
    "SIGBUS": (
        "most likely because memory behind a mapped file was gone (a file cut short by another program, or "
        "/dev/shm or the disk is full)",
        "Check free space, and that nobody truncates files that are mapped.",
    ),
    "SIGFPE": (
        "because native code divided a whole number by zero or overflowed in a division",
        "Check the item's values before they are handed to native code.",
    ),
    "SIGILL": (
        "most likely because a library was built for another processor (AVX and the like), or native code hit a trap",
        "Install a build of that library for this machine.",
    ),
    "SIGSYS": (
        "because it made a system call that a sandbox (seccomp) forbids",
        "Allow the call in the container's security profile, or avoid it.",
    ),
    "SIGTRAP": ("because native code hit a debugging trap or a failed check", _NATIVE),
    "SIGTERM": (
        "because something outside of allcores asked it to end (a service manager, a batch system, the task)",
        "Look in the logs of what runs this program.",
    ),
    "SIGHUP": (
        "because its terminal was closed",
        "Start the program with nohup, tmux or a service manager.",
    ),
    "SIGINT": ("because of Ctrl-C, or because the task sent that signal to itself", ""),
    "SIGQUIT": ("because of Ctrl-\\ in the terminal, or because the task sent that signal to itself", ""),
    "SIGPIPE": (
        "because it wrote into a pipe that nobody reads any more, after SIGPIPE was reset to end the process",
        "Leave SIGPIPE ignored, as Python sets it, and handle BrokenPipeError.",
    ),
    "SIGALRM": (
        "because an alarm that the task had set (signal.alarm, setitimer) went off without a handler",
        "Use timeout= for a deadline.",
    ),
    "SIGXCPU": (
        "because it used up its CPU seconds (ulimit -t, RLIMIT_CPU)",
        "Raise that limit, or set Limits(items_per_worker=...) so that workers are replaced before.",
    ),
    "SIGXFSZ": (
        "because it wrote a file larger than allowed (ulimit -f, RLIMIT_FSIZE)",
        "Raise that limit, or write smaller files.",
    ),
    "SIGUSR1": ("because that signal was sent, and has no handler", ""),
    "SIGUSR2": ("because that signal was sent, and has no handler", ""),
}

_EXITS = {
    0: (
        "because something in it called os._exit or C's exit()",
        "A task should return or raise; look for code that ends its process.",
    ),
    1: (
        "because something in it called os._exit(1) or C's exit(1), or Python could not go on",
        "Its own message, if any, is on standard error.",
    ),
    LOST_PARENT: (
        "because it lost its connection to the parent: the task closed descriptors that it does not own",
        "Close only what the task itself has opened (no os.closerange, no daemonizing in a task).",
    ),
    126: (
        "because the task replaced its process (os.exec) by a program that may not be executed",
        "Use subprocess.run.",
    ),
    127: (
        "because the task replaced its process (os.exec) by a program that was not found, or that lacks "
        "a shared library",
        "Use subprocess.run, and check the program's name and LD_LIBRARY_PATH.",
    ),
}

#: Windows' NTSTATUS codes that end a process
_WINDOWS = {
    0xC0000005: ("ACCESS_VIOLATION", "most likely a crash in native code", _NATIVE),
    0xC00000FD: (
        "STACK_OVERFLOW",
        "because the stack overflowed, most likely by deep recursion",
        _RECURSION,
    ),
    0xC0000374: ("HEAP_CORRUPTION", "because native code had damaged its memory", _NATIVE),
    0xC000001D: (
        "ILLEGAL_INSTRUCTION",
        "most likely because a library was built for another processor",
        "Install a build of that library for this machine.",
    ),
    0xC0000409: ("STACK_BUFFER_OVERRUN", "because native code gave up (abort, failed check)", _NATIVE),
    0xC0000017: ("NO_MEMORY", "most likely out of memory", _FEWER),
    0xC000013A: ("CONTROL_C_EXIT", "because of Ctrl-C or a closed console", ""),
}


def _cause_and_advice(death: Death, limit: int | None) -> tuple[str, str]:
    if death.signal is not None:
        return _of_signal(death, limit)
    code = death.exitcode
    if code is None:
        return f"and how could not be told{_place(death.stack)}", ""
    if code in _WINDOWS:
        return _WINDOWS[code][1:]
    if code in _EXITS:
        return _EXITS[code]
    if 128 < code < 128 + 65:
        name = signal_name(code - 128)
        return f"which is how shells report {name}: the task may have replaced its process (os.exec)", ""
    return (
        f"because something in it called os._exit({code}) or C's exit({code})",
        "A task should return or raise; look for code, or a native library, that ends its process.",
    )


def _of_signal(death: Death, limit: int | None) -> tuple[str, str]:
    name = signal_name(death.signal or 0)
    if name == "SIGKILL":
        if death.oom_killed:
            return "most likely out of memory: the kernel ended a process for it at that time", _FEWER
        if limit and death.peak_memory and death.peak_memory >= NEARLY_FULL * limit:
            return "most likely out of memory", _FEWER
        return (
            "by another process, or by the kernel for want of memory",
            "If memory was short, try fewer workers; the kernel's log (dmesg) tells.",
        )
    if name == "SIGSEGV" and _is_deep(death.stack):
        return (
            f"most likely because the stack overflowed by deep recursion{_place(death.stack)}",
            _RECURSION,
        )
    cause, advice = _SIGNALS.get(name, ("because that signal was sent, and has no handler", ""))
    if name == "SIGSEGV" and not top_line(death.stack):
        cause += " (or a stack overflow there)"
    return cause + _place(death.stack), advice


def _exit_name(code: int) -> str:
    return f"code 0x{code:08X} ({_WINDOWS[code][0]})" if code in _WINDOWS else f"code {code}"


# --- reading faulthandler's stack -----------------------------------------------------------------

#: '  File "/a/b.py", line 12 in work'
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.+)$', re.MULTILINE)
_CURRENT = re.compile(r"^(?:Current thread |Stack )[^\n]*\(most recent call first\):", re.MULTILINE)
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
#: rooms of allcores whose frames say nothing about the task
_ROOMS = ("backends", "shared_memory", "system", "transport", "worker")
_OWN = tuple(os.path.join(_HOME, room) + os.sep for room in _ROOMS)


def top_line(stack: str | None) -> str | None:
    """The innermost Python line at a fatal signal, "parse (work.py:12)"; None if there is none.

    Native code that the worker called without any Python function of the task in between is not
    named: the line would be one of allcores' own.
    """
    frame = _FRAME.search(_current_thread(stack))
    if frame is None or frame["file"].startswith(_OWN):
        return None
    folder, file = os.path.split(frame["file"])
    if file == "__init__.py":
        file = f"{os.path.basename(folder)}/{file}"
    return f"{frame['function']} ({file}:{frame['line']})"


def _current_thread(stack: str | None) -> str:
    """The part of faulthandler's text about the thread that got the signal."""
    header = _CURRENT.search(stack or "")
    if stack is None or header is None:
        return ""
    # Other threads, and in 3.14 the C stack, follow after an empty line.
    return stack[header.end() :].split("\n\n", 1)[0]


def _is_deep(stack: str | None) -> bool:
    """Whether the stack was so deep that faulthandler cut it, with functions that recur in it."""
    text = _current_thread(stack)
    functions = [frame["function"] for frame in _FRAME.finditer(text)]
    return _CUT in text and len(set(functions)) * 4 <= len(functions)


def _place(stack: str | None) -> str:
    line = top_line(stack)
    return f", at {line}" if line else ""
