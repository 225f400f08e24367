"""`adapters.pandas.apply`: what pandas returns, for all kinds of frames and functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract import apply_tasks as tasks

from allcores import Pool, UsageError, WorkerLost

pandas: Any = pytest.importorskip("pandas")
numpy: Any = pytest.importorskip("numpy")

from allcores.adapters import pandas as adapter  # noqa: E402


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(2, preload_modules=["pandas"]) as pool:
        yield pool


pytestmark = pytest.mark.leaks_allowed  # the pool of the module lives through its tests

N = 20
DICE = numpy.random.default_rng(0)
FRAMES: dict[str, Any] = {
    "floats": pandas.DataFrame(DICE.standard_normal((N, 3)), columns=list("abc")),
    "ints": pandas.DataFrame({"a": range(N), "b": range(N, 2 * N)}),
    "mixed": pandas.DataFrame({"a": range(N), "b": [f"s{i}" for i in range(N)], "c": [i / 3 for i in range(N)]}),
    "missing": pandas.DataFrame({"a": [None if i % 3 else float(i) for i in range(N)], "b": [None] * N}),
    "categories": pandas.DataFrame({"a": pandas.Categorical(list("xyzx") * (N // 4)), "b": range(N)}),
    "times": pandas.DataFrame({"a": pandas.date_range("2020", periods=N), "b": range(N)}),
    "zones": pandas.DataFrame({"a": pandas.date_range("2020", periods=N, tz="Europe/Rome")}),
    "nullable": pandas.DataFrame({"a": pandas.array([1, None] * (N // 2), dtype="Int64")}),
    "booleans": pandas.DataFrame({"a": [True, False] * (N // 2), "b": [False] * N}),
    "labels": pandas.DataFrame({"a": range(N)}, index=[f"r{i}" for i in range(N)]),
    "same labels": pandas.DataFrame({"a": range(N)}, index=[0] * N),
    "two levels": pandas.DataFrame(
        {"a": range(N), "b": range(N)},
        index=pandas.MultiIndex.from_product([range(4), range(N // 4)], names=["u", "v"]),
    ),
    "two levels of columns": pandas.DataFrame(
        DICE.standard_normal((N, 4)), columns=pandas.MultiIndex.from_product([list("ab"), [1, 2]])
    ),
    "one row": pandas.DataFrame({"a": [1], "b": ["x"]}),
    "no rows": pandas.DataFrame({"a": pandas.Series([], dtype=float), "b": pandas.Series([], dtype=object)}),
    "no columns": pandas.DataFrame(index=range(3)),
    "objects": pandas.DataFrame({"a": [[i] for i in range(N)], "b": [{"k": i} for i in range(N)]}),
}


def same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, pandas.DataFrame):
        pandas.testing.assert_frame_equal(found, wanted)
    elif isinstance(wanted, pandas.Series):
        pandas.testing.assert_series_equal(found, wanted)
    else:
        assert found == wanted


ROWS = [
    tasks.first, tasks.text, tasks.row_itself, tasks.series, tasks.some_series, tasks.pair, tasks.numbers,
    tasks.missing, tasks.label, tasks.nothing, tasks.types,
]  # fmt: skip


@pytest.mark.parametrize("function", ROWS, ids=lambda each: each.__name__)
def test_rows(pool: Pool, function: Any) -> None:
    for name, frame in FRAMES.items():
        try:
            wanted = frame.apply(function, axis=1)
        except Exception as error:
            with pytest.raises(type(error)):
                adapter.apply(frame, function, 1, pool=pool)
            continue
        same(adapter.apply(frame, function, 1, pool=pool), wanted)
        assert name


@pytest.mark.parametrize("place", ["threads", "serial", "spawn", "fork"])
@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
def test_other_workers(place: str) -> None:
    frame = FRAMES["mixed"]
    options: dict[str, Any] = {"backend": place} if place in ("threads", "serial") else {"start_method": place}
    with Pool(2, **options) as pool:
        same(adapter.apply(frame, tasks.series, 1, pool=pool), frame.apply(tasks.series, axis=1))
        grouped = frame.groupby("a")
        same(adapter.apply(grouped, tasks.head, pool=pool), grouped.apply(tasks.head))


@pytest.mark.parametrize("function", [tasks.length, tasks.row_itself, tasks.head], ids=lambda each: each.__name__)
def test_columns(pool: Pool, function: Any) -> None:
    for frame in FRAMES.values():
        same(adapter.apply(frame, function, pool=pool), frame.apply(function))


@pytest.mark.parametrize(
    "options", [{"result_type": "expand"}, {"result_type": "reduce"}, {"result_type": "broadcast"}]
)
def test_kinds_of_results(pool: Pool, options: dict[str, Any]) -> None:
    frame = FRAMES["floats"]
    same(adapter.apply(frame, tasks.numbers, 1, pool=pool, **options), frame.apply(tasks.numbers, axis=1, **options))


def test_arrays_of_rows(pool: Pool) -> None:
    frame = FRAMES["floats"]
    for function in (tasks.array_sum, tasks.array_double):
        same(adapter.apply(frame, function, 1, raw=True, pool=pool), frame.apply(function, axis=1, raw=True))


class OwnSeries(pandas.Series):  # type: ignore[misc]
    @property
    def _constructor(self) -> Any:
        return OwnSeries

    @property
    def _constructor_expanddim(self) -> Any:
        return OwnFrame


class OwnFrame(pandas.DataFrame):  # type: ignore[misc]
    @property
    def _constructor(self) -> Any:
        return OwnFrame

    @property
    def _constructor_sliced(self) -> Any:
        return OwnSeries


@pytest.mark.parametrize("function", [tasks.length, tasks.series, tasks.pair], ids=lambda each: each.__name__)
@pytest.mark.parametrize("options", [{"axis": 1}, {"axis": 1, "result_type": "expand"}, {"axis": 0}, {"column": "a"}])
def test_what_belongs_to_a_frame_belongs_to_the_result(pool: Pool, options: dict[str, Any], function: Any) -> None:
    """Its class, where a library has derived one, what stands in its `attrs`, and its flags."""
    frame = OwnFrame({"a": range(N), "b": range(N)})
    frame.attrs["unit"] = "m"
    frame.flags.allows_duplicate_labels = False
    options = dict(options)
    source = frame[options.pop("column")] if "column" in options else frame
    if source is not frame:
        function = str
    found, wanted = adapter.apply(source, function, pool=pool, **options), source.apply(function, **options)
    same(found, wanted)
    assert found.attrs == wanted.attrs
    assert found.flags == wanted.flags


def test_further_arguments_and_names_of_functions(pool: Pool) -> None:
    frame = FRAMES["ints"]
    same(
        adapter.apply(frame, tasks.plus, 1, args=(3,), more=4, pool=pool),
        frame.apply(tasks.plus, axis=1, args=(3,), more=4),
    )
    same(adapter.apply(frame, "sum", 1, pool=pool), frame.sum(axis=1))


@pytest.mark.parametrize("function", [tasks.array_sum, tasks.row_itself, tasks.array_double], ids=lambda f: f.__name__)
@pytest.mark.parametrize("axis", [0, 1])
def test_arrays_have_the_type_that_all_columns_have_in_common(pool: Pool, function: Any, axis: int) -> None:
    """A whole number beside a fraction is a fraction, in columns that are worked at alone, too."""
    frame = pandas.DataFrame({"a": range(N), "b": [i / 3 for i in range(N)], "c": range(N)})
    same(adapter.apply(frame, function, axis, raw=True, pool=pool), frame.apply(function, axis=axis, raw=True))


@pytest.mark.parametrize(
    "function", [tasks.value_text, tasks.value_series, tasks.row_itself], ids=lambda each: each.__name__
)
def test_series(pool: Pool, function: Any) -> None:
    """Also by a function that returns what it was given, whatever that is."""
    for frame in FRAMES.values():
        for name in frame.columns:
            try:
                wanted = frame[name].apply(function)
            except TypeError:  # of categories, pandas makes categories
                with pytest.raises(TypeError):
                    adapter.apply(frame[name], function, pool=pool)
            else:
                same(adapter.apply(frame[name], function, pool=pool), wanted)


GROUPED: dict[str, Any] = {
    "one key": lambda frame: frame.groupby("k"),
    "not sorted": lambda frame: frame.groupby("k", sort=False),
    "two keys": lambda frame: frame.groupby(["k", "m"]),
    "without keys": lambda frame: frame.groupby("k", group_keys=False),
    "as columns": lambda frame: frame.groupby("k", as_index=False),
    "missing too": lambda frame: frame.groupby("n", dropna=False),
    "by a function": lambda frame: frame.groupby(lambda row: row % 3),
    "some columns": lambda frame: frame.groupby("k")[["x"]],
    "one column": lambda frame: frame.groupby("k")["x"],
    "of none": lambda frame: frame[:0].groupby("k"),
}


@pytest.mark.parametrize("group", GROUPED.values(), ids=GROUPED.keys())
@pytest.mark.parametrize("function", [tasks.length, tasks.head, tasks.group_name], ids=lambda each: each.__name__)
def test_groups(pool: Pool, group: Any, function: Any) -> None:
    frame = pandas.DataFrame(
        {"k": list("abca") * 5, "m": [1, 2] * 10, "n": [None, "u", "v", "u"] * 5, "x": [i / 7 for i in range(20)]}
    )
    same(adapter.apply(group(frame), function, pool=pool), group(frame).apply(function))


def test_what_the_function_raises_names_the_row(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no 17") as raised:
        adapter.apply(FRAMES["ints"], tasks.no_17, 1, pool=pool)
    assert "allcores: it was row 17" in raised.value.__notes__


def test_a_crash_names_the_rows() -> None:
    frame = pandas.DataFrame({"a": range(10)})
    with Pool(2) as pool, pytest.raises(WorkerLost, match=r"\(row 3\)"):
        adapter.apply(frame, tasks.die_at_3, 1, pool=pool)


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"takes a DataFrame, a Series or a groupby of pandas, and this is a builtins\.list"
    ):
        adapter.apply([1], abs)
    with pytest.raises(UsageError, match="are for a DataFrame"):
        adapter.apply(FRAMES["ints"]["a"], abs, 1)
    with Pool(2) as pool, pytest.raises(UsageError, match="cannot both be given"):
        adapter.apply(FRAMES["ints"], tasks.first, 1, pool=pool, workers=2)


def test_batches_of_polars() -> None:
    polars: Any = pytest.importorskip("polars")
    from allcores.adapters import polars as batches

    frame = polars.DataFrame({"a": range(1000), "b": [f"s{i}" for i in range(1000)]})
    with Pool(2) as pool:
        assert batches.map_batches(frame, tasks.polars_double, pool=pool).equals(tasks.polars_double(frame))
        assert batches.map_batches(frame, tasks.polars_column, rows=7, pool=pool).equals(frame.select("a"))
        assert (
            batches.map_batches(frame[:0], tasks.polars_double, pool=pool).schema
            == tasks.polars_double(frame[:0]).schema
        )
        with pytest.raises(UsageError, match="collect"):
            batches.map_batches(frame.lazy(), tasks.polars_double, pool=pool)
        with pytest.raises(UsageError, match="returned a int, and no frame"):
            batches.map_batches(frame, len, pool=pool)


def test_a_series_that_keeps_some_of_its_values_only(pool: Pool) -> None:
    """pandas calls the function for these, and once for all others: not for each row."""
    for values in ([0, 0, 1, 2, 0, 3] * 20, [None, 1.5, None, 2.5] * 20):
        series = pandas.Series(pandas.arrays.SparseArray(values))
        same(adapter.apply(series, tasks.tenfold, pool=pool), series.apply(tasks.tenfold))


@pytest.mark.parametrize("axis", [0, 1])
def test_functions_of_whole_arrays_are_left_to_pandas(pool: Pool, axis: int) -> None:
    """It gives them all at once, so that each column keeps its type."""
    frame = pandas.DataFrame({"a": range(-10, 10), "b": numpy.arange(20, dtype="float32")})
    same(adapter.apply(frame, numpy.abs, axis, pool=pool), frame.apply(numpy.abs, axis))
    same(adapter.apply(frame["b"], numpy.sqrt, pool=pool), frame["b"].apply(numpy.sqrt))
