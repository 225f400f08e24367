"""In-line operators mean what their namesakes in itertools mean, also if they are stopped and restored anywhere."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores import Pipeline, UsageError
from allcores.pipelines.operators import Operator, bytes_of
from allcores.pipelines.steps import InlineStep


def remainder(number: int) -> int:
    return number % 3


def add(state: int, number: int) -> int:
    return state + number


def weight(number: int) -> int:
    return number % 5


def batched(values: Iterable[Any], size: int) -> list[list[Any]]:
    iterator = iter(values)
    return list(iter(lambda: list(itertools.islice(iterator, size)), []))


def by_weight(values: Iterable[int], size: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for value in values:
        if batches and sum(map(weight, batches[-1])) + weight(value) <= size:
            batches[-1].append(value)
        else:
            batches.append([value])
    return batches


def limited(values: Iterable[int], limit: int) -> list[tuple[int, list[int]]]:
    groups = [(key, list(group)) for key, group in itertools.groupby(values, remainder)]
    return [(key, part) for key, group in groups for part in batched(group, limit)]


def windows(values: Iterable[int], n: int, step: int) -> list[tuple[int, ...]]:
    listed = list(values)
    return [tuple(listed[start : start + n]) for start in range(0, len(listed) - n + 1, step)]


def is_new(values: list[int], place: int) -> bool:
    return remainder(values[place]) not in map(remainder, values[:place])


Meaning = Callable[[list[int]], Iterable[Any]]

#: name -> a pipeline of one step, and what it means
OPERATORS: dict[str, tuple[Pipeline, Meaning]] = {
    "batch": (Pipeline().batch(3), lambda values: batched(values, 3)),
    "batch of one": (Pipeline().batch(1), lambda values: [[value] for value in values]),
    "batch by weight": (Pipeline().batch(6, by=weight), lambda values: by_weight(values, 6)),
    "group_by": (
        Pipeline().group_by(remainder),
        lambda values: [(key, list(group)) for key, group in itertools.groupby(values, remainder)],
    ),
    "group_by with a limit": (Pipeline().group_by(remainder, limit=2), lambda values: limited(values, 2)),
    "window": (Pipeline().window(3), lambda values: windows(values, 3, 1)),
    "window of one": (Pipeline().window(1), lambda values: [(value,) for value in values]),
    "window that overlaps": (Pipeline().window(3, step=2), lambda values: windows(values, 3, 2)),
    "window with gaps": (Pipeline().window(2, step=5), lambda values: windows(values, 2, 5)),
    "enumerate": (Pipeline().enumerate(5), lambda values: enumerate(values, 5)),
    "islice": (Pipeline().islice(4), lambda values: itertools.islice(values, 4)),
    "islice from": (Pipeline().islice(2, None), lambda values: itertools.islice(values, 2, None)),
    "islice in steps": (Pipeline().islice(1, 8, 3), lambda values: itertools.islice(values, 1, 8, 3)),
    "islice of none": (Pipeline().islice(0), lambda values: []),
    "islice without an end": (Pipeline().islice(None), lambda values: values),
    "scan": (Pipeline().scan(add, 10), lambda values: list(itertools.accumulate(values, add, initial=10))[1:]),
    "distinct": (Pipeline().distinct(), lambda values: dict.fromkeys(values)),
    "distinct by key": (
        Pipeline().distinct(remainder),
        lambda values: [value for place, value in enumerate(values) if is_new(values, place)],
    ),
}

NUMBERS = st.lists(st.integers(0, 12), max_size=30)


def operator_of(pipeline: Pipeline) -> Operator:
    (step,) = pipeline.steps
    assert isinstance(step, InlineStep)
    return step.make()


def fed(operator: Operator, values: list[int], *, at_once: bool) -> list[Any]:
    if at_once:
        return operator.feed_all(values)
    return [out for value in values if not operator.ended for out in operator.feed(value)]


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
@given(values=NUMBERS, at_once=st.booleans())
def test_an_operator_is_its_namesake(name: str, values: list[int], at_once: bool) -> None:
    pipeline, meaning = OPERATORS[name]
    operator = operator_of(pipeline)
    assert [*fed(operator, values, at_once=at_once), *operator.finish()] == list(meaning(values))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
@given(values=NUMBERS, cuts=st.lists(st.integers(0, 30), max_size=3), at_once=st.booleans())
def test_one_that_is_restored_goes_on_where_it_was(
    name: str, values: list[int], cuts: list[int], at_once: bool
) -> None:
    pipeline, meaning = OPERATORS[name]
    operator = operator_of(pipeline)
    operator.saved = True
    out: list[Any] = []
    states: list[bytes] = []
    begin = 0
    for cut in sorted(cuts):
        out += fed(operator, values[begin:cut], at_once=at_once)
        begin = max(begin, min(cut, len(values)))
        states.append(pickle.dumps(operator.state()))
        # What comes after the snapshot is lost with the program.
        fed(operator, values[begin:], at_once=at_once)
        operator = operator_of(pipeline)
        operator.saved = True
        kept = states if operator.grows else states[-1:]
        operator.restore([pickle.loads(state) for state in kept])
    out += fed(operator, values[begin:], at_once=at_once)
    assert [*out, *operator.finish()] == list(meaning(values))


def test_a_record_that_is_too_heavy_is_alone() -> None:
    operator = operator_of(Pipeline().batch(3, by=len))
    assert [*operator.feed_all(["ab", "c", "toolong", "d", "ef", "g"]), *operator.finish()] == [
        ["ab", "c"],
        ["toolong"],
        ["d", "ef"],
        ["g"],
    ]


@pytest.mark.parametrize("odd", [float("nan"), -1, "5", None])
def test_a_weight_that_is_none_fails_its_record(odd: Any) -> None:
    """All that follow would be one batch else."""
    pipeline = Pipeline().batch(2, by=lambda number: odd if number == 3 else 1)
    outcomes = list(pipeline.outcomes(range(6), backend="serial"))
    assert [outcome.value for outcome in outcomes if outcome.ok] == [[0, 1], [2, 4], [5]]
    (failed,) = (outcome for outcome in outcomes if not outcome.ok)
    assert failed.item == 3 and "a weight is a number, 0 or more" in str(failed.error)


def test_weights_in_bytes() -> None:
    assert [bytes_of(value) for value in ("ab", "ä", "\udc80", b"abc", bytearray(4), memoryview(b"12345"))] == [
        2, 2, 3, 3, 4, 5,
    ]  # fmt: skip
    numpy = pytest.importorskip("numpy")
    assert bytes_of(numpy.zeros(4)) == 32
    with pytest.raises(UsageError, match="here is an int: give a function"):
        bytes_of(3)


@pytest.mark.parametrize(
    ("pipeline", "read"),
    [
        (Pipeline().islice(3), 3),
        (Pipeline().islice(3).map(str), 3),
        (Pipeline().batch(4).islice(3), 12),
        (Pipeline().batch(4).islice(2).unbatch().islice(5), 8),
        (Pipeline().window(3).islice(2), 4),
        (Pipeline().enumerate().islice(1, 9, 2).map(str), 8),
        (Pipeline().islice(70, 75), 75),
        (Pipeline().islice(70).islice(100), 70),
    ],
)
def test_the_source_is_read_as_far_as_islice_wants(pipeline: Pipeline, read: int) -> None:
    """And whoever waits for what does not come yet waits for nothing that nobody wants."""
    numbers = iter(range(1_000))
    list(pipeline.imap(numbers, backend="serial"))
    assert next(numbers) == read


def score(row: dict[str, Any]) -> Any:
    return row["score"]


def in_a_tuple(row: dict[str, Any]) -> Any:
    return (1, (row["score"],))


@pytest.mark.parametrize("key", [score, in_a_tuple])
def test_nan_is_one_key(key: Callable[[Any], Any]) -> None:
    """Also where each record has one of its own, as behind workers, or in a run that goes on."""
    rows = [{"score": float(score)} for score in ("nan", "nan", "1", "1", "nan", "nan", "nan")]
    grouped = Pipeline().map(dict).group_by(key)
    assert [len(group) for _, group in grouped.imap(rows, backend="serial")] == [2, 2, 3]
    found = list(Pipeline().map(dict).distinct(key).imap(rows, backend="serial"))
    assert [str(row["score"]) for row in found] == ["nan", "1.0"]
    for pipeline, left in ((Pipeline().group_by(key), [rows[:2]]), (Pipeline().distinct(key), [])):
        operator = operator_of(pipeline)
        operator.saved = True
        operator.feed(rows[0])
        restored = operator_of(pipeline)
        restored.restore([pickle.loads(pickle.dumps(operator.state()))])
        out = [*restored.feed(rows[1]), *restored.finish()]
        assert [len(group) for _, group in out] == [len(group) for group in left]


def test_each_run_has_a_state_of_its_own() -> None:
    """A fold may change its state and return it."""

    def gather(state: list[int], number: int) -> list[int]:
        state.append(number)
        return state

    pipeline = Pipeline().scan(gather, []).map(len)
    for _ in range(2):
        assert list(pipeline.imap([5, 6], backend="serial")) == [1, 2]


def counted(state: tuple[dict[int, int], list[int]], number: int) -> tuple[dict[int, int], list[int]]:
    """A fold that changes what its state holds, which it puts into a new tuple."""
    counts, numbers = state
    counts[remainder(number)] = counts.get(remainder(number), 0) + 1
    numbers.append(number)
    return counts, numbers


@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_a_state_that_is_changed_comes_out_as_it_was(backend: str) -> None:
    """However many records are folded before one of their states is looked at, and whoever changes what came out."""
    pipeline = Pipeline().scan(counted, ({}, []))
    found = list(pipeline.imap(range(100), backend=backend))
    assert [sum(counts.values()) for counts, _ in found] == list(range(1, 101))
    assert [numbers for _, numbers in found] == [list(range(count)) for count in range(1, 101)]
    emptied = pipeline.map(lambda state: (state[1].pop(), state[0].clear()))
    assert list(emptied.imap(range(100), backend=backend)) == [(number, None) for number in range(100)]


@pytest.mark.parametrize("initial", [(), [], {}, (1, []), [[1]], {1: [1]}, {"a": 1}, (1, "a"), [None, 2.5]], ids=repr)
def test_a_copy_is_equal_and_none_of_it_can_be_changed_by_the_fold(initial: Any) -> None:
    (out,) = Pipeline().scan(lambda state, _: state, initial).imap([0], backend="serial")
    assert out == initial and type(out) is type(initial)
    operator = operator_of(Pipeline().scan(lambda state, _: state, initial))
    (first,), (second,) = operator.feed(0), operator.feed(1)
    assert first == second
    for one, other in zip(first, second, strict=True):
        part, same = (first[one], second[one]) if isinstance(first, dict) else (one, other)
        assert part is not same or not isinstance(part, list)
    assert first is not second or isinstance(first, tuple)


def test_a_state_that_cannot_be_copied_comes_out_itself() -> None:
    def opened(state: object, number: int) -> object:
        return (each for each in (number,))

    assert [next(state) for state in Pipeline().scan(opened, None).imap([5], backend="serial")] == [5]
