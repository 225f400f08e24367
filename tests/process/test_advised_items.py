"""Items and results of a function that is measured, of which a few cannot travel."""

from __future__ import annotations

import threading

from allcores import Pool
from allcores.advisor.measuring import pool_way


def test_what_cannot_travel_among_others_does_not_end_the_measurement() -> None:
    with Pool(1) as pool:
        assert pool_way._drop(pool, [1, 2, threading.Lock(), *range(50)], 1, 1.0) > 0
        assert pool_way._drop(pool, [threading.Lock(), *range(50)], 8, 1.0) > 0
