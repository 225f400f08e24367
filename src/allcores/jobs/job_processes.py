"""Processes of jobs, as the supervisor sees them: started, heard, and ended with all that they started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from allcores.jobs import descendants
from allcores.jobs.messages import MessagePipe
from allcores.jobs.model import Claim
from allcores.jobs.plain_call import Answer
from allcores.system import environment, fork_lock, posix, procfs
from allcores.system.sockets import socket_pair

#: seconds between SIGTERM and SIGKILL
TERMINATE_S = 0.25
#: seconds for which what a job started is killed before its process, below which it is found
FIRST_S = 2.0
#: A process begins with the peak of what started it, as the kernel hands it on: summed roughly from counters of each
#: core, so that it may be above what /proc says. Within this part and these bytes it is taken for inherited.
INHERITED_PART, INHERITED_BYTES = 1.02, 64 << 20
#: looks at what is left of that in one go, and seconds between them
_LOOKS, _LOOK_S = 5, 0.001


@dataclass(slots=True, eq=False)
class JobProcess:
    """One attempt of a job, in a process of its own.

    Attributes:
        claim: The job.
        pid: Of the process, which is also the number of its session.
        pipe: To it.
        started: By the monotonic clock; until it is ready, without the time for which the supervisor stood still.
        timeout: Seconds that it may take once it has loaded the tasks; None: any.
        deadline: When these are used up, by the monotonic clock; None: never, or they have not begun.
        ready: It has loaded the tasks.
        wants_cores: Since when it waits for cores; None: it does not.
        takes_less_until: So long it is given what is free, and does not wait for more: it has just waited in vain.
        answer: What it said last; None: nothing.
        drained: It has stopped its runs, to be gone on with.
        ended_for: Why it is being ended: "cancel", "deadline", "drain", "boot", "message" (it said what is none); None:
            it is not.
        is_mute: It can say nothing more: its end of the pipe is closed.
        kill_at: When it is killed.
        progress: The last that it told, and has not been written yet.
        below: What it had started when its end was asked for.
        inherited: Bytes with which the system's count of its largest memory began: those of this process, which has
            started it.
        largest: Bytes that it was seen to have, at most.
    """

    claim: Claim
    pid: int
    pipe: MessagePipe
    started: float
    timeout: float | None
    deadline: float | None = None
    ready: bool = False
    wants_cores: float | None = None
    takes_less_until: float = 0.0
    answer: Answer | None = None
    drained: bool = False
    ended_for: str | None = None
    is_mute: bool = False
    kill_at: float | None = None
    progress: dict[str, Any] | None = None
    last_progress: dict[str, Any] | None = None
    told_pid: bool = False
    killing_since: float | None = None
    below: set[descendants.Process] = field(default_factory=set, repr=False)
    popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    inherited: int = 0
    largest: int = 0

    @classmethod
    def start(
        cls, claim: Claim, store_folder: str, places: tuple[str, ...], now: float, timeout: float | None
    ) -> JobProcess:
        """Start it. To be called by a thread that lives as long as the supervisor. Raises: OSError."""
        order = {
            "job": claim.job.id,
            "task": claim.job.task,
            "arguments": claim.job.arguments,
            "attempt": claim.attempt,
            "tags": list(claim.job.tags),
            "parent": claim.job.parent,
            "store_folder": store_folder,
            "places": list(places),
            "path": [entry or os.getcwd() for entry in sys.path],
        }
        with fork_lock.ForkLock(), open(posix.anonymous_file("job"), "wb") as file:
            file.write(json.dumps(order).encode())
            file.flush()
            ours, theirs = socket_pair()
            with theirs:
                source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
                code = (
                    f"import sys; sys.path.insert(0, {source!r}); from allcores.jobs.job_process import main;"
                    f" main({theirs.fileno()}, {file.fileno()}, {os.getpid()})"
                )
                try:
                    popen = subprocess.Popen(
                        [sys.executable, "-P", "-c", code],
                        pass_fds=[theirs.fileno(), file.fileno()],
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                        env={
                            **environment.variables(),
                            descendants.MARK: descendants.mark_of(claim.job.id, claim.attempt),
                        },
                    )
                except BaseException:
                    ours.close()
                    raise
        pipe = MessagePipe(ours)
        ours.setblocking(False)
        inherited = procfs.peak_resident_bytes(os.getpid()) or 0
        return cls(claim, popen.pid, pipe, now, timeout, popen=popen, inherited=inherited)

    def begins(self, now: float) -> None:
        """It has loaded the tasks: from now on its time counts."""
        self.ready = True
        if self.timeout is not None:
            self.deadline = now + self.timeout

    def excuse(self, seconds: float) -> None:
        """The supervisor stood still for so long, and it with it, perhaps: that does not count."""
        if not self.ready:
            self.started += seconds
        for name in ("deadline", "kill_at", "wants_cores"):
            at = getattr(self, name)
            if at is not None:
                setattr(self, name, at + seconds)

    def hear(self) -> Iterator[dict[str, Any]]:
        """What it has said since; nothing once it is gone. Raises: ValueError, RecursionError: If it is no message."""
        while not self.is_mute:
            try:
                data = self.pipe.connection.recv(262_144)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.is_mute = not data
            yield from self.pipe.received(data)

    def tell(self, **message: Any) -> None:
        """Say something to it; it is gone if that fails."""
        self.pipe.send(**message)

    def end(self, why: str, now: float) -> None:
        """End it: politely at first, then not; idempotent."""
        if self.ended_for is None:
            self.ended_for = why
        if self.popen is not None and self.popen.returncode is not None:
            # What it said last is heard once it is collected: its number may be another one's by now.
            return
        if self.kill_at is None:
            self.kill_at = now + TERMINATE_S
            # Once it has ended, nothing is below it.
            self.below = descendants.below(self.pid)
            posix.end_group(self.pid, signal.SIGTERM)

    @property
    def by_force(self) -> bool:
        """Whether its attempt did not come to its own end: then nothing that it started may live on."""
        if self.answer is None:
            return True
        return not self.answer.ok and self.ended_for not in (None, "boot")

    def kill(self) -> None:
        """Kill it and what it started; to be called again until it can be collected.

        What it started comes first: as long as it is there, stopped, all of that is below it.
        """
        if self.killing_since is None:
            self.killing_since = time.monotonic()
            if self.by_force:
                self._signal(signal.SIGSTOP)
            descendants.kill(self._elsewhere())
        looks = _LOOKS if self.by_force and time.monotonic() < self.killing_since + FIRST_S else 0
        for _ in range(looks):
            if not descendants.kill(descendants.below(self.pid)):
                break
            time.sleep(_LOOK_S)
        else:
            if looks:
                return
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, number)

    def _elsewhere(self) -> set[descendants.Process]:
        """What it started, as far as that is known without it."""
        found = descendants.in_session(self.pid)
        if self.by_force:
            found |= self.below | descendants.marked(self.claim.job.id, self.claim.attempt)
        return found

    def note_memory(self, size: int | None) -> None:
        """It was seen to have so many bytes."""
        self.largest = max(self.largest, size or 0)

    def collect(self) -> tuple[int, int] | None:
        """How it ended: its wait status, and its largest resident memory in bytes; None while it lives.

        Once it is collected, `leftovers` ends the rest.
        """
        try:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid == 0:
                return None
            memory = posix.maxrss_bytes(usage.ru_maxrss)
            if memory <= self.inherited * INHERITED_PART + INHERITED_BYTES:
                # It began with the peak of what started it, and may have stayed below that.
                memory = self.largest
        except ChildProcessError:  # it was collected elsewhere
            status, memory = 0, 0
        if self.popen is not None:
            self.popen.returncode = os.waitstatus_to_exitcode(status)
        return status, memory

    def leftovers(self) -> bool:
        """Kill what it started and did not end, once it is collected; whether there was something.

        After an attempt that came to its own end, what left its session is left alone: a daemon that is meant to be.
        """
        # Itself it is not: it is collected.
        return bool(descendants.kill(self._elsewhere()))

    def close(self) -> None:
        """Close the socket."""
        self.pipe.close()
