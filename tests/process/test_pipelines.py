"""Pipelines keep what pools promise, in each stage: one record fails alone, in bounded memory, and nothing is left."""

from __future__ import annotations

import gc
import itertools
import os
import re
import threading
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract import pipeline_tasks as tasks
from tests.process import scripts
from tests.process.waiting import PATIENCE_S, Bell, Gate, lines, wait_until

from allcores import Kind, Limits, NotPicklable, NotSupported, Pipeline, Retry, SetupError, TaskTimeout, WorkerLost
from allcores.events import PoolOpened
from allcores.system.bell import Bell as BellOfReaders

KINDS = {"raise": Kind.FAILED, "crash": Kind.WORKER_LOST, "hang": Kind.TIMED_OUT, "unpicklable": Kind.FAILED}


def three_stages(how: str, place: int, **options: Any) -> Pipeline:
    """Three stages of two steps, of which one fails for a record."""
    pipeline = Pipeline()
    for number in range(3):
        function = partial(tasks.wrong_at_seven, how if number == place else "")
        timeout = 0.5 if how == "hang" else None
        pipeline = pipeline.map(function, name=f"step{number}", fuse=False, timeout=timeout, **options)
        pipeline = pipeline.map(abs, timeout=timeout, **options)
    return pipeline


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("place", range(3))
def test_a_record_fails_alone_and_says_where(how: str, place: int) -> None:
    outcomes = list(three_stages(how, place).outcomes(range(20), workers=2))
    assert [outcome.value for outcome in outcomes if outcome.ok] == [number for number in range(20) if number != 7]
    (failed,) = (outcome for outcome in outcomes if not outcome.ok)
    assert outcomes.index(failed) == 7
    assert (failed.kind, failed.index, failed.item) == (KINDS[how], 7, 7)
    assert failed.error is not None
    notes = failed.error.__notes__
    assert f"allcores: in stage {place + 1} of the pipeline (step{place} → abs), record 7" in notes
    if how == "raise":
        assert f"allcores: raised by map(step{place})" in notes


@pytest.mark.slow
@settings(max_examples=12)
@given(
    stages=st.lists(
        st.tuples(
            st.sampled_from(["raise", "crash"]),
            st.frozensets(st.integers(0, 119), max_size=2),
            st.fixed_dictionaries(
                {"fuse": st.booleans()}, optional={"workers": st.integers(1, 2), "chunk": st.sampled_from([1, 7])}
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    credit=st.sampled_from([4, 50, 10_000]),
    workers=st.integers(1, 2),
)
def test_whatever_fails_wherever_costs_itself_alone(
    stages: list[tuple[str, frozenset[int], dict[str, Any]]], credit: int, workers: int
) -> None:
    pipeline = Pipeline()
    expected: dict[int, Kind] = {}
    for how, some, options in stages:
        pipeline = pipeline.map(partial(tasks.wrong_for_some, how, some), **options)
        for number in some:
            expected.setdefault(number, KINDS[how])
    outcomes = list(pipeline.outcomes(range(120), workers=workers, limits=Limits(items_in_flight=credit)))
    assert [outcome.value if outcome.ok else outcome.item for outcome in outcomes] == list(range(120))
    assert {outcome.item: outcome.kind for outcome in outcomes if not outcome.ok} == expected


@pytest.mark.parametrize("place", range(3))
def test_a_failure_is_raised_behind_the_records_before_it(place: int) -> None:
    found = []
    with pytest.raises(ValueError, match="seven"):
        for record in three_stages("raise", place).imap(range(1000), workers=2):
            found.append(record)
    assert found == list(range(7))


@pytest.mark.parametrize(("how", "error"), [("crash", WorkerLost), ("hang", TaskTimeout)])
def test_so_is_a_crash_or_a_time_out(how: str, error: type[BaseException]) -> None:
    found = []
    with pytest.raises(error) as raised:
        for record in three_stages(how, 1).imap(range(20), workers=2):
            found.append(record)
    assert found == list(range(7))
    assert "allcores: in stage 2 of the pipeline (step1 → abs), record 7" in raised.value.__notes__


@pytest.mark.parametrize("how", KINDS)
def test_failed_records_may_be_left_out(how: str) -> None:
    pipeline = three_stages(how, 1, on_error="skip")
    assert list(pipeline.imap(range(20), workers=2)) == [number for number in range(20) if number != 7]
    assert all(outcome.ok for outcome in pipeline.outcomes(range(20), workers=2))


@pytest.mark.parametrize("how", KINDS)
def test_a_function_may_give_another_record(how: str) -> None:
    timeout = 0.5 if how == "hang" else None
    wrong = partial(tasks.wrong_at_seven, how)
    pipeline = Pipeline().map(wrong, on_error=tasks.instead, timeout=timeout).map(tasks.as_text)
    found = list(pipeline.imap(range(6, 9), workers=2))
    assert found[0::2] == ["6", "8"]
    assert found[1].startswith("(7, '")


def test_one_that_raises_itself_ends_the_pipeline() -> None:
    pipeline = Pipeline().map(tasks.fails_at_seven, on_error=tasks.instead_raises)
    stream = pipeline.imap(range(20), workers=2)
    assert list(itertools.islice(stream, 7)) == list(range(7))
    with pytest.raises(LookupError, match="no other record"):
        next(stream)


@pytest.mark.parametrize("how", ["raise", "crash", "hang"])
def test_a_record_is_tried_again(how: str, tmp_path: Path) -> None:
    timeout = 1.0 if how == "hang" else None
    flaky = partial(tasks.fails_once, how, str(tmp_path))
    pipeline = Pipeline().map(tasks.increment).map(flaky, retries=1, timeout=timeout).map(tasks.increment)
    assert list(pipeline.imap(range(20), workers=2)) == [number + 2 for number in range(20)]


def test_what_operators_raise_stands_behind_the_records_before_it() -> None:
    found = []
    with pytest.raises(ValueError, match="seven") as raised:
        for record in Pipeline().map(tasks.increment).group_by(tasks.fails_at_seven).map(tasks.as_text).imap(range(20)):
            found.append(record)
    assert found == [f"({number}, [{number}])" for number in range(1, 6)]
    assert "allcores: in stage 2 of the pipeline (group_by), record 6" in raised.value.__notes__


def test_what_the_source_raises_stands_behind_the_records_before_it() -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise OSError("the source is gone")

    for pipeline in (
        Pipeline().map(tasks.increment).map(tasks.increment, fuse=False),
        Pipeline().enumerate().map(sum),
        Pipeline().batch(1).unbatch(),
    ):
        stream = pipeline.imap(source(), workers=2)
        assert len(list(itertools.islice(stream, 5))) == 5
        with pytest.raises(OSError, match="the source is gone"):
            next(stream)


def test_an_incomplete_batch_does_not_come_out_when_the_source_raises() -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise OSError("the source is gone")

    found = []
    with pytest.raises(OSError):
        for record in Pipeline().map(tasks.increment).batch(3).imap(source(), workers=2):
            found.append(record)
    assert found == [[1, 2, 3]]


def test_what_cannot_travel_is_named_by_step() -> None:
    lock = threading.Lock()
    pipeline = Pipeline().map(tasks.increment).map(lambda number: (lock, number), name="locked")
    with pytest.raises(NotPicklable, match=r"increment → locked cannot be pickled: .*steps\[1\].*lock is a"):
        list(pipeline.imap([1], workers=1))


def test_nor_may_a_record_be_anything_between_processes() -> None:
    locks = Pipeline().map(tasks.make_lock, on="threads")
    with pytest.raises(NotPicklable, match=r"is a _thread\.lock") as found:
        list(locks.map(tasks.as_text).imap([1], workers=1))
    assert "allcores: in stage 2 of the pipeline (as_text), record 0" in found.value.__notes__
    assert "lock" in str(list(locks.map(tasks.as_text, on="threads").imap([1])))


# --- workers -------------------------------------------------------------------------------------------------------


def test_stages_share_workers_or_have_their_own() -> None:
    pipeline = (
        Pipeline()
        .map(tasks.with_pid)
        .map(tasks.with_pid, fuse=False)
        .map(tasks.with_pid, workers=1)
        .map(tasks.with_thread, on="threads", workers=1)
    )
    found = list(pipeline.imap(range(200), workers=2))
    first, second, third, fourth = set(), set(), set(), set()
    for (((number, one), two), three), four, thread in found:
        del number
        first.add(one)
        second.add(two)
        third.add(three)
        fourth.add((four, thread))
    assert len(first | second) <= 2
    assert len(third) == 1 and not third & (first | second)
    assert {pid for pid, _ in fourth} == {os.getpid()} and len(fourth) == 1


def test_pools_have_names_by_their_stages() -> None:
    opened: list[Any] = []

    def watch(event: Any) -> None:
        if isinstance(event, PoolOpened):
            opened.append((event.name, event.workers))

    pipeline = Pipeline().map(tasks.increment).map(tasks.double, workers=1).map(tasks.as_text, on="threads", workers=1)
    assert list(pipeline.imap([1], workers=2, name="chat", observers=[watch])) == ["4"]
    assert sorted(opened) == [("chat", 2), ("chat: as_text", 1), ("chat: double", 1)]


def test_what_is_preloaded_is_loaded_once(tmp_path: Path) -> None:
    path = str(tmp_path / "loads")
    load = partial(tasks.noted_load, path)
    other = partial(tasks.noted_load_of_two, path)
    pipeline = (
        Pipeline()
        .map(tasks.moved, preload=load)
        .map(tasks.moved, preload=load, fuse=False)
        .map(tasks.increment)
        .map(tasks.increment, preload=tasks.load_nothing, fuse=False)
        .map(tasks.moved, preload=other, fuse=False)
        .map(tasks.looked_up, preload=tasks.load_table, preload_args=[5000], on="threads")
    )
    assert list(pipeline.imap(range(50), workers=2)) == [(number + 4002) * 10 for number in range(50)]
    assert len(lines(path)) == 2
    assert len(set(lines(path))) == 1


@pytest.mark.parametrize("place", ["processes", "threads", "serial"])
def test_one_that_cannot_be_loaded_is_said(place: Any) -> None:
    with pytest.raises(SetupError, match="no model here"):
        list(Pipeline().map(tasks.increment).map(tasks.moved, preload=tasks.broken_load).imap([1], backend=place))


def test_workers_are_where_the_work_is(tmp_path: Path) -> None:
    """All workers are in the first stage, then, once that is done, all in the second one."""
    with (
        Bell(tmp_path / "bell1") as first,
        Gate(tmp_path / "gate1") as gate,
        Bell(tmp_path / "bell2") as second,
        Gate(tmp_path / "gate2") as last,
    ):
        pipeline = (
            Pipeline()
            .map(partial(tasks.rings_and_waits, first.path, gate.path), chunk=1)
            .map(partial(tasks.rings_and_waits, second.path, last.path), fuse=False, chunk=1)
        )
        found: list[int] = []
        stream = pipeline.imap(range(4), workers=2, limits=Limits(depth=1))
        reader = threading.Thread(target=lambda: found.extend(stream))
        reader.start()
        workers = set(first.pids(2))
        assert len(workers) == 2
        gate.open()
        assert set(second.pids(2)) == workers
        last.open()
        reader.join(PATIENCE_S)
    assert found == [0, 1, 2, 3]


@pytest.mark.parametrize("start_method", ["template", "spawn", "fork"])
@pytest.mark.filterwarnings("ignore:start_method=:RuntimeWarning")
def test_processes_may_be_started_in_any_way(start_method: str) -> None:
    """Steps that have no name elsewhere travel, too."""
    pipeline = (
        Pipeline()
        .map(lambda number: number + 1)
        .filter(tasks.is_even)
        .map(tasks.moved, preload=tasks.load_offset, fuse=False)
        .batch(2)
        .map(lambda pair: sum(pair))
    )
    found = list(pipeline.imap(range(8), workers=2, start_method=start_method))
    assert found == [2006, 2014]


@pytest.mark.parametrize("on", ["threads", "serial"])
@pytest.mark.parametrize("backend", ["processes", "threads"])
def test_each_pool_gets_the_options_that_are_for_it(on: Any, backend: Any) -> None:
    """They are said once for all, and stages run in several kinds of places."""
    pipeline = Pipeline().map(tasks.with_pid, on="processes", workers=1).map(tasks.with_pid, on=on, workers=1)
    limits = Limits(items_per_worker=10, memory_per_worker=1 << 40, memory_reserve=1)
    found = list(pipeline.imap(range(50), limits=limits, start_method="spawn", backend=backend))
    assert [number for (number, _), _ in found] == list(range(50))
    assert len({pid for (_, pid), _ in found}) >= 5
    assert {pid for _, pid in found} == {os.getpid()}


@pytest.mark.parametrize("backend", ["threads", "serial"])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"start_method": "spawn"}, "start_method='spawn' is for backend='processes'"),
        ({"limits": Limits(items_per_worker=10)}, "needs backend='processes'"),
        ({"address": "tcp://127.0.0.1:9"}, "is for clusters"),
    ],
)
def test_an_option_that_is_for_none_of_its_pools_is_refused(backend: Any, option: dict[str, Any], said: str) -> None:
    pipeline = Pipeline().map(tasks.with_pid).map(tasks.with_pid, on="threads")
    with pytest.raises(NotSupported, match=said):
        list(pipeline.imap(range(5), backend=backend, **option))


def test_a_stage_may_run_in_the_program_itself() -> None:
    pipeline = Pipeline().map(tasks.with_pid).map(tasks.with_pid, on="serial").map(tasks.with_pid, on="threads")
    for ((number, first), second), third in pipeline.imap(range(50), workers=1):
        assert first != second == third == os.getpid(), number


# --- order of things ------------------------------------------------------------------------------------------------


def test_results_of_a_late_stage_do_not_wait_for_an_early_one(tmp_path: Path) -> None:
    """Record 1 is held up in the first stage: record 0 goes through all others meanwhile."""
    with Gate(tmp_path / "gate") as gate:
        pipeline = (
            Pipeline()
            .map(partial(tasks.waits_for_one, gate.path), workers=1, chunk=1)
            .map(tasks.increment, workers=1)
            .map(tasks.increment, on="threads")
        )
        with pipeline.imap(range(3)) as stream:
            assert next(stream) == 2
            gate.open()
            assert list(stream) == [3, 4]


def test_nor_for_an_attempt_that_is_due_later_in_the_program_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first stage runs in the program, which has something else to do until then."""
    waits, wait = threading.Event(), BellOfReaders.wait

    def noted_wait(self: BellOfReaders, seconds: float) -> None:
        waits.set()
        wait(self, seconds)

    def late(number: int) -> int:
        assert waits.wait(PATIENCE_S)
        return number

    monkeypatch.setattr(BellOfReaders, "wait", noted_wait)
    again = Retry(times=1, wait_s=3600.0, wait_max_s=3600.0)
    pipeline = Pipeline().map(tasks.fails_at_seven, on="serial", retries=again).map(late, on="threads")
    with pipeline.imap([6, 7]) as stream:
        assert next(stream) == 6


def test_nor_for_one_of_the_same_workers(tmp_path: Path) -> None:
    with Gate(tmp_path / "gate") as gate:
        pipeline = Pipeline().map(partial(tasks.waits_for_one, gate.path), chunk=1).map(tasks.increment, fuse=False)
        with pipeline.imap(range(3), workers=2, limits=Limits(depth=1)) as stream:
            assert next(stream) == 1
            gate.open()
            assert list(stream) == [2, 3]


def test_an_endless_source_is_pulled_only_as_far_as_islice_wants() -> None:
    pulled = 0

    def source() -> Iterator[int]:
        nonlocal pulled
        for number in itertools.count():
            pulled += 1
            yield number

    pipeline = Pipeline().map(tasks.increment).filter(tasks.is_even, fuse=False).islice(5).map(tasks.increment)
    found = list(pipeline.imap(source(), workers=2, limits=Limits(items_in_flight=30)))
    assert found == [3, 5, 7, 9, 11]
    assert pulled < 200


# --- credit ---------------------------------------------------------------------------------------------------------


class Counted:
    """A source that knows how far it was read."""

    def __init__(self, count: int | None = None) -> None:
        self.read = 0
        self._numbers = itertools.count() if count is None else range(count)

    def __iter__(self) -> Iterator[int]:
        for number in self._numbers:
            self.read += 1
            yield number


CREDITED = {
    "one stage": Pipeline().map(tasks.increment),
    "three stages": Pipeline().map(tasks.increment).map(tasks.increment, fuse=False).map(tasks.increment, fuse=False),
    "batches": Pipeline().map(tasks.increment).batch(8).map(tasks.squares).unbatch().map(tasks.increment, fuse=False),
    "groups": Pipeline().group_by(tasks.quotient).map(tasks.size_of_group),
    "own workers": Pipeline().map(tasks.increment, workers=1).map(tasks.increment, on="threads", workers=1),
    "in line": Pipeline().enumerate().distinct(),
}


@pytest.mark.parametrize("name", CREDITED)
def test_the_source_is_read_no_further_than_credit_allows(name: str) -> None:
    """Whoever takes one record after the other keeps the source that far ahead, and no further."""
    source = Counted()
    with CREDITED[name].imap(source, workers=2, limits=Limits(items_in_flight=90)) as stream:
        most = 0
        for given, _ in zip(range(1, 1500), stream, strict=False):
            most = max(most, source.read - given * (3 if name == "groups" else 1))
    assert most <= 400


SIZED = {
    "records": Pipeline().map(tasks.same).map(tasks.same, fuse=False),
    "results": Pipeline().map(len).map(bytes, fuse=False).map(tasks.same, fuse=False),
    "in line": Pipeline().enumerate().map(tasks.same),
}


@pytest.mark.parametrize("name", SIZED)
def test_nor_further_than_credit_in_bytes_allows(name: str) -> None:
    """Records of 200 kB, of which 4 MB may be under way."""
    source = Counted()
    records = (bytes(200_000) for _ in source)
    with SIZED[name].imap(records, workers=2, limits=Limits(bytes_in_flight=4_000_000)) as stream:
        most = 0
        for given, _ in zip(range(1, 200), stream, strict=False):
            most = max(most, source.read - given)
    assert most <= 40


def test_memory_does_not_grow_with_the_input() -> None:
    """Ten times the records take no more memory."""
    pipeline = Pipeline().map(tasks.increment).map(tasks.increment, fuse=False).batch(10).map(sum).window(2)

    def peak(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        try:
            assert sum(1 for _ in pipeline.imap(iter(range(count)), workers=2, limits=Limits(items_in_flight=1000)))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1_000)
    short = peak(3_000)
    # A dozen bytes that are kept of each record would be too much.
    assert peak(30_000) < 1.5 * short + 200_000


# --- the end --------------------------------------------------------------------------------------------------------


def test_a_loop_may_be_left() -> None:
    source = Counted()
    for record in CREDITED["three stages"].imap(source, workers=2):
        if record > 100:
            break
    read = source.read
    gc.collect()
    assert source.read == read


def test_one_that_was_never_read_leaves_nothing() -> None:
    stream = CREDITED["own workers"].imap(Counted(), workers=2)
    del stream
    outcomes = CREDITED["own workers"].outcomes(Counted(), workers=2)
    del outcomes


@pytest.mark.parametrize("begins_in_line", [False, True])
def test_stop_lets_what_runs_come_to_its_end(tmp_path: Path, begins_in_line: bool) -> None:
    """No more is pulled or begun; what is incomplete does not come out."""
    source = Counted()
    with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate:
        start = Pipeline().distinct() if begins_in_line else Pipeline()
        pipeline = start.map(partial(tasks.rings_and_waits, bell.path, gate.path), chunk=1).batch(100)
        stream = pipeline.imap(source, workers=2, limits=Limits(depth=1))
        found: list[Any] = []
        reader = threading.Thread(target=lambda: found.extend(stream))
        reader.start()
        bell.hear(2)
        stream.stop()
        gate.open()
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
    assert found == []
    read = source.read
    assert read < 100
    assert stream.statistics()[1 if begins_in_line else 0].given == 2


LOST = """
import allcores

seen = []

def one(number):
    return number

def two(number):
    seen.append(number)
    return number

if __name__ == "__main__":
    print(sum(allcores.Pipeline().map(one).map(two).imap(range(3))))
"""


def test_a_step_that_changes_globals_in_vain_is_found_also_among_others(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(LOST)
    environ = scripts.environment(PYTHONWARNINGS="default")
    with scripts.running([str(script)], folder=tmp_path, environ=environ) as process:
        ended = scripts.finish(process)
    assert ended.lines == ["3"]
    assert "LostChangeWarning: one → two has changed 'seen' in a worker process" in ended.err


def test_progress_shows_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a stream that is dropped half read: then nothing more is shown (and no thread is left)."""
    monkeypatch.setattr("allcores.pipelines.stage_view.LINE_S", 0.01)
    path = tmp_path / "shown"
    with path.open("w") as shown, Gate(tmp_path / "gate") as gate:
        monkeypatch.setattr("sys.stderr", shown)
        stream = (
            Pipeline().map(partial(tasks.waits_for_one, gate.path), name="held", chunk=1).imap(range(4), progress=True)
        )
        assert next(stream) == 0
        wait_until(lambda: re.search(r"held \d → 1;", path.read_text("utf-8", "replace")) is not None)
        del stream


def test_statistics_of_stages() -> None:
    pipeline = Pipeline().map(tasks.increment).filter(tasks.is_even, fuse=False).batch(3).map(sum, on="threads")
    stream = pipeline.imap(range(100), workers=2)
    assert len(list(stream)) == 17
    stages = stream.statistics()
    assert [(each.stage, each.name, each.taken, each.given, each.failed, each.queued) for each in stages] == [
        (1, "increment", 100, 100, 0, 0),
        (2, "is_even", 100, 50, 0, 0),
        (3, "batch", 50, 17, 0, 0),
        (4, "sum", 17, 17, 0, 0),
    ]
    assert sum(each.share for each in stages) == pytest.approx(1)
    assert all(each.seconds > 0 for each in stages)
    assert all(each.most_queued > 0 and each.idle > 0 for each in stages if each.name != "batch")
