"""What is kept of ended jobs, of the audit and of files: bounded, however much comes; what is of others stays."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from allcores.errors import UsageError
from allcores.jobs import checkpoints, duties, retention
from allcores.jobs.database import Database
from allcores.jobs.duties import KEEP_MORE_S, KEEP_S, KeepingDuty
from allcores.jobs.errors import ResultNotKept
from allcores.jobs.group_commit import GroupCommit
from allcores.jobs.model import Finished, State, Submission
from allcores.jobs.results import IN_ROW, ResultFolder, kept, media_type_of
from allcores.jobs.retention import Retention, Swept
from allcores.jobs.store import JobStore


class FakeStore:
    """Says how often it was asked to remove, and whether all was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.complete = True
        self.sweeps = 0

    def maintain(self, retention: Retention, *, seconds: float) -> Swept:
        self.sweeps += 1
        return Swept(complete=self.complete)

    def tend_log(self) -> bool:
        return False

    def remove_orphans(self) -> int:
        return 0


def test_what_is_left_is_removed_soon_and_not_a_minute_later(tmp_path: Path) -> None:
    store, now = FakeStore(tmp_path), 1_000.0
    duty = KeepingDuty(cast(JobStore, store), Retention(), lambda: now)
    seen = []
    for complete, after in ((False, 0.0), (False, KEEP_MORE_S), (True, KEEP_MORE_S), (True, KEEP_S - 1), (True, 1.0)):
        store.complete, now = complete, now + after
        duty.look(0.0, stopping=False)
        seen.append(store.sweeps)
    assert seen == [1, 2, 3, 3, 4]
    duty.look(0.0, stopping=True)
    assert store.sweeps == 4


def test_ends_come_as_fast_as_they_go_and_the_store_stays_at_its_bound(store: JobStore) -> None:
    removed: list[int] = []
    with store.become_supervisor():
        for _ in range(3):
            store.submit_many([Submission("f", {})] * 400)
            store.finish_many([(claim, Finished(State.SUCCEEDED)) for claim in store.claim(400, ["f"])])
            complete = False
            while not complete:  # on a slow host a sweep is cut short
                swept = store.maintain(Retention(rows=100), seconds=60.0)
                removed += [swept.jobs] if swept.jobs else []
                complete = swept.complete
            assert store.counts().total == 100
    assert sum(removed) == 1_100
    # What was removed is in the audit, once for each time and not for each portion; the latest first.
    assert [(row.action, row.count) for row in store.audit()] == [("retention", count) for count in reversed(removed)]


def test_portions_stay_worth_a_commit_on_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a commit alone takes longer than a portion should, smaller portions would only make more commits."""
    clock = [0.0]
    asked: list[int] = []

    class SlowCommits:
        left = 400

        def run(self, work: object, payload: object) -> object:
            clock[0] += 0.1
            if work is retention.purge:
                assert isinstance(payload, tuple)
                asked.append(payload[1])
                gone = min(self.left, payload[1])
                self.left -= gone
                return [f"{number:032x}" for number in range(gone)], self.left > 0
            return ([], False) if work is retention.purge_deleted else False

    stopped = SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda seconds: None)
    monkeypatch.setattr(retention, "time", stopped)
    swept = retention.sweep(cast(GroupCommit, SlowCommits()), tmp_path, Retention(rows=0), 60.0, 0.0)
    assert swept.jobs == 400 and swept.complete
    assert min(asked) >= 50 and len(asked) == 8


def test_the_audit_has_a_bound_and_its_numbers_go_on(store: JobStore) -> None:
    for number in range(30):
        store.write_audit("me", "thing", number)
    with store.become_supervisor():
        store.maintain(Retention(audit=10))
        assert [row.count for row in store.audit()] == list(range(29, 19, -1))
        store.maintain(Retention(audit=0))
        assert [row.count for row in store.audit()] == [29]
        assert store.write_audit("me", "more") == 31
        store.maintain(Retention(audit=None))
    assert [row.action for row in store.audit()] == ["more", "thing"]


def test_what_is_kept_in_words() -> None:
    assert Retention().in_words() == "ended jobs: 30 days, 1,000,000, 10 GB; audit: 100,000 rows"
    assert Retention(None, None, None, None).in_words() == "ended jobs: all; audit: all"
    endless: Any = math.inf
    assert Retention(endless, endless, endless, endless) == Retention(None, None, None, None)
    refused: list[Any] = ["many", math.nan, -1, True]
    for bad in refused:
        with pytest.raises(UsageError, match="audit is a number from 0 on"):
            Retention(audit=bad)


def test_results_that_no_job_has_are_removed_and_nothing_else(store: JobStore, tmp_path: Path) -> None:
    """A supervisor died between the files and the row; what is young, a job's, a link or of another name stays.

    What an attempt without success has left goes with them.
    """
    results = store.folder / "results"
    job = store.submit("f", {}).job
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.txt").write_text("x")
    orphan, young, link = "0" * 32, "1" * 32, "2" * 32
    for name in (orphan, young, job.id, "a folder of yours"):
        (results / name).mkdir(mode=0o700)
        (results / name / "out.txt").write_text("x")
        (results / name / ".new").mkdir()
        (results / name / ".new" / "half.txt").write_text("x")
    (results / link).symlink_to(elsewhere)
    long_ago = time.time() - 3_600
    for name in (orphan, job.id, "a folder of yours", link):
        os.utime(results / name, (long_ago, long_ago), follow_symlinks=False)
    with store.become_supervisor():
        assert store.remove_orphans() == 1
    assert {each.name for each in results.iterdir()} == {young, link, job.id, "a folder of yours"}
    assert (elsewhere / "kept.txt").exists()


class Reads:
    """Counts how often a store is read from, in place of `Database.reading`."""

    def __init__(self) -> None:
        self.count = 0
        kept = Database.reading

        def reading(database: Database) -> Any:
            self.count += 1
            return kept(database)

        self.reading = reading


def test_files_of_jobs_that_stay_hide_none_that_are_to_go(
    store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many jobs keep theirs, each file and each folder is looked at in its turn."""
    monkeypatch.setattr(duties, "UPLOADS_AT_ONCE", 2)
    monkeypatch.setattr(duties, "FOLDERS_AT_ONCE", 2)
    work, handed_in = store.folder / "work", store.folder / "uploads"
    long_ago = time.time() - 3 * 86_400
    ids = [store.submit("f", {}).job.id for _ in range(5)]
    for name in [*ids, "f" * 32]:
        (work / name).mkdir(parents=True, mode=0o700)
        os.utime(work / name, (long_ago, long_ago))
    handed_in.mkdir(mode=0o700)
    kept = [f"{number:032x}" for number in range(5)]
    store.submit("f", {"files": [{"upload": name} for name in kept]})
    for name in [*kept, "e" * 32]:
        (handed_in / name).write_text("x")
        os.utime(handed_in / name, (long_ago, long_ago))
    now = 0.0
    duty = KeepingDuty(store, Retention(), lambda: now)
    with store.become_supervisor():
        for _ in range(3):
            now += KEEP_S
            duty.look(time.time(), stopping=False)
    assert {each.name for each in handed_in.iterdir()} == set(kept)
    assert {each.name for each in work.iterdir()} == set(ids)


def test_whose_files_are_handed_in_is_seen_by_one_pass_over_the_jobs(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many files there are: each pass of a million jobs is a moment in which the supervisor does nothing."""
    now = 0.0
    reads = Reads()
    folder = store.folder / "uploads"
    folder.mkdir(mode=0o700)
    duty = KeepingDuty(store, Retention(), lambda: now)

    def looked(names: list[str]) -> int:
        """Reads of a look, with these files."""
        nonlocal now
        for name in names:
            (folder / name).write_text("x")
            os.utime(folder / name, (1.0, 1.0))
        now, reads.count = now + KEEP_S, 0
        duty.look(time.time(), stopping=False)
        return reads.count

    uploads = [f"{number:032x}" for number in range(60)]
    parts = {"name": "a", "size": 1, "media_type": "text/plain"}
    store.submit_many([Submission("f", {"files": [{"upload": each, **parts}]}) for each in uploads[:50]])
    monkeypatch.setattr(Database, "reading", reads.reading)
    with store.become_supervisor():
        looked([])
        one = looked(uploads[:1])
        assert looked([*uploads, f"{uploads[0]}.new"]) == one
    assert sorted(each.name for each in folder.iterdir()) == sorted([*uploads[:50], f"{uploads[0]}.new"])


def test_whose_folders_are_there_is_asked_for_all_of_them_at_once(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may be a network away, and the supervisor begins no job meanwhile."""
    now = 0.0
    reads = Reads()

    def looked(names: list[str]) -> int:
        """Reads of a look, with folders of these jobs."""
        nonlocal now
        for name in names:
            (store.folder / "work" / name).mkdir(parents=True, mode=0o700)
            os.utime(store.folder / "work" / name, (1.0, 1.0))
        now, reads.count = now + KEEP_S, 0
        duty.look(time.time(), stopping=False)
        return reads.count

    duty = KeepingDuty(store, Retention(), lambda: now)
    ids = [each.job.id for each in store.submit_many([Submission("f", {})] * 40)]
    store.delete(ids[20:], "ann")
    monkeypatch.setattr(Database, "reading", reads.reading)
    with store.become_supervisor():
        looked([])
        assert looked(ids[:1]) == looked([*ids[1:], "f" * 32])
    assert {each.name for each in (store.folder / "work").iterdir()} == set(ids)


def test_what_a_deleted_job_needs_stays_until_it_cannot_be_brought_back(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duties, "SWEEP_S", 60.0)  # a look sees to all of it, however slow the store is
    upload, now = "a" * 32, 0.0
    job = store.submit("f", {"file": {"upload": upload}}).job
    work, handed_in = store.folder / "work" / job.id, store.folder / "uploads" / upload
    for folder in (work, handed_in.parent):
        folder.mkdir(parents=True, mode=0o700)
    handed_in.write_text("x")
    long_ago = time.time() - 3 * 86_400
    for path in (work, handed_in):
        os.utime(path, (long_ago, long_ago))
    duty = KeepingDuty(store, Retention(), lambda: now)
    with store.become_supervisor():
        store.cancel([job.id], "me")
        deleted = store.delete([job.id], "me")
        duty.look(time.time(), stopping=False)
        assert work.exists() and handed_in.exists()
        assert store.undelete(deleted.audit, "me").count == 1
        store.delete([job.id], "me")
        monkeypatch.setattr(retention, "UNDO_S", -60.0)
        now += KEEP_S
        duty.look(time.time(), stopping=False)
    assert not work.exists() and not handed_in.exists()


def test_the_log_is_moved_once_much_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "OF_SUPERVISOR", 4_096)
    with JobStore.open(tmp_path / "jobs.sqlite", synchronous="NORMAL") as store, store.become_supervisor():
        store.submit("f", {})
        store.tend_log()
        assert store.tend_log() is False
        for _ in range(checkpoints.COMMITS):
            store.submit("f", {})
        assert store.tend_log() is True
        assert store.tend_log() is False


def test_files_have_types_that_browsers_know() -> None:
    names = {"a.jsonl": "application/x-ndjson", "b.CSV": "text/csv", "c.unknown-end": "application/octet-stream"}
    assert {name: media_type_of(name) for name in names} == names


def test_a_result_without_room_leaves_no_half_of_it(tmp_path: Path) -> None:
    """It would take what room there is left."""
    resource = pytest.importorskip("resource")
    files = ResultFolder(tmp_path, "a" * 32)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, limits[1]))
    try:
        with pytest.raises(ResultNotKept, match="Make room"):
            kept("x" * (IN_ROW + 1), files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == []
