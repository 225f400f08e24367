"""The process of a job whose task gets the running job: what runs in it.

It is a fresh interpreter in a session of its own, with a mark in its environment, and what its children leave behind
becomes its own child: so it and all that it starts can be found and ended (`descendants`). It ends with its supervisor:
by the kernel's signal, and by the end of the socket to it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from allcores.jobs import stacks, uploads
from allcores.jobs.errors import ArgumentErrors, JobDrained
from allcores.jobs.messages import MessagePipe
from allcores.jobs.plain_call import Answer, failure
from allcores.jobs.results import encode, keeping, kept
from allcores.jobs.running_job import RunningJob
from allcores.jobs.tasks import Registry
from allcores.system import own_imports, posix, procfs, standard_streams
from allcores.system.sockets import socket_of

#: exit code of one whose supervisor is gone
EXIT_ALONE = 3


class SupervisorOfProcess:
    """The supervisor, as the job's process sees it."""

    def __init__(self, pipe: MessagePipe) -> None:
        self._pipe = pipe
        self._granted = threading.Semaphore(0)
        self._cores = 1
        #: maps of this job that are at work: threads of a task may map at the same time
        self._maps = 0
        self._sharing = threading.Lock()
        self.job: RunningJob | None = None
        self._draining = False
        threading.Thread(target=self._listen, name="allcores-supervisor", daemon=True).start()

    def attach(self, job: RunningJob) -> None:
        """The job is there now; what it was to be told meanwhile it is told."""
        self.job = job
        if self._draining:
            job.drain()

    def cores(self) -> int:
        """Ask for cores; waits for the answer, which comes soon. Maps at the same time are given the same ones."""
        with self._sharing:
            if not self._maps:
                self._pipe.send(op="cores")
                self._granted.acquire()
            self._maps += 1
            return self._cores

    def give_back(self) -> None:
        """A map is done; after the last one at work the cores are free again."""
        with self._sharing:
            self._maps -= 1
            if not self._maps:
                self._pipe.send(op="give_back")

    def report(self, progress: dict[str, Any]) -> None:
        """How far it is."""
        self._pipe.send(op="progress", **progress)

    def _listen(self) -> None:
        while True:
            try:
                data = self._pipe.connection.recv(65_536)
            except OSError:
                data = b""
            if not data:
                # The supervisor is gone: another one runs the job now.
                os._exit(EXIT_ALONE)
            for message in self._pipe.received(data):
                self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        op = message.pop("op", None)
        if op == "granted":
            self._cores = int(message["cores"])
            self._granted.release()
        elif op == "drain":
            self._draining = True
            if self.job is not None:
                self.job.drain()


def main(descriptor: int, order: int, parent: int) -> None:
    """Run one attempt and tell the supervisor. Never returns.

    Args:
        descriptor: Of the socket to the supervisor.
        order: Of a file that says what to run. It may be larger than what a socket takes that nobody reads yet.
        parent: The supervisor's pid.
    """
    posix.die_with_parent(parent)
    posix.adopt_orphans()
    own_imports.install()
    pipe = MessagePipe(socket_of(posix.move_fd_high(descriptor)))
    supervisor = SupervisorOfProcess(pipe)
    with open(order, "rb") as file:
        file.seek(0)
        start = json.load(file)
    try:
        answer = _work(start, supervisor, pipe)
        if answer is None:
            pipe.send(op="drained")
        else:
            pipe.send(op="done", answer=list(answer))
    finally:
        standard_streams.flush()
        # Threads that the task left running do not keep the process.
        os._exit(0)


def _work(start: dict[str, Any], supervisor: SupervisorOfProcess, pipe: MessagePipe) -> Answer | None:
    store_folder: str = start["store_folder"]
    job: RunningJob | None = None
    answer: Answer | None
    try:
        stacks.listen(store_folder, fatal=True)
        sys.path[:] = start["path"]
        registry = Registry.load(tuple(start["places"]))
        uploads.use(store_folder)
        pipe.send(op="ready", memory=procfs.peak_resident_bytes(os.getpid()) or 0)
        task = registry[start["task"]]
        try:
            values = task.arguments.values(start["arguments"])
        except ArgumentErrors as error:
            return failure(error)._replace(final=True)
        job = RunningJob(
            start["job"],
            start["attempt"],
            store_folder,
            supervisor,
            tags=start["tags"],
            parent=start["parent"],
        )
        supervisor.attach(job)
        value = task.function(job, **values)
        text = encode(value)
        files = job.results
        row = kept(text, files)
        with keeping(files):
            answer = Answer(True, row, tuple(files.publish()))
    except JobDrained as error:
        answer = None if job is not None and job.draining else failure(error)
    except BaseException as error:
        answer = failure(error)
    if job is not None:
        job.close()
    return answer
