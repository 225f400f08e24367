"""Programs of their own for the contenders, and an end for every process that they leave.

A contender may hang, and its workers may outlive it in sessions and groups of their own. Each program
is therefore started with a mark of its own in the environment, which all that it starts inherit.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

MARK = "ALLCORES_BENCHMARK"
ROOT = Path(__file__).resolve().parent.parent


class ProgramFailed(Exception):
    """A contender's program raised, died or did not answer in time."""


def environment(mark: str) -> dict[str, str]:
    """This process's environment, with the mark and with the checkout's packages in sight."""
    paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, MARK: mark, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}


def marked(mark: str) -> list[int]:
    """Ids of the living processes that carry the mark (Linux; elsewhere none are found)."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*") if sys.platform == "linux" else ():
        try:
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # gone, or somebody else's
            continue
    return found


def end_all(mark: str) -> int:
    """Kill what carries the mark; returns how many processes were there."""
    ended: set[int] = set()
    for _ in range(20):  # a pool may start replacements while it is being ended
        living = marked(mark)
        if not living:
            break
        for pid in living:
            ended.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    return len(ended)


class Program:
    """A Python process started for one contender; `python -m module arguments...`."""

    def __init__(self, module: str, *arguments: str, talk: bool = False) -> None:
        self.mark = uuid.uuid4().hex
        pipe = subprocess.PIPE if talk else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=pipe,
            stdout=pipe,
            stderr=None if os.environ.get("BENCHMARKS_STDERR") else subprocess.DEVNULL,
            env=environment(self.mark),
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
        left = end_all(self.mark)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return left


class Host:
    """One contender in a program of its own, with a warm pool, measured on request.

    contender: its name in contenders.py. workers: size of its pool.
    """

    def __init__(self, contender: str, workers: int) -> None:
        self.contender = contender
        self.program = Program("benchmarks.host", contender, str(workers), talk=True)
        self._buffer = b""

    def measure(self, function: str, *, limit_s: float = 120.0, **arguments: Any) -> Any:
        """Call `module:function` of this package as function(contender, **arguments) in the host."""
        process = self.program.process
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"function": function, "arguments": arguments}).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise ProgramFailed(f"ended with exit code {process.wait()}") from None
        answer = json.loads(self._line(time.monotonic() + limit_s, limit_s))
        if "error" in answer:
            raise ProgramFailed(answer["error"])
        return answer["value"]

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
