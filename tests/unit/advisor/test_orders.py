"""The order in which settings run in the rounds of a confirmation."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from allcores.advisor.confirm import _orders


@pytest.mark.parametrize("count", [2, 3, 5])
def test_each_second_round_has_the_order_of_the_one_before_reversed(count: int) -> None:
    """So each setting is early as often as late, and what drifts meets all alike."""
    rounds = [list(order) for order in islice(_orders(count, random.Random(0)), 40)]
    assert all(sorted(order) == list(range(count)) for order in rounds)
    assert all(second == first[::-1] for first, second in zip(rounds[::2], rounds[1::2], strict=True))
    for setting in range(count):
        assert sum(order.index(setting) for order in rounds) == 40 * (count - 1) / 2


def test_the_order_is_shuffled_and_the_same_for_the_same_seed() -> None:
    first, again = ([tuple(each) for each in islice(_orders(4, random.Random(3)), 40)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 10
