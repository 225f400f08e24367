"""Tasks of joblib as they travel."""

from __future__ import annotations

from typing import Any

import pytest

from allcores.adapters.joblib_tasks import packable


def calls(count: int) -> list[Any]:
    return [(divmod, (number, 7), {}) for number in range(count)]


def test_calls_of_one_function_are_columns_of_arguments() -> None:
    assert packable(calls(5)) == (divmod, [[0, 1, 2, 3, 4], [7] * 5])


@pytest.mark.parametrize(
    "other", [(abs, (3, 7), {}), (divmod, (3,), {}), (divmod, (3, 7, 8), {}), (divmod, (3, 7), {"key": 1})]
)
def test_calls_that_are_not_alike_travel_as_they_are(other: Any) -> None:
    for place in (0, 3, 5):
        tasks = calls(5)
        tasks.insert(place, other)
        assert packable(tasks) == (None, tasks)


def test_few_calls_and_those_without_arguments_travel_as_they_are() -> None:
    without: list[Any] = [(list, (), {})] * 9
    for tasks in (calls(4), without):
        assert packable(tasks) == (None, tasks)


@pytest.mark.parametrize("other", [(len, ("3",), {}), (abs, (), {}), (abs, (3, 7), {}), (abs, (3,), {"key": 1})])
def test_calls_of_one_function_with_one_argument_are_a_column(other: Any) -> None:
    tasks: list[Any] = [(abs, (number,), {}) for number in range(5)]
    assert packable(tasks) == (abs, [[0, 1, 2, 3, 4]])
    for place in (0, 3, 5):
        mixed = [*tasks[:place], other, *tasks[place:]]
        assert packable(mixed) == (None, mixed)
