"""A function that does not take what it is called with: the error says where that comes from, on each backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from allcores import Pool


def one(item: Any) -> Any:
    return item


def two(item: Any, other: Any) -> Any:
    return item, other


def calls_wrongly(item: Any) -> Any:
    return two(item)  # type: ignore[call-arg]


def load() -> int:
    return 3


WRONG: dict[str, tuple[Callable[[Any], Any], str | None]] = {
    "what setup returned": (lambda pool: pool.map(one, [1]), "first argument is what setup="),
    "an argument is missing": (lambda pool: pool.map(two, [(1, 2)]), "the item is the only argument"),
    "items that have no parts": (lambda pool: pool.starmap(two, [1]), "starmap calls the function with the parts"),
    "the function's own mistake": (lambda pool: pool.map(calls_wrongly, [1]), None),
    "of another kind": (lambda pool: pool.map(len, [1]), None),
    "in C": (lambda pool: pool.map(float, [[1]]), None),
}


@pytest.mark.parametrize("backend", ["processes", "threads", "serial"])
@pytest.mark.parametrize("what", WRONG)
def test_where_arguments_come_from_is_told(what: str, backend: Any) -> None:
    call, note = WRONG[what]
    with Pool(1, backend=backend, setup=load if what == "what setup returned" else None) as pool:
        with pytest.raises(TypeError) as caught:
            call(pool)
    first, *others = caught.value.__notes__
    assert (first if others else "").startswith("allcores: ") is (note is not None)
    assert note is None or note in first
