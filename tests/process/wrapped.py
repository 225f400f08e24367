"""A script whose functions are wrapped by functools: `python -m tests.process.wrapped METHOD` prints what they give."""

from __future__ import annotations

import functools
import sys
import warnings
from typing import Any

import allcores

BASE = 10


@functools.lru_cache
def cached(number: int) -> int:
    return number + BASE


@functools.cache
def fibonacci(number: int) -> int:
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)


@functools.singledispatch
def tell(value: Any) -> str:
    return "something"


@tell.register
def _(value: int) -> str:
    return f"{cached(value)}"


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def inner(number: int) -> int:
        return 2 * int(function(number))

    return inner


@decorated
@functools.cache
def twice(number: int) -> int:
    return number


class Item:
    def __init__(self, number: int) -> None:
        self.number = number

    @functools.cached_property
    def plus_base(self) -> int:
        return cached(self.number)

    @staticmethod
    @functools.cache
    def after(number: int) -> int:
        return Item(number + 1).number


def use_item(number: int) -> int:
    return Item(number).plus_base


def which(number: int) -> Any:
    return cached


FUNCTIONS = [cached, fibonacci, tell, twice, use_item, Item.after, functools.partial(cached)]

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with allcores.Pool(1, start_method=sys.argv[1]) as pool:
        print(*(pool.map(function, [6])[0] for function in FUNCTIONS))
        print(pool.map(which, [1])[0] is cached, pool.submit(cached, 6).result())
