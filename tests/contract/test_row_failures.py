"""`retries`, `on_error` and `timeout` of functions over frames: a row that fails costs no more than itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract import apply_tasks as tasks
from tests.contract import dataset_tasks, frame_tasks
from tests.installed import needed

from allcores import Pool, Retry, TaskTimeout, UsageError, WorkerLost, frames

needed("numpy")
pandas: Any = pytest.importorskip("pandas")

from allcores.adapters import pandas as adapter  # noqa: E402

# The pool of the module lives through its tests.
pytestmark = pytest.mark.leaks_allowed

#: some rows for each part that travels
N = 320
#: that raise always, at first, and that end their process: see `tasks.fail_in_its_way`
NEVER = set(range(3, N, 10))
LATER = set(range(4, N, 10))
DEADLY = {25}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2, preload_modules=["pandas", "datasets"]) as pool:
        yield pool


def calls(directory: Path, value: int) -> int:
    return (directory / str(value)).stat().st_size


def frame() -> Any:
    return pandas.DataFrame({"a": range(N)}, index=[f"r{each}" for each in range(N)])


@pytest.mark.parametrize("kind", ["rows", "values"])
def test_rows_that_fail_are_left_out_and_the_others_keep_their_labels(pool: Pool, tmp_path: Path, kind: str) -> None:
    if kind == "rows":
        found = adapter.apply(
            frame(), tasks.fail_in_its_way_row, 1, pool=pool, on_error="skip", directory=str(tmp_path)
        )
    else:
        found = adapter.apply(frame()["a"], tasks.fail_in_its_way, pool=pool, on_error="skip", directory=str(tmp_path))
    left = [each for each in range(N) if each not in DEADLY | NEVER | LATER]
    # Of the part that was lost, rows are tried again alone: one that fails at its first attempt may have had that.
    assert set(found.index) - {"r24"} == {f"r{each}" for each in left}
    table = frame()
    table["b"] = found
    assert table["b"].isna().to_dict()["r25"]
    assert table["b"]["r1"] == 2
    assert {calls(tmp_path, each) for each in (3, 4, 13, 14, 1)} == {1}


def test_a_function_says_what_stands_in_the_place_of_a_failure(pool: Pool, tmp_path: Path) -> None:
    seen: dict[int, BaseException] = {}

    def instead(row: Any, error: BaseException) -> int:
        seen[int(row["a"])] = error
        return -1

    found = adapter.apply(
        frame(), tasks.fail_in_its_way_row, 1, pool=pool, retries=1, on_error=instead, directory=str(tmp_path)
    )
    wanted = [-1 if each in NEVER | DEADLY else each * 2 for each in range(N)]
    pandas.testing.assert_series_equal(found, pandas.Series(wanted, index=frame().index))
    assert set(seen) == NEVER | DEADLY
    assert isinstance(seen[25], WorkerLost) and "(row 25)" in str(seen[25])
    assert str(seen[3]) == "no 3" and "fail_in_its_way" in str(seen[3].__cause__)
    assert "(row 3) failed in worker" in seen[3].__notes__[-1]
    assert (calls(tmp_path, 3), calls(tmp_path, 4), calls(tmp_path, 1)) == (2, 2, 1)


def test_a_failure_is_tried_again_where_its_kind_is_worth_it(pool: Pool, tmp_path: Path) -> None:
    rows = frame()["a"].drop("r25")
    retry = Retry(3, on=OSError, wait_s=0.001)
    with pytest.raises(ValueError, match="no 3") as raised:
        adapter.apply(rows, tasks.fail_in_its_way, pool=pool, retries=retry, directory=str(tmp_path))
    assert any("row 3 failed in worker" in note for note in raised.value.__notes__)
    assert calls(tmp_path, 3) == 1
    rows = rows[rows % 10 != 3]
    found = adapter.apply(rows, tasks.fail_in_its_way, pool=pool, retries=retry, directory=str(tmp_path))
    assert found.to_dict() == {label: value * 2 for label, value in rows.items()}


def test_a_deadline_is_each_rows_own(pool: Pool) -> None:
    rows = frame()["a"].iloc[:8]
    found = adapter.apply(rows, tasks.hang_at_3, pool=pool, timeout=1.5, on_error="skip")
    assert found.to_dict() == {f"r{each}": each for each in range(8) if each != 3}
    with pytest.raises(TaskTimeout, match=r"\(row 3\)"):
        adapter.apply(rows, tasks.hang_at_3, pool=pool, timeout=1.5)


def test_columns_and_groups(pool: Pool, tmp_path: Path) -> None:
    wide = pandas.DataFrame([range(6)], columns=list("abcdef"))
    found = adapter.apply(wide, tasks.column_of, pool=pool, on_error="skip", directory=str(tmp_path))
    assert found.to_dict() == {"a": 0, "b": 2, "c": 4, "f": 10}
    grouped = pandas.DataFrame({"k": list("abcd"), "x": [1, 13, 14, 26]}).groupby("k")
    options: dict[str, Any] = {"pool": pool, "retries": 1, "directory": str(tmp_path)}
    found = adapter.apply(grouped, tasks.group_of, on_error=lambda group, error: -int(group["x"].iloc[0]), **options)
    assert found.to_dict() == {"a": 2, "b": -13, "c": 28, "d": 52}
    with pytest.raises(UsageError, match=r"cannot leave out groups of a groupby.*frames\.apply_groups can"):
        adapter.apply(grouped, tasks.group_of, on_error="skip", **options)


def test_groups_of_frames_take_a_function_too(pool: Pool) -> None:
    sales = pandas.DataFrame({"city": ["Rome", "Oslo", "Rome"], "x": [1, 13, 2]})
    found = frames.apply_groups(
        sales, "city", frame_tasks.fail_for, how="exit", pool=pool, on_error=lambda group, error: -group["x"].iloc[0]
    )
    assert found.to_dict() == {"Oslo": -13, "Rome": 2}


def test_nothing_is_left(pool: Pool) -> None:
    one = pandas.DataFrame({"a": [17, 17]})
    for shape in (1, 0):
        found = adapter.apply(one, tasks.no_17 if shape else tasks.column_of, shape, pool=pool, on_error="skip")
        assert isinstance(found, pandas.Series) and not len(found)


def test_what_is_no_way_to_treat_failures_is_refused(pool: Pool) -> None:
    wrong: Any = "ignore"
    with pytest.raises(UsageError, match="on_error='ignore' must be 'raise', 'skip', or a function"):
        adapter.apply(frame(), tasks.first, 1, on_error=wrong)
    with pytest.raises(UsageError, match="on_error='ignore' must be 'raise', 'skip', or a function"):
        frames.apply_groups(frame(), "a", len, on_error=wrong)


def test_batches_of_polars(pool: Pool, tmp_path: Path) -> None:
    polars: Any = pytest.importorskip("polars")
    from allcores.adapters import polars as batches

    rows = polars.DataFrame({"a": range(24)})
    options: dict[str, Any] = {"rows": 1, "pool": pool, "directory": str(tmp_path)}
    left = batches.map_batches(rows, tasks.polars_batch, retries=1, on_error="skip", **options)
    assert left["a"].to_list() == [each for each in range(24) if each not in NEVER]
    whole = batches.map_batches(
        rows, tasks.polars_batch, retries=1, on_error=lambda batch, error: batch * -1, **options
    )
    assert whole["a"].to_list() == [-each if each in NEVER else each for each in range(24)]
    none = batches.map_batches(rows[3:4], tasks.polars_batch, **{**options, "on_error": "skip"})
    assert none.equals(rows.clear())


def test_rows_of_datasets(pool: Pool, tmp_path: Path) -> None:
    datasets: Any = pytest.importorskip("datasets")
    from allcores.adapters.datasets import map_dataset

    datasets.disable_progress_bars()
    given = datasets.Dataset.from_dict({"a": range(64)})
    options: dict[str, Any] = {"pool": pool, "fn_kwargs": {"directory": str(tmp_path)}}
    found = map_dataset(given, dataset_tasks.fail_some, retries=1, on_error=dataset_tasks.none, **options)
    assert found["b"][:] == [None if each in NEVER | DEADLY else each * 2 for each in range(64)]
    assert found["why"][23:26] == ["ValueError", "", "WorkerLost"]
    assert (calls(tmp_path, 3), calls(tmp_path, 4), calls(tmp_path, 1)) == (2, 2, 1)
    batches = map_dataset(
        given.select(range(12)), dataset_tasks.fail_some_batches, batched=True, batch_size=1, retries=1,
        on_error=lambda batch, error: {"b": [-each for each in batch["a"]]}, **options
    )  # fmt: skip
    assert batches["b"][:] == [-each if each in NEVER else each for each in range(12)]
    refused: Any = "skip"
    with pytest.raises(UsageError, match="map keeps its rows"):
        map_dataset(given, dataset_tasks.fail_some, on_error=refused, **options)


def test_a_deadline_of_datasets_is_each_rows_own(pool: Pool) -> None:
    datasets: Any = pytest.importorskip("datasets")
    from allcores.adapters.datasets import map_dataset

    given = datasets.Dataset.from_dict({"a": range(6)})
    late = map_dataset(given, dataset_tasks.hang_at_3, timeout=1, on_error=dataset_tasks.none, pool=pool)
    assert late["b"][:] == [0, 1, 2, None, 4, 5]
    assert late["why"][3] == "TaskTimeout"


def test_what_stands_for_failures_is_not_taken_for_results_in_the_cache(pool: Pool, tmp_path: Path) -> None:
    datasets: Any = pytest.importorskip("datasets")
    from allcores.adapters.datasets import map_dataset

    datasets.Dataset.from_dict({"a": range(20)}).save_to_disk(tmp_path / "d")
    stored = datasets.load_from_disk(tmp_path / "d")
    found = map_dataset(stored, dataset_tasks.fail_at_17, pool=pool, on_error=dataset_tasks.none)
    assert found["why"][17] == "ValueError"
    with pytest.raises(ValueError, match="no 17"):
        map_dataset(stored, dataset_tasks.fail_at_17, pool=pool)
