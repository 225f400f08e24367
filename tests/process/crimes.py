"""Tasks that ruin the process they run in, each named by its crime.

`run` gets an honest number, or the name of a crime. Every worker of a test imports this module, so it is light.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from tests.process.waiting import lines, note, ring, wait_at


def run(item: Any) -> Any:
    """Doubles numbers; commits what is named."""
    if isinstance(item, int):
        return item * 2
    name, *arguments = item if isinstance(item, tuple) else (item,)
    crime: Callable[..., Any] = globals()[name]
    return crime(*arguments)


# --- the process ends -----------------------------------------------------------------------------


def segfault() -> None:
    ctypes.string_at(0)


def bus_error() -> None:
    """Reads a page of a mapped file that was cut short meanwhile."""
    import mmap
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        view = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        view[0]


def stack_overflow_in_c() -> None:
    """The C library's parser of regular expressions goes one level deeper with each bracket."""
    ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(4096), b"(" * 1_000_000, 1)


def abort() -> None:
    os.abort()


def exit_at_once() -> None:
    os._exit(3)


def exit_with(code: int) -> None:
    """`os._exit` itself cannot be sent where coverage.py has put a closure in its place."""
    os._exit(code)


def exit_at_once_with_success() -> None:
    os._exit(0)


def exit_in_c() -> None:
    ctypes.CDLL(None).exit(5)


def exit_in_python() -> None:
    sys.exit(4)


def exit_with_a_sentence() -> None:
    sys.exit("nothing more to do")


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def terminate_itself() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


def kill_its_group() -> None:
    os.killpg(0, signal.SIGKILL)
    signal.pause()


def alarm_without_handler() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()


def die_in_another_thread() -> None:
    import threading

    threading.Thread(target=segfault).start()
    signal.pause()


def become_another_program() -> None:
    os.execv("/bin/false", ["false"])


def eat_memory() -> None:
    """Takes 10 MB at a time, up to far more than a test allows."""
    hoard = [bytearray(b"x" * 10_000_000) for _ in range(60)]
    signal.pause()
    del hoard


# --- it hangs -------------------------------------------------------------------------------------


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hold_the_interpreter() -> None:
    """C code that does not let go of the interpreter's lock: no Python runs, not even a signal handler."""
    ctypes.PyDLL(None).sleep(1000)


def spin() -> None:
    while True:
        pass


def sleep_for_long() -> None:
    time.sleep(1000)


def catch_everything() -> None:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass


def block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(1000)


def recurse_for_ever() -> None:
    """Without a limit: pure Python needs no C stack, so this eats memory until somebody ends it."""
    sys.setrecursionlimit(1_000_000_000)

    def deeper() -> None:
        deeper()

    deeper()


# --- it goes on, damaged --------------------------------------------------------------------------


def close_descriptors() -> str:
    os.closerange(3, 300)
    return "closed"


def close_all_descriptors() -> str:
    os.closerange(0, 10_000)
    return "closed"


def print_much() -> str:
    """Megabytes on both streams, with and without Python's buffers."""
    for _ in range(20):
        print("o" * 100_000)
        print("e" * 100_000, file=sys.stderr)
        os.write(1, b"O" * 100_000)
        os.write(2, b"E" * 100_000)
    return "printed"


def write_into_low_descriptors() -> str:
    """Garbage into whatever is open: pipes of ours must not be among the first ones."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"garbage")
        except OSError:
            continue
    return "written"


def close_standard_streams() -> str:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the worker may have done so before
            stream.close()
    sys.stdin = sys.stdout = sys.stderr = None
    return "silent"


class OnlyWrites:
    """All that `print` asks for, and none of what else a stream has."""

    def __init__(self, below: Any) -> None:
        self.below = below

    def write(self, text: str) -> None:
        self.below.write(text)


def print_through_an_object() -> str:
    if type(sys.stdout) is not OnlyWrites:
        sys.stdout = OnlyWrites(sys.__stdout__)
    print("p" * 100)
    return "printed"


def print_where_python_would() -> str:
    sys.stdout = sys.__stdout__
    print("w" * 100)
    return "printed"


def read_standard_input() -> str:
    return sys.stdin.read()


def fork_a_child_that_stays(bell: str) -> str:
    if os.fork() == 0:
        ring(bell)
        while True:
            signal.pause()
    return "forked"


def fork_a_child_that_ignores_signals(bell: str) -> str:
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        ring(bell)
        while True:
            signal.pause()
    return "forked"


def fork_ring_and_exit(bell: str) -> None:
    """Leaves a child that hangs, and goes."""
    read, write = os.pipe()
    if os.fork() == 0:
        ring(bell)
        os.write(write, b"!")
        while True:
            signal.pause()
    os.read(read, 1)
    os._exit(3)


def fork_and_return() -> int:
    """The child returns, too: it must not answer in the parent's name."""
    os.fork()
    return os.getpid()


def quick(item: Any) -> Any:
    """Without `run`'s looking up: quick enough for bursts of many items."""
    if isinstance(item, int):
        return item
    return os.fork() and os.getpid() if item is None else ring(item)


def fork_and_raise() -> None:
    os.fork()
    raise KeyError("both")


def start_a_program_that_stays(bell: str) -> str:
    import subprocess

    with open(bell, "wb") as pipe:
        subprocess.Popen(["/bin/sh", "-c", "echo $$ sleeps; exec sleep 1000"], stdout=pipe)
    return "started"


def change_folder() -> str:
    os.chdir("/")
    return os.getcwd()


def change_folder_to_one_that_is_removed(path: str) -> str:
    os.mkdir(path)
    os.chdir(path)
    os.rmdir(path)
    return "gone"


def set_signal_handlers() -> str:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, lambda *_: None)
    return "set"


def leave_an_alarm() -> str:
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 100)
    return "set"


def disturb_signals() -> str:
    """Handlers, ignored and blocked signals of all kinds, and faulthandler switched off."""
    faulthandler.disable()
    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number % 2 else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD})
    return "disturbed"


def change_umask_and_priority() -> str:
    os.umask(0)
    os.nice(1)
    return "changed"


def break_builtins() -> str:
    """What a careless library patches."""
    time.monotonic = time.time = time.monotonic_ns = None  # type: ignore[assignment]
    os.getpid = os.write = os.getcwd = None  # type: ignore[assignment]
    sys.setrecursionlimit(1_000_000)
    return "patched"


def trace_everything() -> str:
    sys.settrace(lambda *_: None)
    sys.setprofile(lambda *_: None)
    return "traced"


def leave_a_thread() -> str:
    import threading

    threading.Thread(target=threading.Event().wait).start()
    return "started"


# --- looks at what the last task left -------------------------------------------------------------


def look_around() -> dict[str, Any]:
    return {
        "folder": os.getcwd(),
        "timers": [
            signal.getitimer(timer) for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
        ],
        "pid": os.getpid(),
        "faulthandler": faulthandler.is_enabled(),
        # As the kernel has them: blocked, ignored and caught signals, and the umask.
        "kernel": [
            line for line in lines("/proc/self/status") if line.startswith(("SigBlk", "SigIgn", "SigCgt", "Umask"))
        ],
    }


def fail_in_a_child() -> int:
    """The exit code of a command that fails."""
    import subprocess

    return subprocess.run([sys.executable, "-S", "-c", "raise SystemExit(3)"]).returncode


def end_a_program_by_sigint() -> int:
    """The exit code of one that does not handle it; it says that it runs."""
    import subprocess

    with subprocess.Popen(["/bin/sh", "-c", "echo runs; exec cat"], stdin=-1, stdout=-1) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        status = lines(f"/proc/{process.pid}/status")
        (ignored,) = (int(line.split()[1], 16) for line in status if line.startswith("SigIgn"))
        process.send_signal(signal.SIGKILL if ignored & 1 << signal.SIGINT - 1 else signal.SIGINT)
        return process.wait()


def interrupt_itself() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "not interrupted"


def has_imported(name: str) -> bool:
    return name in sys.modules


def who(item: object) -> int:
    """Who runs this."""
    return os.getpid()


def increment(number: int) -> int:
    return number + 1


def blow_up(item: object) -> bytes:
    return bytes(100_000)


hoard: list[bytearray] = []


def grow(item: object) -> int:
    """Keeps 5 MB more, touched."""
    hoard.append(bytearray(b"x" * 5_000_000))
    return os.getpid()


# --- by the way they pickle -----------------------------------------------------------------------


def _raise(kind: type[BaseException], text: str) -> NoReturn:
    raise kind(text)


class RaisesWhenLoaded:
    """Pickles, and raises `kind` wherever it is unpickled."""

    def __init__(self, kind: type[BaseException] = RuntimeError) -> None:
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, (self.kind, "boom")


class ExitsWhenLoaded:
    def __reduce__(self) -> tuple[Any, ...]:
        return exit_with, (9,)


class HangsWhenLoaded:
    def __reduce__(self) -> tuple[Any, ...]:
        return time.sleep, (1000,)


class SegfaultsWhenLoaded:
    def __reduce__(self) -> tuple[Any, ...]:
        return ctypes.string_at, (0,)


class RefusesToPickle:
    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("I stay here")


class ExitsWhenPickled:
    def __reduce__(self) -> tuple[Any, ...]:
        os._exit(8)


class LeavesWhenPickled:
    def __reduce__(self) -> tuple[Any, ...]:
        sys.exit(8)


class HangsWhenPickled:
    def __reduce__(self) -> tuple[Any, ...]:
        time.sleep(1000)
        raise AssertionError


class RaisesWhenShown:
    """Its repr fails, which no message needs."""

    def __repr__(self) -> str:
        raise RuntimeError("no picture of me")


def run_any(item: Any) -> str:
    """For items whose mere arrival is the crime."""
    return type(item).__name__


def return_something(name: str) -> Any:
    """A result that is the crime; an honest one for other names."""
    if name == "lock":
        import threading

        return {"deep": [1, threading.Lock()]}
    kind = globals().get(name)
    if kind is not None:
        return kind()
    kinds = {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}
    return RaisesWhenLoaded(kinds[name]) if name in kinds else name


class CannotBeBuiltAgain(Exception):
    """Pickles, but cannot be unpickled: its constructor wants two arguments."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__(first)


class CarriesALock(Exception):
    def __init__(self) -> None:
        import threading

        super().__init__("locked")
        self.lock = threading.Lock()


class CannotBeShown(Exception):
    def __str__(self) -> str:
        raise RuntimeError("speechless")


def raise_of_a_module_of_the_worker(words: str) -> None:
    import sys
    import types

    module = types.ModuleType("only_in_the_worker")
    exec("class Odd(Exception): pass", module.__dict__)
    sys.modules["only_in_the_worker"] = module
    raise module.Odd(words)


def give_up(_: object) -> None:
    import asyncio

    raise asyncio.CancelledError


def raise_something(name: str) -> str:
    if name == "CannotBeBuiltAgain":
        raise CannotBeBuiltAgain("spoon", "fork")
    if name == "CarriesALock":
        raise CarriesALock
    if name == "CannotBeShown":
        raise CannotBeShown
    if name == "local class":

        class Local(Exception):
            pass

        raise Local("from inside")
    if name == "group":
        raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
    if name == "chain":
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise ValueError("the effect") from error
    return name


# --- together with the test -----------------------------------------------------------------------


def ring_and_wait(bell: str, gate: str) -> int:
    ring(bell)
    wait_at(gate)
    return os.getpid()


def ring_and_hang(bell: str) -> None:
    ring(bell)
    while True:
        signal.pause()


def ring_and_commit(bell: str, crime: str) -> None:
    ring(bell)
    run(crime)


def ring_wait_and_note(bell: str, gate: str, book: str) -> None:
    ring(bell)
    wait_at(gate)
    note(book, "done")


def fork_and_hang(bell: str) -> None:
    """Parent and child ring, and both hang."""
    os.fork()
    ring_and_hang(bell)


def start_a_program_and_hang(bell: str) -> None:
    start_a_program_that_stays(bell)
    ring_and_hang(bell)


def log_and_double(number: int) -> int:
    import logging

    logging.getLogger("allcores.test.noise").debug("double %d", number)
    return number * 2


def clean_up_on_sigterm(path: str) -> None:
    def clean(*_: object) -> None:
        note(path, "cleaned")
        os._exit(0)

    signal.signal(signal.SIGTERM, clean)
    signal.pause()


def exit_on_sigterm(path: str) -> None:
    """Notes that it began; told to end, it calls sys.exit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    note(path, "begun")
    while True:
        time.sleep(0.01)


def ring_and_ignore(bell: str) -> None:
    """Ignores SIGTERM, then rings."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ring_and_hang(bell)


def look_for_parent() -> int:
    return os.getppid()


def kill_its_parent() -> None:
    """Which is the template, except under start method "fork"."""
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def kill_its_parent_once(path: str) -> str:
    """The second attempt, if there is one, returns."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "done"
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
    return "never"


def work_and_note(path: str, number: int, crime: str | None = None) -> int:
    """Notes that it began, works for two milliseconds or more, or commits its crime."""
    note(path, number)
    if crime is not None:
        globals()[crime]()
    until = time.perf_counter_ns() + 2_000_000
    while time.perf_counter_ns() < until:
        pass
    return number * 2
