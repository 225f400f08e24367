"""The supervisor's processes of jobs: which live, what they said, how they ended. For one thread."""

from __future__ import annotations

import contextlib
import selectors
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from allcores.formatting import size_text
from allcores.jobs import decisions, stacks
from allcores.jobs.core_shares import CoreShares
from allcores.jobs.job_processes import JobProcess
from allcores.jobs.model import Claim, JobError, Progress
from allcores.jobs.plain_call import MOST_BYTES, Answer, answer_of
from allcores.jobs.rows import progress_from_json, progress_to_json

#: seconds for which a job that wants to map waits for cores that others are about to give back
GRANT_S = 2.0
#: ... and after it did so in vain, for which it waits no more: a task may map again and again, and others begin
#: nothing while it waits. Larger costs its maps cores that come free, smaller costs all jobs time
VAIN_S = 20.0
#: seconds that a process may take to end after its last word
LAST_S = 1.0
#: seconds in which what it left behind is gone, once that was killed
REST_S = 1.0


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How the process of a job ended.

    Attributes:
        process: It.
        answer: What it said of its task; None: nothing.
        death: What is known of its death, if it said nothing.
    """

    process: JobProcess
    answer: Answer | None
    death: JobError | None


class ProcessSide:
    """See the module.

    Args:
        store_folder: Of the store.
        places: Where the tasks are.
        shares: Of cores.
        selector: Wakes the supervisor when one of them says something or ends.
        boot_s: Seconds in which a process has to have loaded the tasks.
    """

    def __init__(
        self,
        store_folder: str,
        places: tuple[str, ...],
        shares: CoreShares,
        selector: selectors.BaseSelector,
        boot_s: float,
    ) -> None:
        self._store_folder = store_folder
        self._places = places
        self._shares = shares
        self._selector = selector
        self._boot_s = boot_s
        self.processes: dict[str, JobProcess] = {}

    @property
    def wanting(self) -> bool:
        """Whether one waits for cores: others begin nothing meanwhile."""
        return any(each.wants_cores is not None for each in self.processes.values())

    def begin(self, claim: Claim, now: float, timeout: float | None) -> None:
        """Begin an attempt. Raises: OSError."""
        process = JobProcess.start(claim, self._store_folder, self._places, now, timeout)
        self.processes[claim.job.id] = process
        self._shares.begin(claim.job.id)
        self._selector.register(process.pipe.connection, selectors.EVENT_READ)

    def hear(self) -> None:
        """Take what they said."""
        for process in self.processes.values():
            self._hear(process)

    def _hear(self, process: JobProcess) -> None:
        # The time is asked for here: a supervisor that waited for its store begins nobody's seconds in the past.
        now = time.monotonic()
        try:
            for message in process.hear():
                self._take(process, message, now)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
            # It came from the task, which has all descriptors, or from another version of this program.
            if process.answer is None and not process.drained:
                process.end("message", 0.0)
        if process.is_mute:
            # An end of a file is there to be read again and again.
            self._listen_no_more(process)

    def _take(self, process: JobProcess, message: dict[str, Any], now: float) -> None:
        op = message.pop("op", None)
        if op == "ready":
            memory = int(message["memory"])
            if not 0 <= memory < MOST_BYTES:
                raise ValueError("no process has so much memory")
            process.begins(now)
            process.note_memory(memory)
        elif op == "cores":
            process.wants_cores = now
        elif op == "give_back":
            self._shares.give_back(process.claim.job.id)
        elif op == "progress":
            told = progress_of(message)
            if told is None or progress_from_json(progress_to_json(told)) is None:
                raise ValueError("no progress")
            process.progress = process.last_progress = message
        elif op == "done":
            process.answer = answer_of(message["answer"])
            process.kill_at = process.kill_at or now + LAST_S
        elif op == "drained":
            process.drained = True
            process.kill_at = process.kill_at or now + LAST_S

    def _listen_no_more(self, process: JobProcess) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(process.pipe.connection)

    def watch(self, now: float) -> None:
        """Grant cores, and end what has used up its time."""
        for job, process in self.processes.items():
            if process.wants_cores is not None:
                most = self._shares.could_have(job) >= self._shares.cores
                waited = now - process.wants_cores >= GRANT_S
                if most or waited or now < process.takes_less_until:
                    if waited and not most:
                        process.takes_less_until = now + VAIN_S
                    process.wants_cores = None
                    process.tell(op="granted", cores=self._shares.grant(job))
            if process.deadline is not None and now >= process.deadline and process.answer is None:
                process.end("deadline", now)
            elif not process.ready and now - process.started >= self._boot_s:
                process.end("boot", now)
            if process.kill_at is not None and now >= process.kill_at:
                process.kill()

    def excuse(self, seconds: float) -> None:
        """The supervisor stood still for so long: see `JobProcess.excuse`."""
        for process in self.processes.values():
            process.excuse(seconds)

    def end(self, job: str, why: str, now: float) -> bool:
        """End an attempt; False if it has no process here."""
        process = self.processes.get(job)
        if process is None or process.answer is not None:
            return False
        process.end(why, now)
        return True

    def drain(self) -> None:
        """Tell all of them to come to an end in peace."""
        for process in self.processes.values():
            process.tell(op="drain")

    def ended(self) -> Iterator[ProcessEnd]:
        """Those that have ended since, and nothing of which is left."""
        for job, process in list(self.processes.items()):
            found = process.collect()
            if found is None:
                continue
            # What it said in its last moment is still in the socket.
            self._hear(process)
            self._end_rest(process)
            self._listen_no_more(process)
            process.close()
            del self.processes[job]
            self._shares.end(job)
            death = None
            if process.answer is None and not process.drained:
                death = self._death(process, *found)
            yield ProcessEnd(process, process.answer, death)

    def _end_rest(self, process: JobProcess) -> None:
        """What was killed is gone within moments; a look for a second at most."""
        until = time.monotonic() + REST_S
        while process.leftovers() and time.monotonic() < until:
            time.sleep(0.002)

    def kill_all(self, seconds: float) -> None:
        """Kill all of them, and wait until they are gone, for so long."""
        until = time.monotonic() + seconds
        while self.processes and time.monotonic() < until:
            for process in self.processes.values():
                process.kill()
            if not list(self.ended()):
                time.sleep(0.002)
        for process in self.processes.values():
            process.close()

    def _death(self, process: JobProcess, status: int, memory: int) -> JobError:
        name = None
        exitcode = None
        if status & 0x7F:
            with contextlib.suppress(ValueError):
                name = signal.Signals(status & 0x7F).name
        else:
            exitcode = status >> 8
        words = stacks.last_words(self._store_folder, process.pid)
        if process.ended_for == "boot":
            message = f"its process did not load the tasks within {self._boot_s:g} s"
            return JobError("WorkerLost", message, words, "did not start", memory)
        if process.ended_for == "message":
            return decisions.no_message(words, memory)
        how = f"was killed by {name}" if name else f"ended with exit code {exitcode}"
        message = f"the process of the job {how} before the task returned; it had used {size_text(memory)} at most"
        return decisions.death(name, exitcode, memory, message, words)


def progress_of(message: dict[str, object] | None) -> Progress | None:
    """Progress as a job's process told it."""
    if message is None:
        return None
    known = {name: message.get(name) for name in Progress.__slots__ if name in message}
    return Progress(**known)  # type: ignore[arg-type]
