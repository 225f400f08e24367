"""What workers have imported when they start."""

from __future__ import annotations

import pytest
from tests.process import crimes

from allcores import Kind, Pool


@pytest.mark.quick
def test_cloudpickle_is_for_pools_whose_functions_need_it() -> None:
    """It takes as long as the start of everything else; once one needs it, workers to come have it from the start."""
    with Pool(1) as pool:
        assert pool.map(crimes.has_imported, ["cloudpickle"]) == [False]
        assert pool.map(lambda number: number + 1, [1]) == [2]
        (lost,) = pool.outcomes(crimes.run, ["exit_at_once"])
        assert lost.kind is Kind.WORKER_LOST
        assert pool.map(crimes.has_imported, ["cloudpickle"]) == [True]
