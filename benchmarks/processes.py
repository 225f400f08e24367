"""Programs of their own for the contenders, and an end for every process that they leave.

A contender may hang, and its workers may outlive it in sessions and groups of their own. Each program
is therefore started with a mark of its own in the environment, which all that it starts inherit.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

MARK = "ALLCORES_BENCHMARK"
#: begins the marks of this run
RUN = uuid.uuid4().hex[:8]
ROOT = Path(__file__).resolve().parent.parent


class ProgramFailed(Exception):
    """A contender's program raised, died or did not answer in time."""


def _cloudpickle() -> str:
    """Where cloudpickle is, for a Python that has nothing installed."""
    spec = importlib.util.find_spec("cloudpickle")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent.parent)


def environment(mark: str, folder: str = "", packages: str = "") -> dict[str, str]:
    """This process's environment, with the mark and with the checkout's packages in sight.

    packages: where a Python that has nothing installed finds what allcores needs.
    folder: for temporary files; joblib's would otherwise stay in /dev/shm when it is killed.
    """
    paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH"), packages])]
    places = {"TMPDIR": folder, "JOBLIB_TEMP_FOLDER": folder} if folder else {}
    settings = {MARK: mark, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **settings, **places}


def marked(mark: str) -> list[int]:
    """Ids of the living processes that carry the mark, and of their descendants.

    Descendants, since a process that gives itself a long title may overwrite its environment. Linux only;
    elsewhere none are found.
    """
    needle = f"{MARK}={mark}".encode()
    children: dict[int, list[int]] = {}
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*") if sys.platform == "linux" else ():
        pid = int(entry.name)
        try:
            # The name, in brackets, may itself hold brackets and blanks.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(pid)
                if needle in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(pid)
        except (OSError, ValueError):  # gone, or somebody else's
            continue
    for pid in found:  # grows while it is walked
        found += [child for child in children.get(pid, ()) if child not in found]
    return found


def _tracker(pid: int) -> bool:
    """Whether it is the process by which multiprocessing or loky removes named semaphores at the end."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def end_all(mark: str) -> int:
    """Kill what carries the mark; returns how many processes were there."""
    ended: set[int] = set()
    patience = time.monotonic() + 2.0
    while living := marked(mark):  # again and again: a pool may start replacements while it is being ended
        for pid in living:
            # Trackers end by themselves once nobody is left, and tidy up before.
            if _tracker(pid) and time.monotonic() < patience:
                continue
            ended.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > patience + 2.0:
            break
        time.sleep(0.02)
    return len(ended)


class Program:
    """A Python process started for one contender; `python -m module arguments...`."""

    def __init__(self, module: str, *arguments: str, talk: bool = False, python: str | None = None) -> None:
        self.mark = f"{RUN}-{uuid.uuid4().hex}"
        self.folder = tempfile.mkdtemp(prefix="bench-")
        pipe = subprocess.PIPE if talk else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [python or sys.executable, "-m", module, *arguments],
            stdin=pipe,
            stdout=pipe,
            stderr=None if os.environ.get("BENCHMARKS_STDERR") else subprocess.DEVNULL,
            env=environment(self.mark, self.folder, packages=_cloudpickle() if python else ""),
            cwd=ROOT,
            start_new_session=True,
        )

    def wait(self, limit_s: float) -> int | None:
        """The exit code, None if it still runs after `limit_s` seconds."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> int:
        """Kill it and all that it started; returns how many were still there."""
        try:
            left = end_all(self.mark)
        finally:  # SIGTERM may come while trackers are waited for
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        for semaphore in Path("/dev/shm").glob(f"sem.loky-{self.process.pid}-*"):  # joblib's, if it was killed
            semaphore.unlink(missing_ok=True)
        return left


class Host:
    """One contender in a program of its own, with a warm pool, measured on request.

    contender: its name in contenders.py. workers: size of its pool. python: another than this one.
    """

    def __init__(self, contender: str, workers: int, *, python: str | None = None) -> None:
        self.contender = contender
        self.workers = workers
        self.program = Program("benchmarks.host", contender, str(workers), talk=True, python=python)
        self._buffer = b""
        #: processes that are stopped, since it is another contender's turn
        self._frozen: list[int] = []

    def measure(self, function: str, *, limit_s: float = 120.0, **arguments: Any) -> Any:
        """Call `module:function` of this package as function(contender, **arguments) in the host."""
        process = self.program.process
        assert process.stdin is not None
        self._thaw()
        try:
            process.stdin.write(json.dumps({"function": function, "arguments": arguments}).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(self._line(time.monotonic() + limit_s, limit_s))
        except BrokenPipeError:
            raise ProgramFailed(f"ended with exit code {process.wait()}") from None
        finally:
            self._freeze()
        if "error" in answer:
            raise ProgramFailed(answer["error"])
        return answer["value"]

    def _freeze(self) -> None:
        """Stop all its processes until its next turn: some pools look around many times a second while they idle."""
        # Twice, so that what was being started at the first look is found at the second.
        for _ in range(2):
            self._frozen = marked(self.program.mark)
            self._signal(signal.SIGSTOP)

    def _thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self._frozen = []

    def _signal(self, number: int) -> None:
        for pid in self._frozen:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def _line(self, deadline: float, limit_s: float) -> bytes:
        # The answer's pipe may be held open by a dead host's workers, so its end is not waited for.
        assert self.program.process.stdout is not None
        descriptor = self.program.process.stdout.fileno()
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([descriptor], [], [], 0.25)
            if readable:
                part = os.read(descriptor, 65536)
                if part:
                    self._buffer += part
                    continue
            if self.program.process.poll() is not None:
                raise ProgramFailed(f"ended with exit code {self.program.process.returncode}")
            if time.monotonic() > deadline:
                raise ProgramFailed(f"no answer within {limit_s:g} s")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def close(self) -> None:
        """Let it close its pool, for a few seconds, then end what is left."""
        assert self.program.process.stdin is not None
        self._thaw()
        try:
            self.program.process.stdin.close()
        except BrokenPipeError:
            pass
        self.program.wait(5.0)
        self.program.end()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
