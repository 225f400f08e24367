"""Intervals of ratios: how often they hold what they should, and that the same against the same is no difference."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.advisor.model.intervals import Interval, differs, ratio_interval, spread_interval

ratios = st.lists(st.floats(0.01, 100), min_size=1, max_size=40)


@given(ratios)
def test_the_median_lies_in_its_interval(values: list[float]) -> None:
    interval = ratio_interval(values)
    assert interval.low <= interval.speedup <= interval.high
    assert interval.low >= 0


@given(ratios, st.floats(0.1, 10))
def test_a_scale_changes_nothing_but_the_scale(values: list[float], scale: float) -> None:
    one, other = ratio_interval(values), ratio_interval([scale * value for value in values])
    assert other.speedup == pytest.approx(scale * one.speedup)
    assert other.high == pytest.approx(scale * one.high)


def test_nothing_measured_is_no_interval() -> None:
    with pytest.raises(ValueError, match="no pair"):
        ratio_interval([])


def test_few_pairs_make_a_wide_interval() -> None:
    assert ratio_interval([1.9, 2.0]).half_width > ratio_interval([1.9, 1.92, 1.95, 1.98, 2.0]).half_width
    assert ratio_interval([1.5]).half_width > 0.05


def noisy(random_numbers: random.Random, true: float) -> float:
    """A measured ratio: a few percent off, and one in ten runs met a burst of another program's work."""
    burst = random_numbers.choice((1.5, 1 / 1.5)) if random_numbers.random() < 0.1 else 1.0
    return true * random_numbers.lognormvariate(0, 0.04) * burst


@pytest.mark.parametrize("pairs", [5, 7, 9, 12])
def test_nine_of_ten_intervals_hold_the_truth(pairs: int) -> None:
    random_numbers = random.Random(pairs)
    inside = 0
    for _ in range(1_000):
        interval = ratio_interval([noisy(random_numbers, 1.8) for _ in range(pairs)])
        inside += interval.low <= 1.8 <= interval.high
    # 90.2 % are expected for nine pairs, and the thousand have a deviation of their own.
    assert inside >= 880


@pytest.mark.parametrize("pairs", [5, 7, 9, 15, 30])
def test_a_setting_against_itself_is_no_difference(pairs: int) -> None:
    random_numbers = random.Random(7)
    found = sum(differs([noisy(random_numbers, 1.0) for _ in range(pairs)]) for _ in range(1_000))
    assert found <= 50


def test_as_few_pairs_say_more_than_by_their_median_alone() -> None:
    """Nine runs on a machine whose speed wanders: the smallest but one to the largest but one is the sign test's."""
    measured = [1.92, 1.01, 1.51, 1.68, 1.48, 1.5, 1.77, 1.22, 1.63]
    interval = ratio_interval(measured)
    assert (interval.low, interval.high) == pytest.approx((1.337, 1.697), abs=0.01)
    assert interval.high - interval.low < sorted(measured)[-2] - sorted(measured)[1]


def test_a_difference_is_found() -> None:
    random_numbers = random.Random(3)
    assert differs([noisy(random_numbers, 1.3) for _ in range(15)])
    assert not differs([noisy(random_numbers, 1.3) for _ in range(3)])


def test_predicted_ends_are_as_far_as_the_deviation_says() -> None:
    interval = spread_interval(2.0, 0.05)
    assert interval.high / 2.0 == pytest.approx(2.0 / interval.low)
    assert 0.07 < interval.half_width < 0.09
    assert Interval(2.0, 1.8, 2.2).widened(0.1).low == pytest.approx(1.62)
