"""Programs that are run in a fork of an interpreter that has imported allcores already, instead of in a fresh one.

To import allcores and its command line takes most of the time of a short program. Where a test is about what a program
prints, writes and exits with, a fork will do, and also where it is killed. A test of how a program starts, of
terminals or of imports runs a fresh one, see `tests.process.scripts`.

Each program is a process of its own with its own folder, environment and standard descriptors, and ends as Python ends.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from tests.process.scripts import PATHS, Ended
from tests.process.waiting import PATIENCE_S

#: what programs import: of each command, and of a pool with processes
MODULES = (
    "allcores.advisor.advise", "allcores.advisor.tuning.tune", "allcores.backends.processes.backend",
    "allcores.backends.serial", "allcores.cli.advise", "allcores.cli.doctor", "allcores.cli.main", "allcores.cli.pipe",
    "allcores.cli.report", "allcores.cli.run", "allcores.cli.runner", "allcores.cli.runs", "allcores.cli.top",
    "allcores.cli.trace", "allcores.cli.tune", "allcores.pool.default_pool", "allcores.pool.executor",
    "allcores.pool.pool", "allcores.runs.run", "allcores.sinks.tables", "allcores.sources.text",
    "allcores.timeline.recorder", "cloudpickle", "importlib.resources.readers", "rich.progress",
)  # fmt: skip
#: what the commands of jobs import, with the libraries of the extras `jobs` and `web`
JOBS = (
    "allcores.cli.jobs", "allcores.cli.serve", "allcores.jobs", "allcores.jobs.store", "allcores.jobs.tasks",
    "allcores.web", "pydantic.json_schema", "pydantic.main", "sqlalchemy.dialects.sqlite", "waitress",
)  # fmt: skip
_LENGTH = struct.Struct("<Q")
_STATUS = struct.Struct("<i")


class _Request(NamedTuple):
    """What is to be run. program: a file, or None for `python -m allcores`."""

    program: str | None
    arguments: Sequence[str]
    folder: str
    environ: dict[str, str]
    strict: bool


class Program:
    """One that was begun: to be waited for.

    Args:
        status: Where its number comes from, and the status that it ends with.
    """

    def __init__(self, status: socket.socket) -> None:
        self._status = status
        self._code: int | None = None
        self.pid = self._next(PATIENCE_S)

    def _next(self, seconds: float) -> int:
        self._status.settimeout(seconds)
        number: int = _STATUS.unpack(_receive(self._status, _STATUS.size))[0]
        return number

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if self._code is None and select.select([self._status], [], [], 0)[0]:
            self.wait()
        return self._code

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Its exit code, once it has ended, which has to come in time."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(self._next(seconds))
            self._status.close()
        return self._code

    def send_signal(self, number: int) -> None:
        """As `os.kill`, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


class Interpreter:
    """A process that forks; any number of programs at a time. To be closed.

    Args:
        more: Modules that its programs need besides, those of them that are here.
    """

    def __init__(self, more: Sequence[str] = ()) -> None:
        self._socket, theirs = socket.socketpair()
        code = f"from tests.process import warm; warm.serve({theirs.fileno()}, {tuple(more)!r})"
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], env=environ, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self._socket.settimeout(PATIENCE_S)

    def run(self, *arguments: str, folder: Path, stdin: str = "", environ: dict[str, str] | None = None) -> Ended:
        """Run `python -m allcores` with `arguments` to its end.

        Args:
            *arguments: As the shell would give them.
            folder: It is run in this one.
            stdin: What it reads.
            environ: What it has in its environment beside what this process has.
        """
        return self._run(None, arguments, folder, stdin, environ)

    def script(self, program: Path, *arguments: str, folder: Path, environ: dict[str, str] | None = None) -> Ended:
        """Run `python -W error` with a file and arguments to its end. See `run`."""
        return self._run(str(program), arguments, folder, "", environ)

    def _run(
        self,
        program: str | None,
        arguments: Sequence[str],
        folder: Path,
        stdin: str,
        environ: dict[str, str] | None,
    ) -> Ended:
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin.encode())
            given.seek(0)
            request = _Request(program, arguments, str(folder), {**os.environ, **(environ or {})}, strict=True)
            begun = self._begin(request, given.fileno(), out.fileno(), err.fileno())
            try:
                code = begun.wait()
            except BaseException:
                begun.kill()
                raise
            for file in (out, err):
                file.seek(0)
            return Ended(code, out.read().decode(), err.read().decode())

    def begin(
        self,
        program: Path | None,
        *arguments: str,
        folder: Path,
        environ: dict[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> Program:
        """Begin to run `python` with a file and arguments. See `run`.

        Args:
            program: The file; None for `python -m allcores`.
            *arguments: As the shell would give them.
            folder: It is run in this one.
            environ: What it has in its environment beside what this process has.
            stdin: The descriptor that it has, if not that of nothing.
            stdout: The same.
            stderr: The same.
        """
        with open(os.devnull, "r+b") as nothing:
            file = None if program is None else str(program)
            request = _Request(file, arguments, str(folder), {**os.environ, **(environ or {})}, strict=False)
            given = (nothing.fileno() if each is None else each for each in (stdin, stdout, stderr))
            return self._begin(request, *given)

    def _begin(self, request: _Request, stdin: int, stdout: int, stderr: int) -> Program:
        ours, theirs = socket.socketpair()
        with theirs:
            sent = pickle.dumps(tuple(request))
            self._socket.sendall(_LENGTH.pack(len(sent)) + sent)
            socket.send_fds(self._socket, [b"f"], [theirs.fileno(), stdin, stdout, stderr])
        return Program(ours)

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait(PATIENCE_S)


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


# --- in the other process -------------------------------------------------------------------------


def serve(descriptor: int, more: Sequence[str] = ()) -> None:
    """Fork a process for each program. Returns in none but these, with what is to be run."""
    names = (*MODULES, *more)
    # What was imported stays: as each program ends, the collector need not look at it, nor copy its pages, which would
    # take half of the time of a short program, three quarters of that of a command of jobs. But for our modules where
    # programs have pools, whose objects would end in another order.
    if more:
        _import(names)
    else:
        _import(_of_others(names))
    gc.collect()
    gc.freeze()
    _import(names)
    gc.collect()
    #: descriptor that is ready when a program has ended -> its number, and where that is said
    running: dict[int, tuple[int, int]] = {}
    with socket.socket(fileno=descriptor) as connection:
        while True:
            ready = select.select([descriptor, *running], [], [])[0]
            for each in ready:
                if each in running:
                    _say_the_end(*running.pop(each))
                    os.close(each)
            if descriptor not in ready:
                continue
            try:
                (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
            except EOFError:
                os._exit(0)
            request = _Request(*pickle.loads(_receive(connection, length)))
            _, (status, *descriptors), _, _ = socket.recv_fds(connection, 1, 4)
            pid = os.fork()
            if pid == 0:
                break
            for each in descriptors:
                os.close(each)
            _say(status, pid)
            if hasattr(os, "pidfd_open"):
                running[os.pidfd_open(pid)] = pid, status
            else:  # one at a time
                _say_the_end(pid, status)
    for each in (*running, *(of for _, of in running.values()), status):
        os.close(each)
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
        os.close(each)
    _become(request)


def _import(names: Sequence[str]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):
            import_module(name)


def _of_others(names: Sequence[str]) -> list[str]:
    """The modules of Python and of other libraries that these import, in their order: a copy has imported them."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        _import(names)
        with open(theirs, "w") as file:
            file.write("\n".join(name for name in sys.modules if name.partition(".")[0] not in ("allcores", "tests")))
            file.flush()
            os._exit(0)
    os.close(theirs)
    with open(ours) as file:
        found = file.read().split()
    os.waitpid(pid, 0)
    return found


def _say_the_end(pid: int, status: int) -> None:
    _say(status, os.waitpid(pid, 0)[1])
    os.close(status)


def _say(status: int, number: int) -> None:
    """Unless nobody wants to know it any more."""
    with contextlib.suppress(BrokenPipeError):
        os.write(status, _STATUS.pack(number))


def _become(request: _Request) -> None:
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environ)
    program = request.program
    if program is None:
        # As `python -m` has it.
        sys.path[0] = request.folder
        sys.argv[:] = ["allcores", *request.arguments]
        runpy.run_module("allcores", run_name="__main__", alter_sys=True)
        return
    sys.path[0] = os.path.dirname(program)
    sys.argv[:] = [program, *request.arguments]
    if request.strict:
        sys.warnoptions[:] = ["error"]
        warnings.resetwarnings()
        warnings.simplefilter("error")
    # In the module that has been the main one from the start, as a script is, to the very end of the interpreter.
    main = sys.modules["__main__"].__dict__
    for name in [name for name in main if not name.startswith("__")]:
        del main[name]
    main["__file__"] = program
    exec(compile(Path(program).read_bytes(), program, "exec"), main)
