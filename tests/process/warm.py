"""Programs that are run in a fork of an interpreter that has imported allcores already, instead of in a fresh one.

To import allcores and its command line takes most of the time of a short program. Where a test is about what a program
prints, writes and exits with, a fork will do. A test of how a program starts, of signals, terminals or of imports runs
a fresh one, see `tests.process.scripts`.

Each program is a process of its own with its own folder, environment and standard descriptors, and ends as Python ends.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import runpy
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

from tests.process.scripts import PATHS, Ended
from tests.process.waiting import PATIENCE_S

#: what programs import: of each command, and of a pool with processes
MODULES = (
    "allcores.backends.processes.backend", "allcores.backends.serial", "allcores.cli.doctor", "allcores.cli.main",
    "allcores.cli.pipe", "allcores.cli.report", "allcores.cli.run", "allcores.cli.runner", "allcores.cli.runs",
    "allcores.cli.top", "allcores.cli.trace", "allcores.pool.default_pool", "allcores.pool.executor",
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


class Interpreter:
    """A process that forks; one program at a time. To be closed.

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
            request = pickle.dumps((program, arguments, str(folder), {**os.environ, **(environ or {})}))
            self._socket.sendall(_LENGTH.pack(len(request)) + request)
            socket.send_fds(self._socket, [b"f"], [given.fileno(), out.fileno(), err.fileno()])
            pid = _STATUS.unpack(_receive(self._socket, _STATUS.size))[0]
            try:
                status = _STATUS.unpack(_receive(self._socket, _STATUS.size))[0]
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                raise
            for file in (out, err):
                file.seek(0)
            return Ended(os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode())

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
    for name in (*MODULES, *more):
        with contextlib.suppress(ImportError):
            import_module(name)
    gc.collect()
    if more:
        # What was imported stays: as each program ends, the collector need not look at it, nor copy its pages, which
        # would take three quarters of the time of a command of jobs. Objects of pools would end in another order.
        gc.freeze()
    with socket.socket(fileno=descriptor) as connection:
        while True:
            try:
                (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
            except EOFError:
                os._exit(0)
            request = pickle.loads(_receive(connection, length))
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
            pid = os.fork()
            if pid == 0:
                break
            for each in descriptors:
                os.close(each)
            connection.sendall(_STATUS.pack(pid))
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(_STATUS.pack(os.waitpid(pid, 0)[1]))
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
        os.close(each)
    _become(*request)


def _become(program: str | None, arguments: Sequence[str], folder: str, environ: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    if program is None:
        # As `python -m` has it.
        sys.path[0] = folder
        sys.argv[:] = ["allcores", *arguments]
        runpy.run_module("allcores", run_name="__main__", alter_sys=True)
        return
    sys.path[0] = os.path.dirname(program)
    sys.argv[:] = [program, *arguments]
    sys.warnoptions[:] = ["error"]
    warnings.resetwarnings()
    warnings.simplefilter("error")
    # In the module that has been the main one from the start, as a script is, to the very end of the interpreter.
    main = sys.modules["__main__"].__dict__
    for name in [name for name in main if not name.startswith("__")]:
        del main[name]
    main["__file__"] = program
    exec(compile(Path(program).read_bytes(), program, "exec"), main)
