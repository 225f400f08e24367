"""progress/estimate.py: what is left, from what was measured, and how sure that is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.progress.estimate import Estimate, Estimator, eta_text


def watched(times: list[float], each: float = 0.05) -> tuple[Estimator, float]:
    """An estimator that saw items finish at these times, told every `each` seconds."""
    estimator, now, done = Estimator(0.0), 0.0, 0
    for when in times:
        while now + each < when:
            now += each
            estimator.observe(now, done)
        done += 1
    now = max(now, times[-1] if times else now)
    estimator.observe(now, done)
    return estimator, now


def test_nothing_is_known_before_something_is_done() -> None:
    assert Estimator(0.0).estimate(100.0, 5) is None


def test_nothing_left_takes_no_time() -> None:
    assert Estimator(0.0).estimate(1.0, 0) == Estimate(0.0, 0.0, 0.0)


@given(st.floats(0.001, 10), st.integers(10, 500), st.integers(1, 10_000))
def test_an_even_pace_goes_on(each_s: float, done: int, left: int) -> None:
    """Items that take the same are foretold within a tenth, and the range says that it is sure."""
    estimator, now = watched([each_s * (n + 1) for n in range(done)])
    found = estimator.estimate(now, left)
    assert found is not None
    assert found.middle_s == pytest.approx(left * each_s, rel=0.1)
    assert found.low_s <= left * each_s * 1.01
    assert found.high_s >= left * each_s * 0.99


@given(st.lists(st.floats(0.001, 5), min_size=1, max_size=200), st.integers(0, 5000), st.floats(0, 100))
def test_the_range_holds_the_middle(gaps: list[float], left: int, waited: float) -> None:
    times, now = [], 0.0
    for gap in gaps:
        now += gap
        times.append(now)
    estimator, now = watched(times, each=0.5)
    found = estimator.estimate(now + waited, left, item_s=0.3, workers=4)
    assert found is not None
    assert 0 <= found.low_s <= found.middle_s <= found.high_s


def test_the_range_is_honest() -> None:
    """Of runs whose items vary much, four of five end within the range that was given in their middle."""
    rng = random.Random(7)
    held = 0
    for _ in range(200):
        gaps = [rng.expovariate(1.0) if rng.random() < 0.9 else rng.expovariate(0.1) for _ in range(240)]
        times = [sum(gaps[: n + 1]) for n in range(120)]
        estimator, now = watched(times, each=0.2)
        found = estimator.estimate(now, 120)
        assert found is not None
        held += found.low_s <= sum(gaps[120:]) <= found.high_s
    assert 0.7 <= held / 200 <= 0.97


def test_the_more_items_vary_the_wider_the_range() -> None:
    even, now = watched([float(n + 1) for n in range(60)])
    varied, later = watched([float(n + 1) + (5 if n % 7 == 0 else 0) for n in range(60)])
    steady, wide = even.estimate(now, 60), varied.estimate(later, 60)
    assert steady is not None
    assert wide is not None
    assert steady.high_s - steady.low_s < wide.high_s - wide.low_s


def test_a_stall_makes_it_longer() -> None:
    """While nothing is finished, time goes on, and the estimate with it."""
    estimator, now = watched([n / 10 for n in range(1, 50)])
    before, after = estimator.estimate(now, 50), estimator.estimate(now + 20, 50)
    assert before is not None
    assert after is not None
    assert after.middle_s > 2 * before.middle_s


def test_work_that_becomes_slower_is_followed() -> None:
    times = [n / 10 for n in range(1, 101)] + [10 + n for n in range(1, 21)]
    estimator, now = watched(times)
    found = estimator.estimate(now, 10)
    assert found is not None
    assert found.high_s > 7, "a second each of late, a tenth before"


def test_the_end_waits_for_the_last_items() -> None:
    """With several workers the last ones are waited for, while others have nothing left to do."""
    estimator, now = watched([float(n) for n in range(1, 20)])
    alone, worker_table = estimator.estimate(now, 1), estimator.estimate(now, 1, item_s=8.0, workers=8)
    assert alone is not None
    assert worker_table is not None
    assert worker_table.middle_s == pytest.approx(alone.middle_s + 4)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(180, 120, 300), "about 3 min (2–5)"),
        (Estimate(180, 175, 185), "about 3 min"),
        (Estimate(0.2, 0, 3), "about 1 s"),
        (Estimate(45, 30, 70), "about 45 s (30–70)"),
        (Estimate(7920, 6000, 9999), "about 2.2 h (1.7–2.8)"),
        (Estimate(259_200, 86_400, 500_000), "about 3 days (1–5.8)"),
    ],
)
def test_estimates_as_people_say_them(estimate: Estimate, text: str) -> None:
    assert eta_text(estimate) == text
