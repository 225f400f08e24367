"""A cache of results, on every backend: what is in it is not computed, and all else is as without it."""

from __future__ import annotations

import asyncio
import operator
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract import cache_tasks
from tests.contract.backends.support import MAIN, START_METHOD_WARNINGS, each_start_method
from tests.process.waiting import lines, wait_until

import allcores
from allcores import Cache, Pool, UsageError

pytestmark = START_METHOD_WARNINGS


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where tasks write what they compute."""
    return str(tmp_path / "computed")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


class TestFound:
    @each_start_method
    def test_what_is_there_is_not_computed(self, pool: Any, cache: Cache, path: str) -> None:
        double = cache_tasks.Double(path)
        assert pool.map(double, range(100), cache=cache) == [number * 2 for number in range(100)]
        assert pool.map(double, range(50, 150), cache=cache) == [number * 2 for number in range(50, 150)]
        assert sorted(map(int, lines(path))) == list(range(150))
        # A worker that has given away the rest of its chunk may still be writing when all have their results.
        wait_until(lambda: len(cache) == 150)
        found = cache.statistics()
        assert (found.entries, found.hits, found.misses) == (150, 50, 150)

    def test_every_way_to_map_has_it(self, pool: Any, cache: Cache, path: str) -> None:
        double, items = cache_tasks.Double(path), range(40)
        doubled = [number * 2 for number in items]
        assert list(pool.imap(double, iter(items), cache=cache)) == doubled
        assert sorted(pool.imap_unordered(double, items, cache=cache)) == doubled
        assert [outcome.value for outcome in pool.outcomes(double, items, cache=cache)] == doubled

        async def results() -> list[int]:
            return [value async for value in pool.aimap(double, items, cache=cache)]

        assert asyncio.run(results()) == doubled
        assert pool.reduce(double, items, operator.add, initial=0, cache=cache) == sum(doubled)
        assert len(lines(path)) == 40

    def test_several_arguments_and_constants(self, pool: Any, cache: Cache, path: str) -> None:
        add, pairs = cache_tasks.Add(path), [(number, 1) for number in range(20)]
        for _ in range(2):
            assert pool.starmap(add, pairs, cache=cache) == list(range(1, 21))
            assert pool.map(add, range(20), [1] * 20, cache=cache) == list(range(1, 21))
        assert len(lines(path)) == 20
        assert pool.map(add, range(20), [1] * 20, more=1, cache=cache) == list(range(2, 22))
        assert len(lines(path)) == 40

    @pytest.mark.parametrize("journal", [True, False])
    @pytest.mark.parametrize("batch", [None, 8])
    def test_a_run_has_it(
        self, pool: Any, cache: Cache, path: str, tmp_path: Path, journal: bool, batch: int | None
    ) -> None:
        function: Any = cache_tasks.Double(path) if batch is None else cache_tasks.Doubles(path)
        for name in ("a", "b"):
            output = tmp_path / f"{name}.jsonl"
            assert pool.run(function, range(12), output, cache=cache, journal=journal, batch=batch).ok == 12
            assert output.read_text().splitlines() == [str(number * 2) for number in range(12)]
        assert (cache.statistics().hits, cache.statistics().misses) == (12, 12)

    def test_the_verbs_of_the_module_have_it(self, cache: Cache, path: str) -> None:
        double = cache_tasks.Double(path)
        assert [allcores.map(double, [1, 2], cache=cache.folder) for _ in range(2)] == [[2, 4], [2, 4]]
        assert len(lines(path)) == 2

    def test_an_item_that_comes_twice_is_computed_once_by_a_worker(
        self, make_pool: Callable[..., Pool], cache: Cache, path: str
    ) -> None:
        with make_pool(1) as made:
            pool: Any = made
            assert pool.map(cache_tasks.Double(path), [7] * 30, chunk=30, cache=cache) == [14] * 30
        assert lines(path) == ["7"]

    def test_without_it_nothing_is_kept(self, pool: Any, cache: Cache, path: str) -> None:
        for none in (None, False):
            assert pool.map(cache_tasks.Double(path), [1], cache=none) == [2]
        assert len(lines(path)) == 2
        assert not Path(cache.folder).exists()


class TestBatches:
    @pytest.mark.parametrize("batch", [16, "auto"])
    def test_a_function_of_batches_gets_those_that_are_not_there(
        self, pool: Any, cache: Cache, path: str, batch: Any
    ) -> None:
        doubles = cache_tasks.Doubles(path)
        assert pool.map(doubles, range(20, 40), batch=16, cache=cache) == [number * 2 for number in range(20, 40)]
        Path(path).unlink()
        found = pool.map(doubles, range(15, 45), batch=batch, cache=cache)
        assert found == [number * 2 for number in range(15, 45)]
        assert sum(map(int, lines(path))) == 10

    def test_with_several_arguments(self, pool: Any, cache: Cache, path: str) -> None:
        for _ in range(2):
            pairs = [(number, number) for number in range(20)]
            assert pool.starmap(cache_tasks.Adds(path), pairs, batch=8, cache=cache) == list(range(0, 40, 2))
        assert sum(map(int, lines(path))) == 20

    def test_a_batch_that_fails_costs_the_item_at_fault(self, pool: Any, cache: Cache, path: str) -> None:
        for _ in range(2):
            found = list(pool.outcomes(cache_tasks.Doubles(path), range(20), batch=8, cache=cache))
            assert [outcome.index for outcome in found if not outcome.ok] == [13]
            assert [outcome.value for outcome in found if outcome.ok] == [n * 2 for n in range(20) if n != 13]
        assert len(cache) == 19


class TestKept:
    def test_failures_are_not_kept(self, pool: Any, cache: Cache, path: str) -> None:
        for _ in range(2):
            found = list(pool.outcomes(cache_tasks.Refuse(path), range(10), cache=cache, retries=1))
            assert [outcome.ok for outcome in found] == [True, False] * 5
        assert len(lines(path)) == 5 + 2 * 2 * 5
        assert len(cache) == 5

    @pytest.mark.parametrize("batch", [None, 4])
    def test_a_failure_has_no_frames_of_the_cache(self, pool: Any, cache: Cache, path: str, batch: int | None) -> None:
        function: Any = cache_tasks.Refuse(path) if batch is None else cache_tasks.Doubles(path)
        with pytest.raises(ValueError, match="no 13") as caught:
            pool.map(function, [13], cache=cache, batch=batch)
        shown = "".join(traceback.format_exception(caught.value))
        assert "cache_tasks.py" in shown
        assert os.path.join("allcores", "cache") not in shown

    def test_what_was_loaded_is_no_part_of_the_key(
        self, make_pool: Callable[..., Pool], cache: Cache, path: str
    ) -> None:
        for _ in range(2):
            with make_pool(setup=cache_tasks.load) as made:
                pool: Any = made
                assert pool.map(cache_tasks.Prefix(path), [1, 2], cache=cache) == ["loaded 1", "loaded 2"]
        assert len(lines(path)) == 2

    def test_arrays_are_told_apart_by_what_is_in_them(
        self, make_pool: Callable[..., Pool], cache: Cache, path: str, place: str
    ) -> None:
        if place == "interpreters":
            pytest.skip("numpy refuses interpreters beside the main one")
        items = [np.zeros((2, 3)), np.zeros((3, 2)), np.ones((2, 3)), np.zeros((2, 3), dtype=int), np.zeros((2, 3))]
        with make_pool(1) as made:
            pool: Any = made
            for _ in range(2):
                found = pool.map(cache_tasks.Total(path), items, cache=cache)
                assert [array.tolist() for array in found] == [[0, 6], [0, 6], [6, 6], [0, 6], [0, 6]]
        assert len(lines(path)) == 4

    @each_start_method
    def test_what_a_script_defines_is_found_again(
        self, pool: Any, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker has a copy of the class, and the program is to get its own."""
        monkeypatch.setattr(sys.modules["__main__"], "Point", MAIN["Point"], raising=False)
        for hits in (0, 3):
            found = pool.map(MAIN["make"], range(3), cache=cache)
            assert [each.x for each in found] == [0, 1, 2]
            assert {type(each) for each in found} == {MAIN["Point"]}
            assert cache.statistics().hits == hits

    def test_what_cannot_be_pickled_is_computed(
        self, make_pool: Callable[..., Pool], place: str, cache: Cache, path: str
    ) -> None:
        with make_pool() as made:
            pool: Any = made
            for _ in range(2):
                found = list(pool.outcomes(cache_tasks.Generate(path), [3], cache=cache))
                assert found[0].ok is (place in ("threads", "serial"))
        assert len(lines(path)) == 2
        assert len(cache) == 0

    def test_other_versions_are_others(self, pool: Any, cache: Cache, path: str) -> None:
        double = cache_tasks.Double(path)
        for version in ("1", "2", "1"):
            assert pool.map(double, [5], cache=Cache(cache.folder, version=version)) == [10]
        assert len(lines(path)) == 2

    def test_a_function_is_cleared_by_itself(self, pool: Any, cache: Cache, path: str) -> None:
        double, refuse = cache_tasks.Double(path), cache_tasks.Refuse(path)
        pool.map(double, [2, 4], cache=cache)
        pool.map(refuse, [2, 4, 6], cache=cache)
        assert {name: each.entries for name, each in cache.statistics().functions.items()} == {
            "tests.contract.cache_tasks.Double": 2,
            "tests.contract.cache_tasks.Refuse": 3,
        }
        assert cache.clear(double) == 2
        assert list(cache.statistics().functions) == ["tests.contract.cache_tasks.Refuse"]
        assert cache.clear() == 3
        assert (len(cache), cache.statistics().functions) == (0, {})
        pool.map(double, [2, 4], cache=cache)
        assert len(lines(path)) == 7


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "cache"


class TestGiven:
    def test_true_is_the_default_folder(self, pool: Any, default: Path, path: str) -> None:
        pool.map(cache_tasks.Double(path), [1], cache=True)
        assert (Cache().folder, len(Cache())) == (str(default), 1)

    @pytest.mark.parametrize("cache", [1, 2.5, b"folder", [], object()])
    def test_what_is_no_cache_is_refused(self, pool: Any, cache: Any) -> None:
        with pytest.raises(UsageError, match=r"cache=.* must be True, a folder, an allcores.Cache, or None"):
            pool.map(abs, [1], cache=cache)

    def test_a_function_that_is_none_is_refused(self, pool: Any, cache: Cache) -> None:
        with pytest.raises(UsageError, match="5 cannot be called"):
            pool.map(5, [1], cache=cache)
