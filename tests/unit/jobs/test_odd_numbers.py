"""Numbers from outside: those that no database can keep, or that are no times, are refused with one sentence."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable
from typing import Any

import pytest

from allcores.jobs.errors import BadJob
from allcores.jobs.model import JobFilter, State
from allcores.jobs.queue import Queue
from allcores.jobs.retention import Retention
from allcores.jobs.store import JobStore
from allcores.jobs.tasks import Registry, task, task_of


@task
def f() -> None: ...


@pytest.mark.parametrize("number", [2**63, 2**70, 10**5000, -1, 1.5, "1", True, None], ids=range(8))
def test_numbers_that_no_database_can_keep_are_refused(store: JobStore, number: Any) -> None:
    """With one sentence, in both databases."""
    store.submit("f", {})
    snapshot = store.snapshot(JobFilter())
    calls: list[Callable[[], object]] = [
        lambda: store.undelete(number, "ann"),
        lambda: store.audit(limit=number),
        lambda: store.write_audit("ann", "thing", number),
        lambda: store.cancel(dataclasses.replace(snapshot, change=number), "ann"),
        lambda: store.page(limit=number),
    ]
    for call in calls[:-1] if number is True else calls:
        with pytest.raises(BadJob, match=r"(is a whole number from|has from 1 to 1,000 jobs)"):
            call()
    if number is not None:
        with pytest.raises(BadJob, match="is a whole number from"):
            store.audit(after=number)
    assert store.audit() == [] and store.counts().by_state[State.QUEUED] == 1


def test_times_that_no_clock_has_are_refused(store: JobStore) -> None:
    for odd in (10**400, 10**30, 1e300, math.nan, math.inf, "1"):
        for name in ("since", "until"):
            with pytest.raises(BadJob, match=f"the filter's {name} is a time in seconds since 1970"):
                store.page(JobFilter(**{name: odd}))  # type: ignore[arg-type]
        if odd not in (1e300, 10**30):
            with pytest.raises(BadJob, match="a window is a number of seconds above 0"):
                store.stats(odd)  # type: ignore[arg-type]
    found = task_of(f)
    assert found is not None
    queue = Queue(store, tasks=Registry([found]))
    job = queue.submit("f")
    for odd in (10**400, math.nan, "1"):
        with pytest.raises(BadJob, match="the timeout is a number of seconds, not"):
            queue.wait(job.id, odd)  # type: ignore[arg-type]
        with pytest.raises(BadJob, match="the delay is a number of seconds, not"):
            queue.submit("f", delay=odd)
    with pytest.raises(TimeoutError):
        queue.wait(job.id, -1)
    for year in (datetime.datetime.min, datetime.datetime.min.replace(tzinfo=datetime.UTC)):
        with pytest.raises(BadJob, match="run_at is a time after 1970 and before the year 10000"):
            queue.submit("f", run_at=year)


def test_bounds_that_no_store_reaches_are_none() -> None:
    assert Retention(10**400, 2**63, 2**70, 10**5000) == Retention(None, None, None, None)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (None, "jobs are chosen by a JobFilter, not by None"),
        ("failed", "jobs are chosen by a JobFilter, not by 'failed'"),
        (JobFilter(states=None), r"the filter's states are a tuple of states, as in \('failed',\), not None"),  # type: ignore[arg-type]
        (JobFilter(states="failed"), r"the filter's states are a tuple of states, .*, not 'failed'"),  # type: ignore[arg-type]
        (JobFilter(states=5), "the filter's states are a tuple of states, .*, not 5"),  # type: ignore[arg-type]
        (JobFilter(text="a", hidden="x"), "the filter's hidden is a pattern, as of re.compile, not 'x'"),  # type: ignore[arg-type]
    ],
    ids=range(6),
)
def test_filters_of_odd_types_are_refused_with_one_sentence(store: JobStore, odd: Any, words: str) -> None:
    snapshot = store.snapshot(JobFilter())
    for call in (
        store.page,
        store.snapshot,
        lambda each: store.cancel(dataclasses.replace(snapshot, filter=each), "ann"),
    ):
        with pytest.raises(BadJob, match=words):
            call(odd)


def test_states_of_a_filter_may_be_their_words(store: JobStore) -> None:
    job = store.submit("f", {}).job
    for states in (("queued",), ["queued", "failed"], {"queued"}):
        wanted = JobFilter(states=states, task="f")  # type: ignore[arg-type]
        assert [each.id for each in store.page(wanted).jobs] == [job.id]
        assert store.snapshot(wanted).count == 1
    assert store.cancel(store.snapshot(JobFilter(states=["queued"])), "ann").count == 1  # type: ignore[arg-type]
