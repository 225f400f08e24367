"""That a function which brings much along is pickled for each call is said, once."""

from __future__ import annotations

import pytest

from allcores import Pool
from allcores.pool import functions

TOLD = r"found was pickled for each of 10 calls, .* \([\d.]+ KB\) .*preload"


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(functions, "LONG_NS", 0)
    return Pool(1)


def test_many_calls_of_what_brings_much_along_are_told_once(pool: Pool) -> None:
    large = {number: str(number) for number in range(20_000)}

    def found(number: int) -> str:
        return large[number]

    with pool:
        calls = [pool.submit(found, number) for number in range(functions.OFTEN - 1)]
        with pytest.warns(RuntimeWarning, match=TOLD) as told:
            calls.append(pool.submit(found, functions.OFTEN - 1))
        assert told[0].filename == __file__
        # Warnings are errors here.
        calls += [pool.submit(found, number) for number in range(functions.OFTEN, 3 * functions.OFTEN)]
        assert [call.result() for call in calls] == [str(number) for number in range(3 * functions.OFTEN)]


def test_nothing_is_said_of_small_functions_and_of_maps(pool: Pool) -> None:
    large = {number: str(number) for number in range(20_000)}
    small = dict(list(large.items())[:30])
    with pool:
        assert [pool.submit(lambda number: small[number], number).result() for number in range(30)] == [*small.values()]
        for _ in range(2 * functions.OFTEN):
            assert pool.map(lambda number: large[number], range(3)) == ["0", "1", "2"]


def test_nothing_is_said_of_many_calls_that_took_no_time(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "LONG_NS", 1 << 62)
    large = {number: str(number) for number in range(20_000)}

    def found(number: int) -> str:
        return large[number]

    with pool:
        assert [pool.submit(found, number).result() for number in range(30)] == [str(number) for number in range(30)]


class Odd:
    """Brings much along, and cannot be told from others."""

    def __init__(self) -> None:
        self.large = {number: str(number) for number in range(20_000)}

    def __call__(self, number: int) -> str:
        return self.large[number]

    def __hash__(self) -> int:
        raise RuntimeError("it has no hash")


def test_a_function_whose_hash_raises_is_called_all_the_same(pool: Pool) -> None:
    odd = Odd()
    with pool:
        assert [pool.submit(odd, number).result() for number in range(15)] == [str(number) for number in range(15)]
