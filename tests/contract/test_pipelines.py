"""Pipelines do what itertools do, in order, whatever runs them and however they are cut into tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from tests.contract import pipeline_tasks as tasks
from tests.contract.backends.support import INTERPRETERS

from allcores import Pipeline

PLACES = ("processes", "threads", *INTERPRETERS, "serial")


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> Any:
    return request.param


def batched(values: Iterable[Any], size: int) -> list[list[Any]]:
    iterator = iter(values)
    return list(iter(lambda: list(itertools.islice(iterator, size)), []))


Chain = tuple[Callable[[Pipeline, bool], Pipeline], Callable[[Iterable[Any]], Iterable[Any]]]

CHAINS: dict[str, Chain] = {
    "nothing": (lambda p, _: p, lambda values: values),
    "map": (lambda p, _: p.map(tasks.increment), lambda values: map(tasks.increment, values)),
    "maps": (
        lambda p, fuse: p.map(tasks.increment).map(tasks.double, fuse=fuse).map(tasks.increment, fuse=fuse),
        lambda values: [(value + 1) * 2 + 1 for value in values],
    ),
    "filter": (
        lambda p, fuse: p.map(tasks.increment).filter(tasks.is_even, fuse=fuse),
        lambda values: [value + 1 for value in values if value % 2],
    ),
    "flat_map": (
        lambda p, fuse: p.filter(tasks.is_even).flat_map(tasks.repeated, fuse=fuse).map(tasks.as_text, fuse=fuse),
        lambda values: [repr(value) for value in values if value % 2 == 0 for _ in range(value % 3)],
    ),
    "none is left": (lambda p, fuse: p.flat_map(tasks.nobody).map(tasks.as_text, fuse=fuse), lambda values: []),
    "generators": (
        lambda p, fuse: p.flat_map(tasks.counted_down).flat_map(tasks.counted_down, fuse=fuse),
        lambda values: [deep for value in values for flat in range(value % 4) for deep in range(flat % 4)],
    ),
    "batch": (
        lambda p, _: p.batch(7).map(tasks.squares).unbatch(),
        lambda values: [value * value for value in values],
    ),
    "batches": (lambda p, _: p.map(tasks.increment).batch(7), lambda values: batched(map(tasks.increment, values), 7)),
    "unbatch in line": (lambda p, _: p.batch(3).islice(4).unbatch(), lambda values: itertools.islice(values, 12)),
}


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "apart"])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_pipeline_means_what_itertools_mean(place: Any, chain: str, fuse: bool) -> None:
    build, meaning = CHAINS[chain]
    pipeline = build(Pipeline(), fuse)
    for count in (0, 1, 100):
        assert list(pipeline.imap(range(count), backend=place, workers=2)) == list(meaning(range(count)))


def without_five(numbers: list[int]) -> list[int]:
    if 5 in numbers:
        raise ValueError("five")
    return numbers


def as_texts(numbers: list[int], error: BaseException) -> list[str]:
    return [str(number) for number in numbers]


def nobodys(number: int, error: BaseException) -> int:
    return -number


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "apart"])
def test_what_goes_on_in_the_place_of_a_record_goes_through_the_steps_behind(place: Any, fuse: bool) -> None:
    """Whatever is one task: a list is taken apart, and functions get it as what the one before has given."""
    batches = Pipeline().batch(3).map(without_five, on_error=as_texts).unbatch()
    assert list(batches.imap(range(9), backend=place, workers=2)) == [0, 1, 2, "3", "4", "5", 6, 7, 8]
    maps = Pipeline().map(tasks.fails_at_seven, on_error=nobodys).map(tasks.double, on_error=nobodys, fuse=fuse)
    assert list(maps.imap(range(6, 9), backend=place, workers=2)) == [12, -14, 16]


def pairs(number: int) -> list[int]:
    return [number, number + 1]


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "apart"])
def test_one_of_many_records_that_fails_costs_itself(place: Any, fuse: bool) -> None:
    """And not what else came of the same record, or of the same batch, whatever could be one task."""
    many = Pipeline().flat_map(pairs, on_error="skip").map(tasks.fails_at_seven, on_error="skip", fuse=fuse)
    assert list(many.imap([6, 8], backend=place, workers=2)) == [6, 8, 9]
    batches = Pipeline().batch(3).map(list, on_error="skip").unbatch()
    each = batches.map(tasks.fails_at_seven, on_error="skip", fuse=fuse)
    assert list(each.imap(range(5, 11), backend=place, workers=2)) == [5, 6, 8, 9, 10]


def test_explain_shows_what_is_one_task() -> None:
    fused = Pipeline().map(tasks.increment).filter(tasks.is_even).batch(2)
    assert fused.explain(workers=2).splitlines()[1:] == [
        "1      increment → is_even  2 processes, shared    .map(increment).filter(is_even)  [fused]",
        "2      batch                the program, in order  .batch(2)",
    ]
    apart = Pipeline().map(tasks.increment).filter(tasks.is_even, fuse=False)
    assert len(apart.plan().stages) == 2


def test_a_step_gives_a_new_pipeline() -> None:
    start = Pipeline().map(tasks.increment)
    longer = start.map(tasks.double)
    assert list(start.imap([1], backend="serial")) == [2]
    assert list(longer.imap([1], backend="serial")) == [4]
