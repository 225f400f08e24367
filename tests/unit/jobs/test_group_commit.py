"""What becomes of operations that are committed together when that fails."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert
from tests.process.waiting import PATIENCE_S

from allcores.jobs import actions, checkpoints, group_commit, schema
from allcores.jobs.errors import StoreBusy, StoreError
from allcores.jobs.group_commit import GroupCommit, Transaction
from allcores.jobs.location import locate
from allcores.jobs.model import Finished, JobFilter, State, Submission
from allcores.jobs.opening import opened
from allcores.jobs.store import JobStore


def test_a_store_that_goes_away_is_not_asked_for_each_of_them(tmp_path: Path) -> None:
    """Each would wait as long for it as the one before."""
    asked: list[int] = []

    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        asked.append(len(payloads))
        if len(payloads) > 1:
            raise ValueError("one of them is at fault")
        if payloads[0] > 0:
            raise StoreBusy("locked")
        return ["done"]

    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        first, *others = store._commits.run_all([(handle, number) for number in range(20)])
        assert first() == "done" and asked == [20, 1, 1]
        for each in others:
            with pytest.raises(StoreBusy):
                each()


def test_one_at_fault_fails_alone(tmp_path: Path) -> None:
    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        if 1 in payloads:
            raise ValueError("at fault")
        return [f"done {number}" for number in payloads]

    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        zero, one, two = store._commits.run_all([(handle, number) for number in range(3)])
        assert (zero(), two()) == ("done 0", "done 2")
        with pytest.raises(ValueError, match="at fault"):
            one()


class Waiting(deque[Any]):
    """What waits to be committed; `lose` meets the thread that takes the first of it, once."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Semaphore(0)
        self.lose: Callable[[], object] = super().popleft
        self._looks = 0

    def extend(self, operations: Any) -> None:
        super().extend(operations)
        self.came.release()

    def popleft(self) -> Any:
        lose, self.lose = self.lose, super().popleft
        return lose()

    def __len__(self) -> int:
        self._looks += 1
        # It ends the thread, which would look for ever.
        assert self._looks < 1_000, "an operation that nobody has is waited for"
        return super().__len__()


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
def commits(tmp_path: Path, waiting: Waiting) -> Iterator[GroupCommit]:
    database, _ = opened(locate(tmp_path / "jobs.sqlite"), allow_network=False, busy_s=10.0, synchronous="NORMAL")
    with closing(database):
        made = GroupCommit(database, lambda _: None)
        made._waiting = waiting
        yield made


def told_together(commits: GroupCommit, waiting: Waiting, call: Callable[[int], Any], lose: Any = None) -> list[Any]:
    """What three threads are told whose operations come while another one commits: answers and errors.

    Args:
        commits: What they are given to.
        waiting: Of it.
        call: What each thread calls, with its number.
        lose: As of `Waiting`, for what they gave.
    """
    held, go = threading.Event(), threading.Event()

    def hold(transaction: Transaction, payloads: Sequence[Any]) -> list[Any]:
        held.set()
        assert go.wait(PATIENCE_S)
        return ["held"]

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(commits.run, hold, None)
        try:
            assert held.wait(PATIENCE_S) and waiting.came.acquire(timeout=PATIENCE_S)
            others = []
            for number in range(3):
                others.append(threads.submit(call, number))
                assert waiting.came.acquire(timeout=PATIENCE_S)
            waiting.lose = lose or waiting.lose
        finally:
            go.set()
        assert first.result(PATIENCE_S) == "held"
        return [each.exception(PATIENCE_S) or each.result() for each in others]


def test_an_interrupt_is_raised_in_the_thread_that_it_met(commits: GroupCommit, waiting: Waiting) -> None:
    """The other threads may be a supervisor's, which it would end."""

    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        raise KeyboardInterrupt

    told = told_together(commits, waiting, lambda number: commits.run(handle, number))
    assert sorted(type(each).__name__ for each in told) == ["KeyboardInterrupt", "StoreError", "StoreError"]
    assert all("is not known" in str(each) for each in told if isinstance(each, StoreError))


def test_what_an_interrupt_has_undone_is_not_told_as_done(
    commits: GroupCommit, waiting: Waiting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of operations that are committed one by one, it meets one of another thread before its commit."""
    threads: dict[int, int] = {}
    at: list[int] = []

    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        if len(payloads) > 1:
            raise ValueError("one of them is at fault")
        at[:] = payloads
        values = {"kind": "test", "name": str(payloads[0]), "body": "1", "changed": transaction.change}
        transaction.connection.execute(insert(schema.records), values)
        return ["done"]

    def call(number: int) -> Any:
        threads[number] = threading.get_ident()
        return commits.run(handle, number)

    real = Transaction.finish

    def finish(transaction: Transaction) -> None:
        real(transaction)
        if at and threads[at[0]] != threading.get_ident():
            raise KeyboardInterrupt

    monkeypatch.setattr(Transaction, "finish", finish)
    told = told_together(commits, waiting, call)
    assert "StoreError" in [type(each).__name__ for each in told]
    with JobStore.open(tmp_path / "jobs.sqlite") as store:
        written = store.records("test")
    assert {str(number) for number, each in enumerate(told) if each == "done"} <= written.keys()


@pytest.mark.parametrize("popped", [False, True])
def test_what_an_interrupted_thread_had_taken_is_told(commits: GroupCommit, waiting: Waiting, popped: bool) -> None:
    """In no moment is an operation in nobody's hands: its thread would wait for it for ever."""
    threads: dict[int, int] = {}
    ran: list[int] = []

    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        ran.extend(payloads)
        return ["done"] * len(payloads)

    def call(number: int) -> Any:
        threads[number] = threading.get_ident()
        return commits.run(handle, number)

    def lose() -> Any:
        if threads[waiting[0].payload] == threading.get_ident():
            taken = waiting.popleft()
            waiting.lose = lose  # it is to be another thread's
            return taken
        if popped:
            waiting.popleft()
        raise KeyboardInterrupt

    told = told_together(commits, waiting, call, lose)
    assert sorted(type(each).__name__ for each in told) == ["KeyboardInterrupt", "StoreError", "str"]
    assert [number for number, each in enumerate(told) if each == "done"] == ran


def test_what_is_in_nobodys_hands_is_not_waited_for(commits: GroupCommit, waiting: Waiting) -> None:
    """An interrupt may also meet who says that an operation is done."""

    def lose() -> None:
        for _ in range(2):
            waiting.popleft()

    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        return ["done"] * len(payloads)

    told = told_together(commits, waiting, lambda number: commits.run(handle, number), lose)
    assert (told[0], type(told[1]), told[2]) == ("done", StoreError, "done")


def test_what_was_not_begun_at_an_interrupt_is_not_committed_later(
    commits: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MOST", 1)
    ran: list[int] = []

    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        ran.extend(payloads)
        if payloads == [0]:
            raise KeyboardInterrupt
        return ["done"]

    with pytest.raises(KeyboardInterrupt):
        commits.run_all([(handle, number) for number in range(3)])
    assert commits.run(handle, 3) == "done"
    assert ran == [0, 3]


def test_what_fails_after_a_commit_is_no_reason_for_another_one(
    commits: GroupCommit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after(change: int) -> None:
        raise ValueError("after the commit")

    ran: list[int] = []

    def handle(transaction: Transaction, payloads: Sequence[int]) -> list[Any]:
        ran.extend(payloads)
        return ["done"] * len(payloads)

    monkeypatch.setattr(commits, "_after_commit", after)
    with pytest.raises(ValueError, match="after the commit"):
        commits.run_all([(handle, number) for number in range(3)])
    assert ran == [0, 1, 2]


@pytest.mark.parametrize("error", [StoreBusy("locked"), OSError("no locks")])
def test_a_log_that_cannot_be_moved_fails_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    moves: list[int] = []

    def checkpoint(*_: Any) -> bool:
        moves.append(1)
        raise error

    monkeypatch.setattr(checkpoints, "size_of_log", lambda _: checkpoints.OF_OTHERS + 1)
    monkeypatch.setattr(checkpoints, "checkpoint", checkpoint)
    with JobStore.open(tmp_path / "jobs.sqlite", synchronous="NORMAL") as store:
        while not moves:
            store.submit("f", {})
        assert store.counts().total == store.last_change == 64


def test_what_is_done_in_portions_lets_others_have_their_turn(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite has no queue for its lock: who takes it again at once keeps other processes out until they give up."""
    moments, pauses = itertools.count(step=0.25), list[float]()
    clock = SimpleNamespace(monotonic=lambda: next(moments), time=time.time, sleep=pauses.append)
    monkeypatch.setattr(group_commit, "time", clock)
    expected = [group_commit.PAUSE_S] * 2 if store.is_on_this_machine else []

    def paused() -> list[float]:
        found = pauses[:]
        pauses.clear()
        return found

    submitted = store.submit_many([Submission("f", {})] * (2 * group_commit.MOST + 10))
    assert paused() == expected
    ids = [each.job.id for each in submitted[: 2 * actions.PORTION + 1]]
    assert store.cancel(ids, "ann").count == len(ids)
    assert paused() == expected
    assert store.retry(ids, "ann").count == len(ids)
    assert paused() == expected
    assert store.cancel(store.snapshot(JobFilter()), "ann").count == len(submitted)
    assert paused() == expected
    deleted = store.delete(ids, "ann")
    assert paused() == expected
    assert store.undelete(deleted.audit, "ann").count == len(ids)
    assert len(paused()) == len(expected) + int(store.is_on_this_machine)
    store.submit("f", {})
    assert paused() == []


def test_a_transaction_has_a_bound_of_bytes_too(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """512 large jobs would keep out all others for seconds; one that is larger than the bound is alone."""
    monkeypatch.setattr(group_commit, "MOST_BYTES", 1_000)
    sizes = [300, 300, 300, 300, 5_000, 300]
    jobs = store.submit_many([Submission("f", {"a": "x" * size}) for size in sizes])
    assert [each.job.changed - jobs[0].job.changed for each in jobs] == [0, 0, 0, 1, 2, 3]
    with store.become_supervisor():
        claims = store.claim(len(sizes), ["f"])
        before = store.last_change
        results = [Finished(State.SUCCEEDED, result="x" * size) for size in sizes]
        assert all(store.finish_many(list(zip(claims, results, strict=True))))
        assert store.last_change == before + 4


def test_what_is_handed_over_at_once_has_a_bound_of_bytes_too(
    opened: Callable[[], JobStore], parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that is too long would be refused; what the supervisor commits at once keeps its jobs waiting."""
    supervisor, client = opened(), opened()
    monkeypatch.setattr("allcores.jobs.store.HANDED_OVER_BYTES", 1_000)
    with supervisor.become_supervisor():
        made = client.submit_many([Submission("f", {"a": "x" * size}) for size in (300, 300, 300, 300, 5_000, 300)])
    assert parts == [3, 1, 1, 1] and len({each.job.id for each in made}) == 6
