"""Pool.reduce on real workers that crash and hang; what it sends."""

from __future__ import annotations

import functools
import operator
import pickle
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.contract import reduce_tasks as tasks

from allcores import Limits, NotPicklable, Pool, TaskTimeout, WorkerLost


class Traffic:
    """Counts entries that come from workers, and their bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entries = self.bytes = 0

        def counted(data: bytes) -> Any:
            self.entries += 1
            self.bytes += len(data)
            return pickle.loads(data)

        monkeypatch.setattr("allcores.pool.reducing.loads", counted)


@pytest.mark.quick
def test_workers_send_merged_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 tables of 20 KB in chunks of 50: 8 tables come, or a few more where a chunk takes long, and no item's own."""
    traffic = Traffic(monkeypatch)
    with Pool(2) as pool:
        whole = pool.reduce(tasks.table, range(400), operator.iadd, chunk=50)
    assert whole == Counter({key: sum(range(400)) for key in range(5000)})
    assert 8 <= traffic.entries <= 200
    assert traffic.bytes <= traffic.entries * 30_000


@pytest.mark.parametrize(
    ("kind", "batch"), [("fresh", None), ("parts", None), ("fresh", 4), ("filled again", 4), ("parts", 4)]
)
def test_large_arrays_are_not_pickled(kind: str, batch: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come by shared memory, as results do; also where items fail between them."""
    numpy = pytest.importorskip("numpy")
    traffic = Traffic(monkeypatch)
    fn, merge = tasks.ARRAYS[kind]
    with Pool(2) as pool:
        if batch is None:
            found = pool.reduce(fn, range(60), merge, chunk=6, on_error="skip")
        else:
            found = pool.reduce(tasks.Each(fn), range(60), merge, batch=batch, chunk=8, on_error="skip")
    wanted = functools.reduce(merge, [tasks.Each(fn)([number, number])[0] for number in range(60) if number % 20 != 13])
    assert numpy.array_equal(found[0] if kind == "parts" else found, wanted[0] if kind == "parts" else wanted)
    # Of runs that failures have ended in the middle, and of what may be filled again.
    assert traffic.entries <= (3 if batch is None else 60 if kind == "parts" else 0)


def test_nothing_is_lost_or_merged_twice_when_workers_are_killed(tmp_path: Path) -> None:
    jobs = [(str(tmp_path / "item"), number) for number in range(200)]
    with Pool(2) as pool:
        assert pool.reduce(tasks.one_unless_killed, jobs, tasks.extend, retries=1, chunk=25) == list(range(200))
        assert pool.statistics().retries == 5


def test_an_item_whose_worker_dies_fails_alone(tmp_path: Path) -> None:
    jobs = [(str(tmp_path / "item"), number) for number in range(100)]
    with Pool(2) as pool:
        found = pool.reduce(tasks.one_unless_killed, jobs, tasks.extend, on_error="skip", chunk=25)
        assert found == [number for number in range(100) if number % 40 != 13]
    jobs = [(str(tmp_path / "other"), number) for number in range(100)]
    with Pool(2) as pool, pytest.raises(WorkerLost, match=r"items\[13\]"):
        pool.reduce(tasks.one_unless_killed, jobs, tasks.extend, chunk=25)


@pytest.mark.parametrize("batch", [None, 1, 4, 1000, "auto"])
@pytest.mark.parametrize("how", ["refused", "exit"])
def test_a_value_that_cannot_be_sent_is_never_skipped(how: str, batch: Any) -> None:
    """One merged value stands for many items: as a failure of one of them, it would take the others along unsaid."""
    with Pool(2) as pool, pytest.raises(NotPicklable, match="the merged value"):
        if batch is None:
            pool.reduce(functools.partial(tasks.one_or_unsendable, how=how), range(60), tasks.concat, on_error="skip")
        else:
            ones = functools.partial(tasks.ones_or_unsendable, how=how)
            pool.reduce(ones, range(60), tasks.concat, batch=batch, on_error="skip")


def test_what_can_only_be_sent_alone_calls_no_function_again(tmp_path: Path) -> None:
    """Its values can be pickled, and merged ones cannot: the batch is not at fault, so it is not divided."""
    called = functools.partial(tasks.noted_ones, path=str(tmp_path / "called"))
    with Pool(1) as pool, pytest.raises(NotPicklable, match="the merged value"):
        pool.reduce(called, range(32), tasks.unsendable, batch=16, chunk=16)
    numbers = (tmp_path / "called").read_text().split()
    assert len(numbers) == len(set(numbers))


def test_a_merged_value_of_a_batch_that_cannot_be_read_is_never_skipped() -> None:
    ones = functools.partial(tasks.ones_or_unsendable, how="unread")
    with Pool(2) as pool, pytest.raises(LookupError, match="cannot be read"):
        pool.reduce(ones, range(60), tasks.concat, batch=8, on_error="skip")


def test_tracebacks_of_batches_begin_with_the_function() -> None:
    with Pool(1) as pool, pytest.raises(ValueError, match="no 7") as caught:
        pool.reduce(tasks.ones_unless_seven, range(10), tasks.concat, batch=4)
    assert "folding" not in str(caught.value.__cause__)
    assert "in ones_unless_seven" in str(caught.value.__cause__)


def test_deadlines_hold_for_items() -> None:
    with Pool(2) as pool:
        found = pool.reduce(tasks.one_or_hang, range(60), tasks.extend, timeout=2, on_error="skip", chunk=20)
        assert found == [number for number in range(60) if number != 30]
        with pytest.raises(TaskTimeout, match=r"items\[30\]"):
            pool.reduce(tasks.one_or_hang, range(60), tasks.extend, timeout=2)


def test_a_value_that_cannot_travel_ends_it() -> None:
    with Pool(2) as pool, pytest.raises(NotPicklable, match="the merged value"):
        pool.reduce(lambda _: threading.Lock(), [1, 2], tasks.keep_left)


def test_workers_are_replaced_in_the_midst_of_it() -> None:
    with Pool(2, limits=Limits(items_per_worker=30)) as pool:
        assert pool.reduce(tasks.one, range(500), tasks.extend, chunk=50) == list(range(500))
