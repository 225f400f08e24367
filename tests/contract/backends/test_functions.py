"""What may be a function, on every backend."""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from tests.contract import tasks
from tests.contract.backends.support import MAIN, START_METHOD_WARNINGS, each_start_method

from allcores import Pool

pytestmark = START_METHOD_WARNINGS


class Row(list[int]):
    """With an attribute of its own."""

    factor = 1


def by_name(item: int, *, to: list[int]) -> list[int]:
    return to


#: kinds of state that need numpy
OF_NUMPY = ("an object in an array", "a large array", "a mask", "a data frame")


def kinds_of_state() -> dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], object]]]:
    """What a function may refer to: it, what the function reads of it, and a change of it in place."""
    ordered, row, dice, data = OrderedDict(a=1, b=2), Row([1]), random.Random(1), bytearray(200_000)
    called: Any = functools.partial(by_name, to=[1])
    kinds: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], object]]] = {
        "an order": (ordered, list, lambda value: value.move_to_end("a")),
        "an attribute of a list": (row, lambda value: value.factor, lambda value: setattr(value, "factor", 7)),
        "random numbers": (dice, lambda value: value.getstate(), lambda value: value.random()),
        "a large buffer": (data, lambda value: value[150_000], lambda value: value.__setitem__(150_000, 1)),
        "a partial": (called, lambda value: value(1), lambda value: value.keywords["to"].append(2)),
    }
    with contextlib.suppress(ImportError):
        import numpy as np

        held, large, shaped = np.empty(2, dtype=object), np.zeros(25_000), np.zeros((2, 3)).view(np.ma.MaskedArray)
        held[0] = [1]
        kinds |= {
            "an object in an array": (held, lambda value: value[0], lambda value: value[0].append(2)),
            "a large array": (large, lambda value: value[20_000], lambda value: value.__setitem__(20_000, 1)),
            "a mask": (shaped, lambda value: value.count(), lambda value: value.__setitem__(0, np.ma.masked)),
        }
    with contextlib.suppress(ImportError):
        import pandas as pd

        frame = pd.DataFrame({"a": [1, 2]})
        kinds["a data frame"] = (frame, lambda value: value.to_dict(), lambda value: value.__setitem__("a", [3, 4]))
    return kinds


KINDS = kinds_of_state()


@each_start_method
class TestFunctions:
    def test_a_lambda(self, pool: Pool) -> None:
        assert pool.map(lambda number: number + 1, [1, 2]) == [2, 3]

    def test_a_closure(self, pool: Pool) -> None:
        offset = 10

        def shift(number: int) -> int:
            return number + offset

        assert pool.map(shift, [1, 2]) == [11, 12]

    def test_a_closure_that_calls_itself(self, pool: Pool) -> None:
        def factorial(number: int) -> int:
            return 1 if number < 2 else number * factorial(number - 1)

        assert pool.map(factorial, [5, 6]) == [120, 720]

    @pytest.mark.parametrize(
        "fn",
        [
            tasks.Scale(2).times,
            tasks.Scale(2),
            tasks.Scale.doubled,
            functools.partial(tasks.add, 3),
            functools.partial(lambda first, number: first * number, 2),
        ],
        ids=["method", "callable object", "static method", "partial", "partial of a lambda"],
    )
    def test_a_callable_of_whatever_sort(self, pool: Pool, fn: Callable[[int], int]) -> None:
        assert pool.map(fn, [3, 4]) == [fn(3), fn(4)]

    def test_a_class_method_a_class_and_a_builtin(self, pool: Pool) -> None:
        assert pool.map(tasks.Scale.tripled, [3]) == [9]
        assert pool.map(tasks.Scale, [3]) == [tasks.Scale(3)]
        assert pool.map(math.sqrt, [9.0]) == [3.0]

    def test_functions_of_main(self, pool: Pool) -> None:
        assert pool.map(MAIN["shifted"], [1, 2]) == [6, 7]

    def test_classes_of_main_come_back_as_themselves(self, pool: Pool) -> None:
        points = pool.map(MAIN["make"], [1, 2])
        assert all(type(point) is MAIN["Point"] for point in points)
        assert pool.map(MAIN["Point"].moved, points) == [MAIN["Point"](6), MAIN["Point"](7)]
        assert pool.submit(MAIN["Point"](1).moved).result() == MAIN["Point"](6)

    def test_exceptions_of_main_come_back_as_themselves(self, pool: Pool) -> None:
        with pytest.raises(MAIN["Refusal"]):
            pool.map(MAIN["refuse"], [1])

    def test_many_functions_in_turn(self, pool: Pool) -> None:
        # More than are kept: old ones are dropped, and sent again when they are used again.
        functions: list[Callable[[int], int]] = [functools.partial(tasks.add, number) for number in range(300)]
        for _ in range(2):
            futures = [pool.submit(function, 1) for function in functions]
            assert [future.result() for future in futures] == [number + 1 for number in range(300)]

    def test_a_changed_function_object_is_not_mistaken_for_another(self, pool: Pool) -> None:
        for number in range(50):
            assert pool.map(lambda item, number=number: item + number, [1]) == [number + 1]  # type: ignore[misc]

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_was_changed_in_place_is_found_changed(self, pool: Pool, kind: str, place: str) -> None:
        """Also where that cannot be looked at: no map and no call has what stood there before."""
        if place == "interpreters" and kind in OF_NUMPY:
            pytest.skip("numpy refuses interpreters beside the main one")
        value, read, change = kinds_of_state()[kind]

        def function(item: int) -> Any:
            return read(value)

        for _ in range(3):
            expected = function(1)
            assert pool.map(function, [1]) == [expected]
            assert pool.submit(function, 1).result() == expected
            change(value)
