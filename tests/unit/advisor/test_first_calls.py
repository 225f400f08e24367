"""What a result's way takes, as the worker that has made it measures it."""

from __future__ import annotations

import itertools
import sys

import pytest

from allcores.advisor.measuring import in_worker


def test_a_small_result_takes_less_than_a_call_of_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock where each such call takes the same, small results take nothing: they travel together."""
    monkeypatch.setattr(in_worker, "thread_time", map(float, itertools.count()).__next__)
    size, dumps_s, loads_s, problem = in_worker._way(7)
    assert size > 0
    assert (dumps_s, loads_s, problem) == (0.0, 0.0, None)


def test_a_large_result_takes_what_it_takes() -> None:
    size, dumps_s, loads_s, problem = in_worker._way(bytearray(4_000_000))
    assert size > 4_000_000 and problem is None
    assert dumps_s > 0 and loads_s > 0


def test_a_result_that_cannot_travel_is_told() -> None:
    size, dumps_s, loads_s, problem = in_worker._way(sys._getframe())
    assert "frame" in str(problem)
    assert (size, dumps_s, loads_s) == (0, 0.0, 0.0)
