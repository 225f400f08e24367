"""Waiting for jobs, and why one is not going to run, for `allcores jobs`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from allcores.cli.exits import CommandError, Exit
from allcores.formatting import counted
from allcores.system.terminal_text import safe_line

if TYPE_CHECKING:
    from allcores.jobs.model import Job
    from allcores.jobs.patience import Patient
    from allcores.jobs.store import JobStore

#: seconds after which `wait` looks again although nothing has changed
_LOOK_S = 5.0


def awaited(opened: JobStore, job_ids: Sequence[str], timeout: float | None) -> list[Job]:
    """The jobs, once all have ended."""
    from allcores.jobs.patience import Patient, TimeIsUp

    until = None if timeout is None else time.monotonic() + timeout
    try:
        return _all_ended(Patient(opened, until), job_ids, until)
    except TimeIsUp as error:
        raise CommandError(f"whether all jobs are at an end is not known: {error}", Exit.NOT_YET) from error


def _all_ended(store: Patient, job_ids: Sequence[str], until: float | None) -> list[Job]:
    jobs: dict[str, Job] = {}
    while True:
        change = store.change_number()
        for job_id in [each for each in job_ids if each not in jobs]:
            if (job := store.get(job_id)) is None:
                raise CommandError(f"job {job_id} was removed meanwhile", Exit.SOME_FAILED)
            if job.state.is_final:
                jobs[job_id] = job
        if not (left := [each for each in job_ids if each not in jobs]):
            return [jobs[each] for each in job_ids]
        if until is not None and time.monotonic() >= until:
            raise CommandError(f"{counted(len(left), 'job')} not at an end yet, like {left[0]}", Exit.NOT_YET)
        store.wait_for_change(change, _LOOK_S if until is None else max(0.0, min(_LOOK_S, until - time.monotonic())))


def why_none_runs(store: JobStore, job: Job) -> str | None:
    """A line that says why a job is not going to run; None if nothing is known of that."""
    if job.state != "queued":
        return None
    from allcores.jobs import health

    reason = health.why_none_runs(store.folder, job.task)
    # Of a store that others share, a supervisor may be on another machine.
    if not reason and store.is_on_this_machine and store.supervisor_pid() is None:
        told = health.read(store.folder)
        if told is None or not told.is_current:
            name = shlex.quote(store.name)
            reason = f"no supervisor runs the jobs of {name}: start one, with allcores work TASKS.py --store {name}"
    return safe_line(f"job {job.id} waits: {reason}") if reason else None


def exit_of(jobs: Sequence[Job]) -> Exit:
    """The exit code of a command that has waited for these jobs."""
    return Exit.OK if all(job.state == "succeeded" for job in jobs) else Exit.SOME_FAILED
