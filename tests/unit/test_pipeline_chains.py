"""Any chain of steps equals its meaning in itertools, whatever is one task; how several steps become one function."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract import pipeline_tasks as tasks

from allcores import Pipeline
from allcores.pipelines.fused import Fused, FusedStep, source_text

Add = Callable[[Pipeline, bool], Pipeline]
Meaning = Callable[[Iterable[Any]], Iterable[Any]]


def batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(values)
    return iter(lambda: list(itertools.islice(iterator, size)), [])


def windows(values: Iterable[Any], n: int) -> list[tuple[Any, ...]]:
    listed = list(values)
    return [tuple(listed[start : start + n]) for start in range(len(listed) - n + 1)]


#: steps from whole numbers to whole numbers, and their meaning
STEPS: dict[str, tuple[Add, Meaning]] = {
    "map": (lambda p, fuse: p.map(tasks.increment, fuse=fuse), lambda values: map(tasks.increment, values)),
    "filter": (lambda p, fuse: p.filter(tasks.is_even, fuse=fuse), lambda values: filter(tasks.is_even, values)),
    "flat_map": (
        lambda p, fuse: p.flat_map(tasks.repeated, fuse=fuse),
        lambda values: itertools.chain.from_iterable(map(tasks.repeated, values)),
    ),
    "generator": (
        lambda p, fuse: p.flat_map(tasks.counted_down, fuse=fuse),
        lambda values: itertools.chain.from_iterable(map(tasks.counted_down, values)),
    ),
    "batch": (
        lambda p, fuse: p.batch(3).map(tasks.squares, fuse=fuse).unbatch(),
        lambda values: [value * value for batch in batched(values, 3) for value in batch],
    ),
    "batch in line": (lambda p, _: p.batch(2).unbatch(), lambda values: values),
    "group_by": (
        lambda p, fuse: p.group_by(tasks.remainder).map(tasks.size_of_group, fuse=fuse),
        lambda values: [len(list(group)) for _, group in itertools.groupby(values, tasks.remainder)],
    ),
    "window": (lambda p, fuse: p.window(2).map(sum, fuse=fuse), lambda values: map(sum, windows(values, 2))),
    "islice": (lambda p, _: p.islice(1, 9, 2), lambda values: itertools.islice(values, 1, 9, 2)),
    "enumerate": (lambda p, fuse: p.enumerate().map(sum, fuse=fuse), lambda values: map(sum, enumerate(values))),
    "scan": (
        lambda p, _: p.scan(tasks.add, 0),
        lambda values: itertools.accumulate(values, tasks.add),
    ),
    "distinct": (lambda p, _: p.distinct(), lambda values: dict.fromkeys(values)),
}
CHAINS = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.booleans()), max_size=6)


def built(chain: list[tuple[str, bool]]) -> Pipeline:
    pipeline = Pipeline()
    for name, fuse in chain:
        pipeline = STEPS[name][0](pipeline, fuse)
    return pipeline


def meant(chain: list[tuple[str, bool]], values: Iterable[Any]) -> list[Any]:
    for name, _ in chain:
        values = list(STEPS[name][1](values))
    return list(values)


@pytest.mark.slow
@given(chain=CHAINS, values=st.lists(st.integers(0, 20), max_size=20))
def test_any_chain_means_what_itertools_mean(chain: list[tuple[str, bool]], values: list[int]) -> None:
    assert list(built(chain).imap(values, backend="serial")) == meant(chain, values)


@pytest.mark.slow
@given(chain=CHAINS, count=st.integers(0, 300), workers=st.integers(1, 3), chunk=st.sampled_from([None, 1, 7]))
def test_it_does_not_depend_on_workers_and_chunks(
    chain: list[tuple[str, bool]], count: int, workers: int, chunk: int | None
) -> None:
    pipeline = built(chain).map(tasks.increment, fuse=False, chunk=chunk)
    found = list(pipeline.imap(range(count), backend="threads", workers=workers))
    assert found == [value + 1 for value in meant(chain, range(count))]


@pytest.mark.slow
@settings(max_examples=15)
@given(chain=CHAINS, count=st.integers(0, 200), workers=st.integers(1, 3))
def test_nor_on_processes(chain: list[tuple[str, bool]], count: int, workers: int) -> None:
    assert list(built(chain).imap(range(count), workers=workers)) == meant(chain, range(count))


@pytest.mark.slow
@given(chain=CHAINS, values=st.lists(st.integers(0, 20), max_size=20))
def test_outcomes_are_the_same_values(chain: list[tuple[str, bool]], values: list[int]) -> None:
    outcomes = list(built(chain).outcomes(values, backend="serial"))
    assert [outcome.result() for outcome in outcomes] == meant(chain, values)
    assert [outcome.index for outcome in outcomes] == list(range(len(outcomes)))


# --- several steps as one function -------------------------------------------------------------------------------


def step(kind: str, function: Callable[..., Any] | None, loaded: int | None = None) -> FusedStep:
    return FusedStep(kind, function, f"{kind}({getattr(function, '__name__', '')})", loaded)


def test_maps_alone_are_calls_alone() -> None:
    text, places = source_text([step("map", tasks.increment)] * 3, with_loaded=False)
    assert text == (
        "def fused(value):\n"
        "    try:\n"
        "        value = f0(value)\n"
        "        value = f1(value)\n"
        "        return f2(value)\n"
        "    except BaseException as error:\n"
        "        name_step(error)\n"
        "        raise\n"
    )
    assert places == {3: 0, 4: 1, 5: 2}


def test_others_are_loops_one_inside_of_the_other() -> None:
    steps = [step("flat_map", tasks.repeated), step("filter", tasks.is_even), step("map", tasks.increment, 1)]
    text, places = source_text(steps, with_loaded=True)
    assert text == (
        "def fused(loaded, value):\n"
        "    try:\n"
        "        out = []\n"
        "        for value in as_pulled(f0(value)):\n"
        "            if f1(value):\n"
        "                out.append((f2(value) if loaded[1] is None else f2(loaded[1], value)))\n"
        "        return out\n"
        "    except BaseException as error:\n"
        "        name_step(error)\n"
        "        raise\n"
    )
    assert places == {4: 0, 5: 1, 6: 2}


def test_it_arrives_as_the_compiled_function() -> None:
    fused = Fused([step("map", tasks.increment), step("map", tasks.double)], name="both", with_loaded=False)
    arrived = pickle.loads(pickle.dumps(fused))
    assert not isinstance(arrived, Fused)
    assert arrived(1) == fused(1) == 4


@pytest.mark.parametrize(
    ("steps", "record", "at_fault"),
    [
        ([step("map", tasks.increment), step("map", tasks.fails_at_seven)], 6, "map(fails_at_seven)"),
        ([step("map", tasks.fails_at_seven), step("map", tasks.increment)], 7, "map(fails_at_seven)"),
        ([step("flat_map", tasks.fails_in_the_generator), step("map", abs)], 7, "flat_map(fails_in_the_generator)"),
        ([step("map", tasks.increment), step("flat_map", tasks.fails_in_the_generator)], 6, "in_the_generator)"),
        ([step("map", tasks.increment), step("unbatch", None)], 6, "unbatch()"),
        ([step("filter", tasks.fails_at_seven), step("map", tasks.increment)], 7, "filter(fails_at_seven)"),
    ],
)
def test_the_step_that_raised_is_named(steps: list[FusedStep], record: int, at_fault: str) -> None:
    with pytest.raises((ValueError, TypeError)) as found:
        Fused(steps, name="all", with_loaded=False)(record)
    (note,) = found.value.__notes__
    assert note.startswith("allcores: raised by ") and note.endswith(at_fault)
