"""Jobs and what is counted of them, as `allcores jobs` prints them: as lines, and for machines."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from allcores.formatting import counted, moment_text, seconds_text, size_text
from allcores.system.terminal_text import safe_line

if TYPE_CHECKING:
    from allcores.jobs.model import Counts, Job, Statistics


def as_json(job: Job) -> dict[str, Any]:
    """A job as the commands print it for machines: the attributes of `Job`."""
    return asdict(job) | {"state": str(job.state)}


def as_text(job: Job) -> list[str]:
    """All that is known of a job."""
    from allcores.jobs.results import IN_FILE

    error = job.error
    # Of a damaged row it is what the error says, too.
    note = "" if error is not None and job.note == error.message else job.note
    lines = [f"Job {job.id}: {job.state}" + (f" ({note})" if note else "")]
    lines.append(f"  {job.task} {json.dumps(job.arguments, ensure_ascii=False)}")
    lines.append(f"  submitted {moment_text(job.created)} by {job.submitted_by or 'unknown'}")
    if job.started:
        took = f", took {seconds_text(max(0.0, job.finished - job.started))}" if job.finished else ""
        lines.append(f"  begun {moment_text(job.started)}{took}")
    most = "as many as its task says" if job.retries is None else f"{job.retries + 1:,} at most"
    lines.append(f"  {counted(job.attempts, 'attempt')} ({most}), {counted(job.crashes, 'crash', 'crashes')}")
    if job.worker is not None:
        lines.append(f"  in process {job.worker.pid}")
    if (progress := job.progress) is not None:
        of = f" of {progress.total:,}" if progress.total is not None else ""
        at = moment_text(progress.at)
        lines.append(f"  {progress.done:,}{of} items done, {progress.failed:,} failed, as of {at}")
    for file in job.result_files:
        lines.append(f"  made {file.name} ({size_text(file.size)})")
    if error is not None:
        said = f"{error.type}: {error.message}" if error.message else error.type
        lines.append(f"  {error.cause}: {said}")
        # What Python prints ends with the same.
        lines += [f"    {line}" for line in error.traceback.rstrip().removesuffix(said).splitlines()]
    if job.state == "succeeded" and not (job.result is None and job.note == IN_FILE):
        lines.append(f"  result {json.dumps(job.result, ensure_ascii=False)}")
    return [safe_line(line) for line in lines]


def statistics_json(counts: Counts, late: Statistics) -> dict[str, Any]:
    """What is counted, for machines."""
    return {
        "total": counts.total,
        "by_state": {str(state): number for state, number in counts.by_state.items()},
        "by_task": {
            task: {str(state): number for state, number in states.items()} for task, states in counts.by_task.items()
        },
        "delayed": counts.delayed,
        "bytes": counts.bytes,
        "window": late.window,
        "finished": {str(state): number for state, number in late.finished.items()},
        "throughput": late.throughput,
        **{name: getattr(late, name) for name in ("wait_p50", "wait_p95", "run_p50", "run_p95")},
        "failures": [
            {"cause": cause, "error": error, "count": number} for (cause, error), number in late.failures.items()
        ],
    }


def statistics_lines(counts: Counts, late: Statistics) -> list[str]:
    """What is counted: of all jobs, and of those that came to an end of late."""
    lines = [f"{counted(counts.total, 'job')}, {size_text(counts.bytes)}"]
    for state, number in counts.by_state.items():
        waiting = f" ({counts.delayed:,} of them not yet due)" if state == "queued" and counts.delayed else ""
        lines.append(f"  {state:<11} {number:>11,}{waiting}")
    for task, states in sorted(counts.by_task.items()):
        parts = ", ".join(f"{number:,} {state}" for state, number in states.items())
        lines.append(f"  {task}: {parts}")
    done = sum(late.finished.values())
    lines.append(f"last {seconds_text(late.window)}: {counted(done, 'job')} ended, {late.throughput:,.2f} a second")
    if late.wait_p50 is not None and late.wait_p95 is not None:
        lines.append(f"  waited {seconds_text(late.wait_p50)} (median), {seconds_text(late.wait_p95)} (95 of 100)")
    for (cause, error), number in sorted(late.failures.items(), key=lambda each: -each[1]):
        lines.append(f"  {number:>7,} × {cause}: {error}")
    return [safe_line(line) for line in lines]
