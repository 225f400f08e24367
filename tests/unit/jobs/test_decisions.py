"""What becomes of a job after each end of an attempt, and who may use how many cores: pure decisions."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from allcores.errors import WorkerLost
from allcores.jobs import decisions, task
from allcores.jobs.core_shares import CoreShares
from allcores.jobs.decisions import Policy
from allcores.jobs.model import Claim, Job, State
from allcores.jobs.plain_call import Answer
from allcores.jobs.tasks import Task, task_of


@task(retries=3, backoff=2.0, backoff_most=6.0, timeout=9.0)
def work() -> None: ...


def the_task() -> Task:
    found = task_of(work)
    assert found is not None
    return found


def claim(**facts: Any) -> Claim:
    return Claim(Job("a" * 32, 1, "work", {}, State.RUNNING, retries=3, **facts), 1, "token")


RAISED = Answer(False, type="ValueError", message="no", traceback="...")


def test_exceptions_are_tried_again_until_no_attempt_is_left() -> None:
    ends = [
        decisions.after_exception(claim(attempts=attempts), the_task(), RAISED, now=100.0, chance=1.0)
        for attempts in range(4)
    ]
    assert [end.state for end in ends] == [State.QUEUED] * 3 + [State.FAILED]
    assert [end.retry_at for end in ends] == [102.0, 104.0, 106.0, None]
    assert all(not end.crashed for end in ends)
    assert ends[-1].error is not None and ends[-1].error.cause == "exception"


def test_what_would_end_the_same_way_is_not_tried_again() -> None:
    end = decisions.after_exception(claim(), the_task(), RAISED._replace(final=True), now=100.0, chance=1.0)
    assert (end.state, end.retry_at) == (State.FAILED, None)


def test_a_job_may_have_retries_of_its_own() -> None:
    """One that was submitted where its task is not known has those of the task; none are a number, too."""
    job = claim().job
    assert [decisions.retries_of(replace(job, retries=each), the_task()) for each in (None, 0, 7)] == [3, 0, 7]
    ends = [
        decisions.after_exception(
            replace(claim(), job=replace(job, retries=None, attempts=attempts)), the_task(), RAISED, 1.0, 0.5
        )
        for attempts in (0, 2, 3)
    ]
    assert [end.state for end in ends] == [State.QUEUED, State.QUEUED, State.FAILED]
    assert ends[0].note.startswith("attempt 1 of 4 raised")


def test_half_of_the_pause_is_chance() -> None:
    assert decisions.backoff_s(the_task(), 1, 0.0) == 1.0
    assert decisions.backoff_s(the_task(), 1, 1.0) == 2.0
    assert decisions.backoff_s(the_task(), 10_000, 1.0) == 6.0


def test_crashes_are_counted_apart() -> None:
    error = decisions.lost(WorkerLost("died", signal="SIGSEGV", peak_memory=5))
    ends = [decisions.after_crash(claim(crashes=crashes), error, Policy(3), now=100.0) for crashes in range(3)]
    assert [end.state for end in ends] == [State.QUEUED, State.QUEUED, State.QUARANTINED]
    assert all(end.crashed for end in ends)
    assert (error.cause, error.peak_memory) == ("SIGSEGV", 5)
    assert ends[0].retry_at is not None and ends[1].retry_at is not None and ends[0].retry_at < ends[1].retry_at
    assert "SIGSEGV" in ends[2].note


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ((None, 3, 1, "died"), "exit code 3"),
        (("SIGKILL", None, 1, "used 9 MB, Limits(memory_per_worker=...) allows 1 MB"), "memory limit"),
        ((None, None, None, "died"), "unknown"),
    ],
)
def test_causes(facts: tuple[Any, ...], cause: str) -> None:
    assert decisions.death(*facts).cause == cause


def test_a_job_may_have_a_deadline_of_its_own() -> None:
    assert decisions.timeout_of(claim().job, the_task()) == 9.0
    assert decisions.timeout_of(replace(claim().job, timeout=1.0), the_task()) == 1.0


# --- cores ---


def test_plain_jobs_have_a_core_each() -> None:
    shares = CoreShares(2)
    assert shares.free == 2
    shares.plain = 2
    assert shares.free == 0


def test_a_job_that_maps_gets_what_is_free_and_one_may_run_beside_it() -> None:
    shares = CoreShares(4)
    shares.begin("a")
    shares.plain = 1
    assert (shares.free, shares.could_have("a")) == (2, 3)
    assert shares.grant("a") == 3
    assert (shares.free, shares.of("a")) == (0, 3)
    shares.plain = 0
    assert shares.grant("a") == 4
    assert shares.free == 1  # though no core is: short jobs do not wait for hours
    shares.plain = 1
    assert shares.free == 0
    shares.give_back("a")
    assert (shares.free, shares.of("a")) == (2, 1)
    shares.end("a")
    shares.end("a")
    assert shares.free == 3


def test_cores_that_are_left_for_the_pool() -> None:
    shares = CoreShares(4)
    shares.plain = 2
    assert shares.for_plain == 4
    shares.begin("a")
    assert shares.for_plain == 3
    shares.plain = 0
    shares.grant("a")
    shares.begin("b")
    assert shares.for_plain == 0


def test_two_that_map_do_not_wait_for_each_other() -> None:
    shares = CoreShares(2)
    shares.begin("a")
    shares.begin("b")
    assert shares.grant("a") == 1
    assert shares.grant("b") == 1
    shares.end("a")
    assert shares.grant("b") == 2


def test_one_core_is_enough() -> None:
    shares = CoreShares(1)
    shares.begin("a")
    assert shares.free == 0
    assert shares.grant("a") == 1
    assert shares.free == 1
    shares.begin("b")
    assert (shares.free, shares.grant("b")) == (0, 1)
    assert shares.grant("b", wanted=1) == 1


def test_a_result_that_the_supervisor_cannot_read_is_told() -> None:
    """It may be told to read fewer digits than the process of the job."""
    told = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        end = decisions.succeeded(Answer(True, "9" * 1_000))
    finally:
        sys.set_int_max_str_digits(told)
    assert end.state is State.FAILED and end.error is not None
    assert end.error.type == "ResultNotKept" and "cannot be read by the supervisor: Exceeds" in end.error.message
