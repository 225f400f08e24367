"""Runs a program as `python script.py` would, with a sampler in each of its processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from allcores.advisor.profiling.group_witness import GroupWitness
from allcores.advisor.profiling.records import ProcessRecord, left_out, read_all
from allcores.system import posix

#: where `sitecustomize` is, which Python imports by itself
STARTUP = Path(__file__).with_name("startup")
#: samples a second, at most
MOST_HZ = 200
#: samples a second, if nothing else is said: a function of 5 % is known to 2 % after four seconds
DEFAULT_HZ = 100
#: signals that are the program's, also where the command alone is sent them
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


@dataclass(slots=True)
class Finished:
    """A program that has ended.

    `status` is its exit code, or the number of the signal that ended it, negative. `seconds` is from its start to its
    end, as the one who waited for it saw it. `program` is what stood behind `python`, `pid` the number of its process.
    `left_out` is how many of its processes were not sampled.
    """

    command: list[str]
    status: int
    seconds: float
    interrupted: bool
    processes: list[ProcessRecord] = field(default_factory=list)
    program: list[str] = field(default_factory=list)
    pid: int = 0
    left_out: int = 0

    @property
    def root(self) -> ProcessRecord | None:
        """The record of the program itself; where it has become another one by `exec`, of the one with most samples."""
        own = [each for each in self.processes if each.pid == self.pid] or self.processes[:1]
        return max(own, key=lambda each: each.samples, default=None)


def run(arguments: Sequence[str], *, hz: int = DEFAULT_HZ) -> Finished:
    """Run Python with `arguments` (a script or `-m module`, and its own) to its end, sampled.

    Its standard streams, folder and terminal are those of this process. Signals sent to this process alone meanwhile
    are handed on to the program; those to the group, as Ctrl-C in a terminal, reach it by themselves. Nothing but the
    end of the program ends the wait.

    Args:
        arguments: What stands behind `python`.
        hz: Samples a second, `MOST_HZ` at most.

    Raises:
        OSError: If Python cannot be started, or there is no room for what is sampled.
    """
    folder = Path(tempfile.mkdtemp(prefix="allcores-profile-"))
    command = [sys.executable, *subprocess._args_from_interpreter_flags(), *arguments]  # type: ignore[attr-defined]
    paths = [str(STARTUP), *filter(None, [os.environ.get("PYTHONPATH")])]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "ALLCORES_PROFILE": f"{folder}:{10**9 // max(1, min(hz, MOST_HZ))}",
    }
    try:
        finished = _run(command, environ)
        finished.program = list(arguments)
        finished.processes = read_all(folder)
        finished.left_out = left_out(folder)
        return finished
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str], environ: dict[str, str]) -> Finished:
    process: subprocess.Popen[bytes] | None = None
    interrupted = False
    missed: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = interrupted or number == signal.SIGINT
        if process is None:
            missed.append(number)
            return
        seen = witness.has_seen(number)
        if seen is None:  # what is known then: it comes from a terminal, as a rule
            seen = number == signal.SIGINT
        if not seen and process.returncode is None:
            process.send_signal(number)

    known = [getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)]
    numbers = [each for each in known if signal.getsignal(each) is not signal.SIG_IGN]  # the program inherits that
    witness = GroupWitness(numbers)
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        started = time.monotonic()
        own = os.getpid()
        end_with_us = (lambda: posix.die_with_parent(own)) if sys.platform == "linux" else None
        process = subprocess.Popen(command, env=environ, preexec_fn=end_with_us)
        for number in missed:
            process.send_signal(number)
        status = process.wait()
        return Finished(command, status, time.monotonic() - started, interrupted, pid=process.pid)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        witness.end()


def end_as(status: int) -> int:
    """The exit code to end with as the program did; if a signal ended that, this process ends by it as well."""
    if status >= 0:
        return status
    number = -status
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError):
        pass
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os.kill(os.getpid(), number)
    return 128 + number
