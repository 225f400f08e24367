"""A pool in processes that the standard library lets have no children: those of a pool, and of Celery's prefork."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from tests.installed import needed
from tests.process.waiting import PATIENCE_S

import allcores
from allcores import Pool


def double(number: int) -> int:
    return number * 2


def both(number: int) -> tuple[list[int], list[int]]:
    """By a pool of its own, and by the module's."""
    with Pool(2) as pool:
        return pool.map(double, range(number)), allcores.map(double, range(number))


#: billiard keeps pipes, and a heap of its own
BILLIARD = pytest.param("billiard", marks=pytest.mark.leaks_allowed)


@pytest.mark.parametrize("library", ["multiprocessing", BILLIARD])
def test_a_worker_that_is_daemonic_may_have_a_pool(library: str) -> None:
    """billiard is what Celery's prefork workers are made of."""
    needed(library)
    pools: Any = importlib.import_module(library)
    pool = pools.get_context("fork").Pool(1)
    try:
        assert pool.apply_async(both, (4,)).get(PATIENCE_S) == ([0, 2, 4, 6], [0, 2, 4, 6])
    finally:
        pool.close()
        pool.join()
