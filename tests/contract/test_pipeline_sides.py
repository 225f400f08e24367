"""Marks and sides: what a run with a journal builds on."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract import pipeline_tasks as tasks
from tests.contract.backends.support import INTERPRETERS
from tests.unit.test_pipeline_chains import STEPS, built, meant

from allcores import Kind, Limits, Pipeline
from allcores.pipelines.execution import Execution
from allcores.pipelines.marks import Barrier, Failed, Sided

PLACES = ("processes", "threads", *INTERPRETERS, "serial")


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> Any:
    return request.param


def with_barriers(count: int, states: dict[int, dict[int, Any]] | None = None) -> Iterator[Any]:
    """The numbers, each with its barrier; at some of them states are asked for."""
    for number in range(count):
        yield number
        yield Barrier(number, None if states is None else states.get(number))


def elements(pipeline: Pipeline, source: Iterator[Any], place: Any = "serial", **options: Any) -> list[Any]:
    with Execution(pipeline.plan(workers=2, backend=place), source, barriers=True, **options) as execution:
        return list(execution)


def between_barriers(found: list[Any]) -> list[list[Any]]:
    """What came before each barrier; and what came behind the last one, if anything did."""
    parts: list[list[Any]] = [[]]
    for element in found:
        if isinstance(element, Barrier):
            assert element.index == len(parts) - 1
            parts.append([])
        else:
            parts[-1].append(element)
    return parts if parts[-1] else parts[:-1]


def test_what_comes_of_a_record_comes_before_its_barrier(place: Any) -> None:
    pipeline = Pipeline().map(tasks.increment).flat_map(tasks.repeated, fuse=False).map(tasks.double, fuse=False)
    assert between_barriers(elements(pipeline, with_barriers(40), place)) == [
        [2 * (number + 1)] * ((number + 1) % 3) for number in range(40)
    ]


def test_what_operators_hold_comes_behind_the_last_barrier(place: Any) -> None:
    found = between_barriers(elements(Pipeline().batch(3).map(sum).enumerate(), with_barriers(7), place))
    assert found == [[], [], [(0, 3)], [], [], [(1, 12)], [], [(2, 6)]]


def test_failures_stand_at_their_places(place: Any) -> None:
    pipeline = Pipeline().map(tasks.increment).map(tasks.fails_at_seven, fuse=False).map(tasks.double, fuse=False)
    parts = between_barriers(elements(pipeline, with_barriers(10), place))
    (failed,) = parts.pop(6)
    assert parts == [[2 * (number + 1)] for number in range(10) if number != 6]
    assert isinstance(failed, Failed)
    assert (failed.stage, failed.name, failed.index, failed.kind) == (2, "fails_at_seven", 6, Kind.FAILED)
    assert (failed.item, failed.policy, failed.attempts) == (7, "raise", 1)
    assert isinstance(failed.error, ValueError)


def sided(tmp: Path) -> Pipeline:
    """A line with two sides, of which one has a side itself."""
    inner = Pipeline().map(tasks.double).write(tmp / "inner.jsonl")
    outer = Pipeline().filter(tasks.is_even).tee(inner).map(tasks.as_text).write(tmp / "outer.jsonl")
    batches = Pipeline().batch(4).map(sum).write(tmp / "batches.jsonl")
    return Pipeline().map(tasks.increment).tee(outer, batches).map(tasks.double)


def rows(found: list[Any], side: int) -> list[Any]:
    if not side:
        return [element for element in found if not isinstance(element, Sided)]
    return [json.loads(element.row) for element in found if isinstance(element, Sided) and element.side == side]


def test_a_record_that_a_function_changes_is_changed_for_no_other(place: Any, tmp_path: Path) -> None:
    """Wherever it runs: also in the program, where records are not pickled, sides and windows have their own."""
    side = Pipeline().map(tasks.changed, fuse=False).write(tmp_path / "side.jsonl")
    line = Pipeline().map(tasks.as_record).tee(side).map(tasks.changed, fuse=False)
    found = elements(line, iter(range(30)), place)
    assert rows(found, 0) == rows(found, 1) == [{"seen": [number, 1]} for number in range(30)]
    windows = Pipeline().map(tasks.as_record).window(2).map(tasks.all_changed)
    assert elements(windows, iter(range(9)), place) == [
        [{"seen": [number, 1]}, {"seen": [number + 1, 1]}] for number in range(8)
    ]


def test_sides_get_each_record(place: Any, tmp_path: Path) -> None:
    parts = between_barriers(elements(sided(tmp_path), with_barriers(50), place))
    for number, part in enumerate(parts[:50]):
        value = number + 1
        even = value % 2 == 0
        assert rows(part, 0) == [value * 2]
        assert rows(part, 1) == [repr(value)] * even
        assert rows(part, 2) == [value * 2] * even
        assert rows(part, 3) == ([4 * value - 6] if value % 4 == 0 else [])
    assert [repr(element) for element in parts[50]] == ["Sided(3, '99')"]


@pytest.mark.slow
@given(
    count=st.integers(0, 30),
    cuts=st.lists(st.integers(0, 29), max_size=3, unique=True),
    workers=st.integers(1, 3),
)
def test_states_are_of_the_very_record_that_their_barrier_follows(count: int, cuts: list[int], workers: int) -> None:
    """A pipeline that is ended behind any barrier and begun again with its states gives what one run gives."""
    pipeline = (
        Pipeline()
        .map(tasks.increment)
        .scan(tasks.add, 0)
        .map(tasks.remainder)
        .distinct()
        .enumerate()
        .map(sum, fuse=False)
        .batch(2)
    )
    plan = pipeline.plan(backend="threads", workers=workers)
    whole = list(pipeline.imap(range(count), backend="serial"))
    grows = {stage.number for stage in plan.stages if stage.name == "distinct"}
    kept: dict[int, list[bytes]] = {}
    out: list[Any] = []
    begin = 0
    for cut in [*sorted(cut for cut in cuts if cut < count), None]:
        noted: dict[int, Any] = {}
        source = (each for each in with_barriers(count, None if cut is None else {cut: noted}))
        rest = (each for each in source if (each.index if isinstance(each, Barrier) else each) >= begin)
        states = kept or None
        with Execution(plan, rest, barriers=True, states=states) as execution:
            for element in execution:
                if not isinstance(element, Barrier):
                    out.append(element)
                elif element.index == cut:
                    break
        if cut is not None:
            begin = cut + 1
            for number, state in noted.items():
                kept[number] = [*kept.get(number, []), state] if number in grows else [state]
    assert out == whole


SHORT = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.booleans()), max_size=3)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    before=SHORT,
    sides=st.lists(SHORT, min_size=1, max_size=2),
    after=SHORT,
    count=st.sampled_from([0, 1, 6, 200]),
    credit=st.sampled_from([1, 2, 30, 10_000]),
    workers=st.integers(1, 3),
)
def test_any_sides_mean_what_tee_means(
    before: list[tuple[str, bool]],
    sides: list[list[tuple[str, bool]]],
    after: list[tuple[str, bool]],
    count: int,
    credit: int,
    workers: int,
) -> None:
    """However little may be under way, nothing waits for ever: also where a side wants nothing any more."""
    pipeline = built(before).tee(*[built(side).write("side.jsonl") for side in sides])
    for name, fuse in after:
        pipeline = STEPS[name][0](pipeline, fuse)
    plan = pipeline.plan(backend="threads", workers=workers)
    limits = Limits(items_in_flight=credit)
    with Execution(plan, with_barriers(count), barriers=True, limits=limits) as execution:
        found = list(execution)
    common = meant(before, range(count))
    assert [each for each in found if not isinstance(each, (Sided, Barrier))] == meant(after, common)
    for number, side in enumerate(sides, 1):
        assert rows(found, number) == meant(side, common)
    indexes = [each.index for each in found if isinstance(each, Barrier)]
    assert indexes == list(range(len(indexes)))


def test_a_side_that_wants_nothing_any_more_holds_up_nobody(place: Any) -> None:
    side = Pipeline().map(tasks.increment).islice(3).write("side.jsonl")
    pipeline = Pipeline().tee(side).map(tasks.double)
    limits = Limits(items_in_flight=20)
    parts = between_barriers(elements(pipeline, with_barriers(2_000), place, limits=limits))
    assert [rows(part, 0) for part in parts] == [[2 * number] for number in range(2_000)]
    assert [row for part in parts for row in rows(part, 1)] == [1, 2, 3]


def test_states_are_bytes_of_that_moment() -> None:
    states: dict[int, dict[int, Any]] = {3: {}}
    elements(Pipeline().map(tasks.increment).batch(3), with_barriers(9, states))
    assert {number: pickle.loads(state) for number, state in states[3].items()} == {2: ([4], 0)}


def test_a_slow_side_holds_the_others_back(tmp_path: Path) -> None:
    """Nobody runs ahead by more than what the stages may hold: the source was read so far only."""
    read = 0

    def source() -> Iterator[Any]:
        nonlocal read
        for element in with_barriers(1_500):
            read += not isinstance(element, Barrier)
            yield element

    limits = Limits(items_in_flight=60, depth=1)
    side = Pipeline().map(tasks.double, chunk=1).write(tmp_path / "side.jsonl")
    pipeline = Pipeline().tee(side).map(tasks.increment)
    plan = pipeline.plan(backend="threads", workers=2)
    with Execution(plan, source(), barriers=True, limits=limits) as execution:
        given = 0
        most = 0
        for element in execution:
            if isinstance(element, Barrier):
                given += 1
                most = max(most, read - given)
    assert given == read == 1_500
    assert most < 400


def test_one_that_outlives_its_module_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the interpreter ends, it takes the names of modules away."""
    execution = Execution(Pipeline().enumerate().plan(backend="serial"), iter([1]))
    for name in ("sys", "hide"):
        monkeypatch.setattr(f"allcores.pipelines.execution.{name}", None)
    execution.__del__()
