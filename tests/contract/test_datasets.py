"""`adapters.datasets.map_dataset`: what `Dataset.map` returns, for any number of workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract import dataset_tasks as tasks
from tests.installed import late, needed

from allcores import Pool, UsageError, WorkerLost

needed("pyarrow")
datasets = late("datasets")
adapter = late("allcores.adapters.datasets")

# The pool of the module lives through its tests.
pytestmark = pytest.mark.leaks_allowed

N = 50


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    datasets.disable_progress_bars()
    with Pool(2, preload_modules=["datasets"]) as pool:
        yield pool


def dataset() -> Any:
    return datasets.Dataset.from_dict(
        {"a": list(range(N)), "t": [f"s{i}" for i in range(N)], "u": [[i] * (i % 2) for i in range(N)]}
    )


CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "more columns": (tasks.add, {}),
    "the row itself": (tasks.change, {}),
    "nothing": (tasks.nothing, {}),
    "numbers": (tasks.numbered, {"with_indices": True, "fn_kwargs": {"more": 3}}),
    "batches": (tasks.longer, {"batched": True, "batch_size": 7, "remove_columns": ["a", "u"]}),
    "batches with numbers": (tasks.numbered_batch, {"batched": True, "batch_size": 8, "with_indices": True}),
    "the last batch is left out": (tasks.longer, {"batched": True, "batch_size": 8, "drop_last_batch": True}
                                   | {"remove_columns": ["a", "u"]}),
    "values of a column": (tasks.of_column, {"input_columns": "a"}),
    "fewer columns": (tasks.add, {"remove_columns": ["t"]}),
}  # fmt: skip


@pytest.mark.parametrize(("function", "options"), CALLS.values(), ids=CALLS.keys())
def test_the_result_is_that_of_map(pool: Pool, function: Any, options: dict[str, Any]) -> None:
    found = adapter.map_dataset(dataset(), function, pool=pool, **options)
    wanted = dataset().map(function, **options)
    assert found.features == wanted.features
    assert found.to_dict() == wanted.to_dict()


def test_it_runs_in_workers_and_any_number_gives_the_same(pool: Pool) -> None:
    pids = set(adapter.map_dataset(dataset(), tasks.pid, pool=pool)["pid"])
    assert pids and os.getpid() not in pids
    with Pool(1) as one:
        alone = adapter.map_dataset(dataset(), tasks.add, pool=one)
    assert alone.to_dict() == adapter.map_dataset(dataset(), tasks.add, pool=pool).to_dict()


def test_what_is_in_the_cache_is_not_done_again(pool: Pool, tmp_path: Any) -> None:
    dataset().save_to_disk(tmp_path / "d")
    stored = datasets.load_from_disk(tmp_path / "d")
    first = set(adapter.map_dataset(stored, tasks.pid, pool=pool)["pid"])
    with Pool(1) as other:
        assert set(adapter.map_dataset(stored, tasks.pid, pool=other)["pid"]) == first


def test_no_rows(pool: Pool) -> None:
    empty = dataset().select([])
    assert adapter.map_dataset(empty, tasks.add, pool=pool).to_dict() == empty.map(tasks.add).to_dict()


def test_a_row_that_fails_is_named(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no 17") as raised:
        adapter.map_dataset(dataset(), tasks.fail_at_17, pool=pool)
    assert "allcores: it was row 17 of the dataset" in raised.value.__notes__


def test_a_row_that_ends_its_worker_is_named_and_costs_no_more_than_itself(pool: Pool) -> None:
    with pytest.raises(WorkerLost, match=r"\(row 17\)"):
        adapter.map_dataset(dataset(), tasks.die_at_17, pool=pool)
    assert len(adapter.map_dataset(dataset().select(range(10)), tasks.die_at_17, pool=pool)) == 10


def test_what_is_no_dataset_or_option_is_refused(pool: Pool) -> None:
    with pytest.raises(UsageError, match="each of its splits"):
        adapter.map_dataset(datasets.DatasetDict({"train": dataset()}), tasks.add)
    with pytest.raises(UsageError, match="has no num_proc="):
        adapter.map_dataset(dataset(), tasks.add, num_proc=2)
    with pytest.raises(UsageError, match="cannot be called"):
        adapter.map_dataset(dataset(), 3)
