"""backends/processes/exit_causes.py: from an exit status to a sentence that a person can act on."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import tempfile

import pytest

from allcores.backends.processes import exit_causes
from allcores.backends.processes.exit_causes import Death, from_exitcode, from_wait_status, sentence, top_line

GIB = 1024**3

STACK = """Fatal Python error: Segmentation fault

Thread 0x00007f1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait

Current thread 0x00007f2 (most recent call first):
  File "/home/me/work.py", line 12 in parse
  File "/home/me/work.py", line 40 in handle

Extension modules: numpy.core._multiarray_umath (total: 1)
"""

DEEP = (
    "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f2 [python3] (most recent call first):\n"
    + '  File "/home/me/work.py", line 3 in descend\n' * 100
    + "  ...\n\nCurrent thread's C stack trace (most recent call first):\n  Binary file\n"
)


@pytest.mark.skipif(sys.platform == "win32", reason="wait statuses of POSIX")
@pytest.mark.parametrize(
    ("status", "exitcode", "number"),
    [
        (0, 0, None),
        (1 << 8, 1, None),
        (70 << 8, 70, None),
        (9, None, 9),
        (11, None, 11),
        (11 | 0x80, None, 11),
    ],
)
def test_from_wait_status(status: int, exitcode: int | None, number: int | None) -> None:
    """A wait status becomes an exit code or a signal, never both; a core dump makes no difference."""
    death = from_wait_status(3, status, 1000, "stack", True, "why")
    assert death == Death(3, exitcode, number, 1000, "stack", True, "why")


@pytest.mark.skipif(sys.platform == "win32", reason="wait statuses of POSIX")
def test_a_stopped_process_is_not_dead() -> None:
    """The status of a stopped process is refused."""
    with pytest.raises(ValueError):
        from_wait_status(3, (signal.SIGSTOP << 8) | 0x7F)


@pytest.mark.parametrize(
    ("code", "exitcode", "number"),
    [
        (None, None, None),
        (0, 0, None),
        (-9, None, 9),
        (0xC0000005, 0xC0000005, None),
        (-1073741819, 0xC0000005, None),
    ],
)
def test_from_exitcode(code: int | None, exitcode: int | None, number: int | None) -> None:
    """A negative exit code is a signal, as in multiprocessing; Windows' large ones are not."""
    death = from_exitcode(1, code)
    assert (death.exitcode, death.signal) == (exitcode, number)


def test_out_of_memory() -> None:
    """The sentence that the whole module is for, in full."""
    death = Death(3, signal=signal.SIGKILL, peak_memory=int(7.9 * GIB), oom_killed=True)
    assert sentence(death, item="items[812]", limit=8 * GIB) == (
        "Worker 3 was killed by SIGKILL while running items[812], most likely out of memory: the kernel "
        "ended a process for it at that time (peak memory 7.9 GB of 8 GB). Try fewer workers, smaller "
        "items, or Limits(memory_per_worker=...) to find the item early."
    )


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (Death(0, signal=9), "by another process, or by the kernel for want of memory"),
        (Death(0, signal=9, oom_killed=True), "most likely out of memory"),
        (Death(0, signal=9, peak_memory=95), "most likely out of memory (peak memory 95 bytes of 100 bytes)"),
        (Death(0, signal=9, peak_memory=50), "by another process, or by the kernel for want of memory"),
        (
            Death(0, exitcode=0),
            "exited with code 0 while running items[5], because something in it called os._exit",
        ),
        (Death(0, exitcode=1), "os._exit(1)"),
        (Death(0, exitcode=3), "os._exit(3)"),
        (Death(0, exitcode=70), "lost its connection to the parent: the task closed descriptors"),
        (Death(0, exitcode=126), "may not be executed"),
        (Death(0, exitcode=127), "was not found"),
        (Death(0, exitcode=0xC0000005), "code 0xC0000005 (ACCESS_VIOLATION)"),
        (Death(0, exitcode=0xC00000FD), "deep recursion"),
        (Death(0), "died while running items[5], and how could not be told"),
    ],
)
def test_likely_cause(death: Death, words: str) -> None:
    """Each way to die has its likely cause."""
    assert words in sentence(death, item="items[5]", limit=100)


POSIX_SIGNALS = {
    "SIGSEGV": "crash in native code (or a stack overflow there)",
    "SIGABRT": "failed assertion",
    "SIGBUS": "mapped file",
    "SIGFPE": "divided",
    "SIGILL": "another processor",
    "SIGSYS": "seccomp",
    "SIGTRAP": "debugging trap",
    "SIGTERM": "asked it to end",
    "SIGHUP": "terminal was closed",
    "SIGINT": "Ctrl-C",
    "SIGQUIT": "Ctrl-\\",
    "SIGPIPE": "nobody reads",
    "SIGALRM": "alarm",
    "SIGXCPU": "CPU seconds",
    "SIGXFSZ": "file larger",
    "SIGUSR1": "has no handler",
    "SIGVTALRM": "has no handler",
}


@pytest.mark.parametrize("name", POSIX_SIGNALS)
def test_likely_cause_of_signal(name: str) -> None:
    """Each signal is called by its name and has its likely cause."""
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"no {name} here")
    text = sentence(Death(7, signal=number), item="items[5]")
    assert text.startswith(f"Worker 7 was killed by {name} while running items[5], ")
    assert POSIX_SIGNALS[name] in text
    assert "\n" not in text and text.endswith(".")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_signal_without_a_name() -> None:
    """A number that has no name is shown as one, also when a shell reports it."""
    assert "killed by signal 99 while idle" in sentence(Death(1, signal=99))
    assert Death(1, signal=99).signal_name == "signal 99"
    assert Death(1, exitcode=1).signal_name is None
    assert "SIGSEGV" in sentence(Death(1, exitcode=139))


def test_reason_replaces_the_guess() -> None:
    """What the supervisor knows is told in place of guess and advice."""
    death = Death(2, signal=signal.SIGTERM, peak_memory=3 * GIB, reason="for taking too much memory")
    assert sentence(death, item="items[1]") == (
        "Worker 2 was killed by SIGTERM while running items[1], for taking too much memory (peak memory 3 GB)."
    )


# --- faulthandler's stacks ------------------------------------------------------------------------


def test_top_line() -> None:
    """The innermost line of the thread that crashed is named, not that of another thread."""
    assert top_line(STACK) == "parse (work.py:12)"
    assert top_line(STACK.replace("work.py", "pkg/__init__.py")) == "parse (pkg/__init__.py:12)"
    text = sentence(Death(0, signal=11, stack=STACK), item="items[5]")
    assert "most likely a crash in native code, at parse (work.py:12)." in text


@pytest.mark.parametrize(
    "stack",
    [
        None,
        "",
        "half a li",
        "Current thread 0x1 (most recent call first):\n  <no Python frame>\n",
        f'Current thread 0x1 (most recent call first):\n  File "{exit_causes.__file__}", line 3 in sentence\n',
    ],
)
def test_no_top_line(stack: str | None) -> None:
    """Without a stack, or with allcores' own code on top, no line is named."""
    assert top_line(stack) is None
    assert ", at " not in sentence(Death(0, signal=11, stack=stack), item="items[5]")


def test_stack_overflow() -> None:
    """A stack that goes on and on in few functions is an overflow, and is called one."""
    text = sentence(Death(0, signal=11, stack=DEEP), item="items[5]")
    assert "stack overflowed by deep recursion, at descend (work.py:3)" in text
    assert "sys.setrecursionlimit" in text


def test_what_faulthandler_really_writes() -> None:
    """The stack of this very test, as the running Python's faulthandler writes it, is understood."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        stack = file.read().decode()
    line = top_line(stack)
    assert line is not None and line.startswith("test_what_faulthandler_really_writes (test_exit_causes.py:")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_real_death() -> None:
    """The status and peak that the kernel gives for a real death make a true sentence."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", "import os; os.abort()"], os.environ)
    _, status, usage = os.wait4(pid, 0)
    text = sentence(from_wait_status(4, status, usage.ru_maxrss * 1024), item="items[0]")
    assert text.startswith("Worker 4 was killed by SIGABRT while running items[0], because native code gave up")
    assert "(peak memory " in text
