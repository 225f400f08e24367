"""A run that commits after a few items, and what of a job's run may be under way."""

from __future__ import annotations

import math
import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.process.waiting import PATIENCE_S

import allcores
from allcores import failpoints
from allcores.errors import RunInUse, UsageError
from allcores.jobs import running_job
from allcores.jobs.errors import JobDrained


def after_a_commit(item: tuple[str, int]) -> int:
    """The first ones return at once, the others once a commit has left a file."""
    path, number = item
    end = time.monotonic() + PATIENCE_S
    while number >= 4 and not os.path.exists(path):
        assert time.monotonic() < end, "nothing was committed"
        time.sleep(0.005)
    return number


def test_few_items_are_enough_for_a_commit(tmp_path: Path) -> None:
    """Its time would come in an hour."""
    mark = tmp_path / "committed"

    def reached(at: str) -> None:
        if at == "commit.after":
            mark.touch()

    journal = allcores.Journal(folder=tmp_path / "runs", commit_s=3_600.0, commit_items=4)
    failpoints.install(reached)
    try:
        with allcores.Pool(2) as pool:
            items = [(str(mark), number) for number in range(6)]
            result = pool.run(after_a_commit, items, tmp_path / "out.jsonl", journal=journal, chunk=1)
    finally:
        failpoints.install(None)
    assert result.ok == 6
    bad: Any = 0
    with pytest.raises(UsageError, match="commit_items=0 must be a whole number, 1 or more"):
        allcores.Journal(commit_items=bad)


class Alone:
    """A supervisor that gives two cores."""

    def cores(self) -> int:
        return 2

    def give_back(self) -> None:
        pass

    def report(self, progress: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize(("count", "under_way"), [(10_000, 50), (10, 16), (100_000_000, 65_536), (None, None)])
def test_little_of_a_run_of_a_job_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int | None, under_way: int | None
) -> None:
    """So that a kill costs a hundredth of it, however short its items are."""
    seen: list[Any] = []

    class Seen(Exception):
        pass

    def pool(*_: object, limits: Any, **__: object) -> None:
        seen.append(limits)
        raise Seen

    monkeypatch.setattr(running_job, "Pool", pool)
    job = running_job.RunningJob("a" * 32, 1, str(tmp_path), Alone())
    source: Any = range(count) if count is not None else iter(range(10))
    with pytest.raises(Seen):
        job.run(str, source)
    job.close()
    assert [None if each is None else each.items_in_flight for each in seen] == [under_way]


@pytest.mark.parametrize(("seconds", "found"), [(100.0, "begun"), (1_000.0, "in use")])
def test_a_run_that_a_former_process_is_still_giving_back_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, found: str
) -> None:
    """The system frees a hundred gigabytes before it gives back a lock."""

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

        def sleep(self, pause: float) -> None:
            self.now += pause

    class Begun(Exception):
        pass

    def session(*_: object) -> None:
        raise Begun if clock.now >= seconds else RunInUse("in use")

    clock = Clock()
    monkeypatch.setattr(running_job, "time", clock)
    monkeypatch.setattr(running_job, "RunSession", session)
    job = running_job.RunningJob("a" * 32, 1, str(tmp_path), Alone())
    with pytest.raises(Begun if found == "begun" else RunInUse):
        job.run(str, range(3))
    job.close()


def test_a_supervisor_that_ends_does_not_wait_for_a_run_that_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a grace of ten seconds, and a run is waited for as long as two minutes."""

    def session(*_: object) -> None:
        job.drain()
        raise RunInUse("in use")

    monkeypatch.setattr(running_job, "RunSession", session)
    job = running_job.RunningJob("a" * 32, 1, str(tmp_path), Alone())
    with pytest.raises(JobDrained):
        job.run(str, range(3))
    job.close()


@pytest.mark.parametrize("journal", [5, None, "runs", {"resume": True}])
@pytest.mark.parametrize("way", ["module", "pool", "pipeline", "chat"])
def test_what_is_no_journal_is_named_before_anything_begins(way: str, journal: Any, tmp_path: Path) -> None:
    """A path is what one may well try."""
    out = str(tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match="must be True, False or a Journal"), ExitStack() as stack:
        if way == "module":
            allcores.run(abs, [1], out, journal=journal)
        elif way == "pool":
            stack.enter_context(allcores.Pool(1, backend="serial")).run(abs, [1], out, journal=journal)
        elif way == "pipeline":
            allcores.Pipeline().map(abs).write(out).run([1], journal=journal)
        else:
            from allcores import nlp

            nlp.chat_pipeline(["unicode"]).run([{"text": "a"}], out, journal=journal)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seconds", [math.inf, 1e300])
def test_a_commit_whose_time_never_comes(tmp_path: Path, seconds: float) -> None:
    """Its items alone bring it, and the end of the run."""
    journal = allcores.Journal(folder=tmp_path / "runs", commit_s=seconds, commit_items=4)
    with allcores.Pool(backend="serial") as pool:
        assert pool.run(abs, range(10), tmp_path / "out.jsonl", journal=journal).ok == 10
    assert (tmp_path / "out.jsonl").read_text() == "".join(f"{n}\n" for n in range(10))


def test_a_program_that_is_stopped_while_it_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes nothing for a moment, in which hours pass for the program: that is no disk that takes nothing."""
    waited, looks = threading.Event(), 0

    def hours_later() -> float:
        nonlocal looks
        looks += 1
        if looks > 1:
            waited.set()
        return 10_000.0 * looks

    def slow(at: str) -> None:
        if at == "commit.begin":
            assert waited.wait(PATIENCE_S)

    monkeypatch.setattr("allcores.runs.writer.monotonic", hours_later)
    monkeypatch.setattr("allcores.runs.writer.MOST_WAITING", 5)
    journal = allcores.Journal(folder=tmp_path / "runs", commit_s=3_600.0, commit_items=5)
    failpoints.install(slow)
    try:
        with allcores.Pool(backend="serial") as pool:
            result = pool.run(abs, range(50), tmp_path / "out.jsonl", journal=journal)
    finally:
        failpoints.install(None)
    assert result.ok == 50 and waited.is_set()
