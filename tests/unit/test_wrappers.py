"""Wrappers of functools that are defined where no other process finds them."""

from __future__ import annotations

import functools
import pickle
import threading
from typing import Any

import pytest

from allcores.errors import NotPicklable
from allcores.transport import pickling


def there_and_back(obj: Any) -> Any:
    return pickling.loads(pickling.cloud_dumps(obj))


class TestCached:
    def test_it_is_cached_again_and_begins_empty(self) -> None:
        calls: list[int] = []

        @functools.lru_cache(maxsize=5, typed=True)
        def double(number: int) -> int:
            """Twice."""
            calls.append(number)
            return 2 * number

        double(1)
        double.mark = 7  # type: ignore[attr-defined]
        made = there_and_back(double)
        assert made is not double
        assert [made(3), made(3), made(4)] == [6, 6, 8]
        info = made.cache_info()
        assert (info.hits, info.misses, info.maxsize) == (1, 2, 5)
        assert made.cache_parameters() == {"maxsize": 5, "typed": True}
        assert (made.__name__, made.__doc__, made.mark) == ("double", "Twice.", 7)
        assert double.cache_info().currsize == 1

    def test_one_that_calls_itself(self) -> None:
        @functools.cache
        def fibonacci(number: int) -> int:
            return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

        made = there_and_back(fibonacci)
        assert made(80) == 23416728348467685
        assert made.cache_info().misses == 81

    def test_inside_of_other_wrappers(self) -> None:
        @functools.cache
        def double(number: int) -> int:
            return 2 * number

        @functools.wraps(double)
        def more(number: int) -> int:
            return double(number) + 1

        assert there_and_back(functools.partial(double, 4))() == 8
        assert there_and_back(functools.cache(more))(4) == 9

    def test_one_that_a_module_has_travels_by_name(self) -> None:
        from allcores.system.cores import core_budget  # noqa: F401
        from allcores.transport.pickling import _cloud_pickler

        assert there_and_back(_cloud_pickler) is _cloud_pickler

    def test_one_that_says_it_calls_another_is_refused(self) -> None:
        """Rather than to call the wrong one."""

        @functools.cache
        def double(number: int) -> int:
            return 2 * number

        functools.update_wrapper(double, lambda number: number)
        with pytest.raises(pickle.PicklingError, match="not the function that it calls"):
            pickling.cloud_dumps(double)

    def test_what_does_not_travel_in_it_is_named(self) -> None:
        lock = threading.Lock()

        @functools.cache
        def locked(number: int) -> int:
            with lock:
                return number

        with pytest.raises(NotPicklable, match="lock"):
            pickling.dump_named(locked, "locked")


class Shape: ...


class Square(Shape): ...


class TestGeneric:
    def test_functions_of_all_types_travel(self) -> None:
        @functools.singledispatch
        def tell(value: Any) -> str:
            """What it is."""
            return "something"

        @tell.register
        def _(value: int) -> str:
            return f"number {value}"

        @tell.register(Shape)
        def _(value: Shape) -> str:
            return "shape"

        @tell.register(list)
        @tell.register(tuple)
        def _(value: Any) -> str:
            return " and ".join(map(tell, value))

        tell(3)
        made = there_and_back(tell)
        assert made([1, (Square(), "a")]) == "number 1 and shape and something"
        assert (made.__name__, made.__doc__) == ("tell", "What it is.")
        assert made.dispatch(Square) is made.registry[Shape]
        made.register(str, lambda value: "text")
        assert (made(["a"]), tell(["a"])) == ("text", "something")
        assert there_and_back(functools.partial(tell, 5))() == "number 5"

    def test_with_another_function_for_everything_else(self) -> None:
        @functools.singledispatch
        def tell(value: Any) -> str:
            return "something"

        tell.register(object, lambda value: "anything")
        made = there_and_back(tell)
        assert (made(1), made.__name__) == ("anything", "tell")


def test_classes_have_theirs() -> None:
    class Item:
        factor = 3

        def __init__(self, number: int) -> None:
            self.number = number

        @functools.cached_property
        def twice(self) -> int:
            return 2 * self.number

        @functools.cache  # noqa: B019
        def plus(self, number: int) -> int:
            return self.number + number

        @staticmethod
        @functools.cache
        def after(number: int) -> int:
            return number + 1

        @classmethod
        @functools.cache
        def times(cls, number: int) -> int:
            return cls.factor * number

        @functools.singledispatchmethod
        def tell(self, value: Any) -> str:
            return f"{self.number} and something"

        @tell.register
        def _(self, value: int) -> str:
            return f"{self.number} and {value}"

    item = Item(5)
    assert item.tell(1) == "5 and 1"
    made = there_and_back(item)
    assert (made.twice, made.plus(4), made.after(1), made.times(2)) == (10, 9, 2, 6)
    assert (made.tell(7), made.tell("x")) == ("5 and 7", "5 and something")
    assert there_and_back(item.tell)(7) == "5 and 7"
    assert there_and_back(item.plus)(7) == 12
    assert there_and_back(Item.times)(7) == 21
    assert there_and_back(Item.after)(7) == 8
    assert item.twice == 10
