"""What becomes of a job after each way in which an attempt can end. Pure: no clock, no chance of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass

from allcores.errors import WorkerLost
from allcores.jobs.errors import ResultNotKept
from allcores.jobs.model import Claim, Finished, Job, JobError, ResultFile, State
from allcores.jobs.plain_call import Answer
from allcores.jobs.results import IN_FILE
from allcores.jobs.tasks import Task

#: seconds before a job whose process died runs again, doubled for each further death
AFTER_CRASH_S = 0.1


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for all jobs.

    Attributes:
        most_crashes: Deaths of its process after which a job is quarantined.
    """

    most_crashes: int = 3


def backoff_s(task: Task, attempts: int, chance: float) -> float:
    """Seconds before the next attempt.

    Args:
        task: With its backoff.
        attempts: Those that failed so far, from 1.
        chance: From 0 to 1: how much of the half that is left to chance.
    """
    whole = min(task.backoff * 2.0 ** min(attempts - 1, 60), task.backoff_most)
    return whole * (0.5 + 0.5 * chance)


def succeeded(answer: Answer) -> Finished:
    """It returned."""
    files = tuple(ResultFile(name, size, media_type) for name, size, media_type in answer.files)
    if answer.text is None:
        return Finished(State.SUCCEEDED, files=files, note=IN_FILE)
    try:
        result = json.loads(answer.text)
    except (ValueError, RecursionError) as error:  # this process was told to read fewer digits, say
        reason = f"what the task returned cannot be read by the supervisor: {error}"
        return Finished(State.FAILED, error=JobError(ResultNotKept.__name__, reason))
    return Finished(State.SUCCEEDED, result=result, files=files)


def after_exception(claim: Claim, task: Task, answer: Answer, now: float, chance: float) -> Finished:
    """It raised: tried again if attempts are left, and may end otherwise."""
    error = JobError(answer.type, answer.message, answer.traceback)
    attempts, retries = claim.job.attempts + 1, retries_of(claim.job, task)
    if answer.final:
        return Finished(State.FAILED, error=error, note=f"{answer.type}: another attempt would end the same way")
    if attempts > retries:
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        return Finished(State.FAILED, error=error, note=f"{answer.type}{tried}")
    wait_s = backoff_s(task, attempts, chance)
    note = f"attempt {attempts} of {retries + 1} raised {answer.type}; the next is in {wait_s:.1f} s"
    return Finished(State.QUEUED, error=error, retry_at=now + wait_s, note=note)


def after_deadline(seconds: float) -> Finished:
    """It used up its time, and its process was ended."""
    message = f"it ran longer than the {seconds:g} s that are allowed, and was ended"
    return Finished(State.TIMED_OUT, error=JobError("TaskTimeout", message, cause="deadline"), note="deadline")


def after_cancel() -> Finished:
    """Its end was asked for, and its process is gone."""
    return Finished(State.CANCELLED, note="cancelled while it ran; its process is gone")


def after_crash(claim: Claim, error: JobError, policy: Policy, now: float) -> Finished:
    """Its process died: it runs again, but not for ever."""
    crashes = claim.job.crashes + 1
    if crashes >= policy.most_crashes:
        note = f"quarantined: its process died {crashes} times, the last time by {error.cause}"
        return Finished(State.QUARANTINED, error=error, crashed=True, note=note)
    note = f"its process died ({error.cause}), {crashes} of {policy.most_crashes} times that are allowed"
    at = now + AFTER_CRASH_S * 2 ** (crashes - 1)
    return Finished(State.QUEUED, error=error, crashed=True, retry_at=at, note=note)


def after_giving_back(claim: Claim, policy: Policy, now: float) -> Finished:
    """It began as it was given back to the queue, and was ended for that, has ended or has died: nobody knows which."""
    message = (
        "it may have begun in the moment in which it was given back to the queue, as those before it took long; then"
        " its process was ended, or what it returned was not taken"
    )
    return after_crash(claim, JobError("WorkerLost", message, cause="given back"), policy, now)


def lost(error: WorkerLost) -> JobError:
    """What is told of a worker's death: its cause, in words."""
    return death(error.signal, error.exitcode, error.peak_memory, str(error), error.stack or "")


def death(signal: str | None, exitcode: int | None, peak_memory: int | None, message: str, stack: str = "") -> JobError:
    """What is told of a process's death."""
    if "Limits(memory_per_worker" in message:
        cause = "memory limit"
    elif signal is not None:
        cause = signal
    elif exitcode is not None:
        cause = f"exit code {exitcode}"
    elif "its template process was ended" in message:
        cause = "template ended"
    else:
        cause = "unknown"
    return JobError("WorkerLost", message, stack, cause, peak_memory)


def no_message(words: str, peak_memory: int | None) -> JobError:
    """What is told of a process that sent what is no message: nothing that it says can be believed.

    Args:
        words: Its last ones, for people.
        peak_memory: What it has used.
    """
    message = (
        "its process sent the supervisor what is no message: the task writes to a descriptor that it has not opened, or"
        " changes what is not its own, or allcores was upgraded while the supervisor ran (start it again)"
    )
    return JobError("WorkerLost", message, words, "no message", peak_memory)


def timeout_of(job: Job, task: Task) -> float | None:
    """Seconds that an attempt may take."""
    return job.timeout if job.timeout is not None else task.timeout


def retries_of(job: Job, task: Task) -> int:
    """Attempts after the first one."""
    return job.retries if job.retries is not None else task.retries
