"""Items that can be pickled one by one, but not in one chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.process import crimes

from allcores import NotPicklable, Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def fails(pack: Callable[[Any], Any], when: Callable[[list[Any]], bool]) -> Callable[[Any], Any]:
    def packs(items: Any) -> Any:
        if isinstance(items, list) and when(items):
            raise RecursionError("too deep")
        return pack(items)

    return packs


@pytest.mark.parametrize("verb", ["map", "imap", "imap_unordered"])
def test_they_travel_alone(pool: Pool, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = pool._driver.backend
    monkeypatch.setattr(backend, "pack", fails(backend.pack, lambda items: len(items) > 1))
    assert sorted(getattr(pool, verb)(crimes.run, range(6), chunk=3)) == [0, 2, 4, 6, 8, 10]


def test_one_that_cannot_be_packed_even_alone_fails_alone(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = pool._driver.backend
    monkeypatch.setattr(backend, "pack", fails(backend.pack, lambda items: 1 in items))
    outcomes = list(pool.outcomes(crimes.run, range(3), chunk=3))
    assert [outcome.value for outcome in outcomes] == [0, None, 4]
    assert isinstance(outcomes[1].error, NotPicklable)
    assert str(outcomes[1].error).startswith("items[1] could not be packed: RecursionError: too deep")


def test_what_fails_but_once_was_raised_by_somebody_else(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = pool._driver.backend
    once = [True]
    monkeypatch.setattr(backend, "pack", fails(backend.pack, lambda items: bool(once) and once.pop()))
    with pytest.raises(RecursionError):
        pool.map(crimes.run, range(3), chunk=3)
    assert pool.map(crimes.run, range(3), chunk=3) == [0, 2, 4]
