"""A job as `allcores jobs show` prints it."""

from __future__ import annotations

import pytest

from allcores.cli.jobs_text import as_text
from allcores.jobs.model import Job, JobError, State
from allcores.jobs.rows import job_from_row


@pytest.mark.parametrize(
    ("message", "last"), [("no", "ValueError: no\n"), ("no\n\nway", "ValueError: no\n\nway\n"), ("", "ValueError\n")]
)
def test_what_python_prints_of_an_error_does_not_say_it_again(message: str, last: str) -> None:
    trace = 'Traceback (most recent call last):\n  File "tasks.py", line 3, in f\n'
    error = JobError("ValueError", message, trace + last)
    lines = as_text(Job("a" * 32, 1, "f", {}, State.FAILED, error=error, note="ValueError after 2 attempts"))
    assert lines[0].endswith(": failed (ValueError after 2 attempts)")
    assert lines[-2:] == ["    Traceback (most recent call last):", '      File "tasks.py", line 3, in f']
    assert "\n".join(lines).count("  exception: ValueError") == 1
    noted = JobError("ValueError", message, f"{trace}{last}a note of the program's")
    assert as_text(Job("a" * 32, 1, "f", {}, State.FAILED, error=noted))[-1] == "    a note of the program's"


def test_what_is_wrong_with_a_row_is_said_once() -> None:
    names = ("arguments", "state", "result", "created", "run_at", "changed", "task")
    job = job_from_row({**dict.fromkeys(names), "id": "a" * 32, "seq": 1})
    assert job.damaged and job.note == f"its row is damaged: {job.damaged}"
    assert "\n".join(as_text(job)).count(job.damaged) == 1
