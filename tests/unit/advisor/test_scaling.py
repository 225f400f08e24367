"""The scalability law: fitted to rates whose law is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.advisor.model.scaling import Scaling, fit, further

laws = st.builds(Scaling, st.floats(1e-3, 1e6), st.floats(0, 0.5), st.floats(0, 0.02), st.just(0.0))


@given(laws, st.sets(st.integers(1, 64), min_size=3, max_size=6))
def test_a_law_is_found_again_from_exact_rates(law: Scaling, counts: set[int]) -> None:
    found = fit({workers: law.rate(workers) for workers in counts})
    assert found is not None
    assert found.off < 1e-3
    for workers in counts:
        assert found.rate(workers) == pytest.approx(law.rate(workers), rel=1e-3)


@given(st.dictionaries(st.integers(1, 64), st.floats(1e-3, 1e6), min_size=3, max_size=6))
def test_whatever_was_measured_no_coefficient_is_negative(rates: dict[int, float]) -> None:
    found = fit(rates)
    assert found is None or (found.one > 0 and found.contention >= 0 and found.coherence >= 0 and found.off >= 0)


def test_fewer_than_three_numbers_are_not_extrapolated() -> None:
    assert fit({}) is None
    assert fit({1: 10.0, 2: 19.0}) is None
    assert fit({1: 10.0, 2: 19.0, 4: 0.0}) is None
    assert fit({1: 10.0, 2: 19.0, 4: 35.0}) is not None


@pytest.mark.parametrize(
    ("law", "peak"), [(Scaling(1.0, 0.05, 0.0, 0), None), (Scaling(1.0, 0.1, 0.001, 0), 30), (Scaling(1, 1, 0.5, 0), 1)]
)
def test_the_number_beyond_which_it_gets_slower(law: Scaling, peak: int | None) -> None:
    assert law.most_useful == peak
    if peak is not None and peak > 1:
        assert law.rate(peak) >= max(law.rate(peak - 2), law.rate(peak + 2))


def test_it_is_asked_about_twice_and_four_times_the_most() -> None:
    assert further({1: 1.0, 8: 4.0}) == (16, 32)
