"""Groups of pandas frames: the result is pandas' own, whatever runs the function."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract import frame_tasks as tasks
from tests.process.waiting import Watcher, begin_records, wait_full_strength

from allcores import Pool, TaskTimeout, UsageError, WorkerLost, frames

pandas: Any = pytest.importorskip("pandas")
numpy: Any = pytest.importorskip("numpy")

PROCESSES = ("template", "spawn", "fork")
LIBRARY = "pandas"

pytestmark = pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")


@pytest.fixture(scope="module", params=(*PROCESSES, "threads", "serial"))
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def workers(place: str) -> Iterator[Pool | None]:
    """Processes live through all tests. What they keep open is theirs."""
    if place not in PROCESSES:
        yield None
        return
    watcher = Watcher()
    # A spawned worker imports pandas by itself, for half a second: one will do to see what it makes of groups.
    with Pool(1 if place == "spawn" else 2, start_method=place, observers=[watcher]) as pool:
        wait_full_strength(pool, watcher)
        pool.map(tasks.load, [LIBRARY] * 8, chunk=1)
        begin_records(pool)
        yield pool


@pytest.fixture
def pool(place: str, workers: Pool | None) -> Iterator[Pool]:
    if workers is not None:
        yield workers
        return
    with Pool(2, backend=place) as pool:
        yield pool


@pytest.fixture
def serial() -> Iterator[Pool]:
    with Pool(backend="serial") as pool:
        yield pool


def table() -> Any:
    """Columns of many types; keys that repeat, that are missing, and a category that does not occur."""
    number = 30
    return pandas.DataFrame(
        {
            "city": ["Rome", "Oslo", None, "Bonn", "Rome"] * 6,
            "size": pandas.Categorical(["s", "m", "s"] * 10, categories=["l", "m", "s"], ordered=True),
            "x": numpy.arange(number) % 7,
            "real": numpy.linspace(0, 1, number, dtype="float32"),
            "maybe": pandas.array([1, None, 3] * 10, dtype="Int16"),
            "text": pandas.array(["a", None, "c"] * 10, dtype="string"),
            "when": pandas.date_range("2024-03-30", periods=number, freq="h", tz="Europe/Paris"),
            "took": pandas.to_timedelta(numpy.arange(number), unit="s"),
            "object": [{"n": each} for each in range(number)],
            "flag": numpy.arange(number) % 2 == 0,
        },
        index=pandas.Index(numpy.arange(number)[::-1] * 2, name="place"),
    )


def theirs(frame: Any, by: Any, function: Callable[..., Any], **options: Any) -> Any:
    """What pandas makes of it, alone; the columns of the key are left out, as pandas 3 does."""
    names = by if isinstance(by, list) else [by]
    keys = [frame[name] for name in names]
    options = {"observed": True, **options}
    grouped = frame.drop(columns=names).groupby(keys if isinstance(by, list) else keys[0], **options)
    return grouped.apply(lambda rows: function(rows.copy() if function is tasks.write else rows))


def same(ours: Any, expected: Any) -> None:
    assert type(ours) is type(expected)
    compare = pandas.testing.assert_series_equal if expected.ndim == 1 else pandas.testing.assert_frame_equal
    compare(ours, expected)


FUNCTIONS = [tasks.total, tasks.rows, tasks.key, tasks.look, tasks.head, tasks.describe, tasks.one_row, tasks.write]


@pytest.mark.parametrize("by", ["city", ["city"], "size", ["size", "city"]], ids=str)
def test_the_result_is_that_of_pandas(pool: Pool, by: Any) -> None:
    for function in (*FUNCTIONS, tasks.nothing_for_small):
        frame = table()
        same(frames.apply_groups(frame, by, function, pool=pool), theirs(frame, by, function))
        pandas.testing.assert_frame_equal(frame, table())  # it was not written to


KEYS = {
    "text": st.sampled_from(["a", "b", "ü", None]),
    "number": st.sampled_from([3, 1, -2]),
    "real": st.sampled_from([0.5, -1.0, float("nan")]),
    "when": st.sampled_from([*pandas.date_range("2024-01-01", periods=3, tz="Asia/Tokyo"), None]),
    "kind": st.sampled_from(["q", "p", None]),
    "maybe": st.sampled_from([1, 2, None]),
}


def column(name: str, values: list[Any]) -> Any:
    if name == "kind":
        return pandas.Categorical(values, categories=["r", "q", "p"])
    if name == "maybe":
        return pandas.array(values, dtype="Int64")
    if name == "when":
        return pandas.DatetimeIndex(values, tz="Asia/Tokyo")
    return values


@st.composite
def frames_and_keys(draw: st.DrawFn) -> tuple[Any, Any]:
    """A frame, and the names of one or two columns to group it by."""
    length = draw(st.integers(0, 12))
    names = draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=2, unique=True))
    data = {name: column(name, draw(st.lists(KEYS[name], min_size=length, max_size=length))) for name in names}
    data["x"] = numpy.arange(length)
    data["text column"] = [f"row {number}" for number in range(length)]
    index = draw(st.sampled_from([numpy.arange(length), numpy.arange(length)[::-1], numpy.arange(length) // 2]))
    return pandas.DataFrame(data, index=index), names[0] if len(names) == 1 and draw(st.booleans()) else names


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames_and_keys(),
    st.sampled_from([*FUNCTIONS[:5], tasks.nothing_for_small]),
    st.fixed_dictionaries({}, optional={name: st.booleans() for name in ("sort", "dropna", "observed", "group_keys")}),
)
def test_any_frame_is_grouped_as_pandas_does(
    serial: Pool, frame_and_key: tuple[Any, Any], function: Callable[..., Any], options: dict[str, Any]
) -> None:
    frame, by = frame_and_key
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of pandas, of results that are all missing
        try:
            expected = theirs(frame, by, function, **options)
        except Exception as error:
            with pytest.raises(type(error)):
                frames.apply_groups(frame, by, function, pool=serial, **options)
            return
        same(frames.apply_groups(frame, by, function, pool=serial, **options), expected)


@pytest.mark.parametrize("by", ["size", ["size"], ["size", "x"]], ids=str)
@pytest.mark.parametrize("function", [tasks.rows, tasks.key, tasks.look, tasks.head, tasks.describe])
def test_a_frame_without_rows_has_groups_of_categories(serial: Pool, by: Any, function: Callable[..., Any]) -> None:
    """Those that do not occur are wanted, and none does."""
    frame = table()[["size", "x", "real", "text"]].iloc[:0]
    try:
        expected = theirs(frame, by, function, observed=False)
    except Exception as error:
        with pytest.raises(type(error)):
            frames.apply_groups(frame, by, function, pool=serial, observed=False)
        return
    same(frames.apply_groups(frame, by, function, pool=serial, observed=False), expected)


NUMBERS: list[Callable[[Any], Any]] = [
    lambda group: float(len(group)),
    len,
    lambda group: len(group) > 4,
    lambda group: numpy.float64(len(group)),
    lambda group: numpy.int64(len(group)),
]


@pytest.mark.parametrize("by", ["city", ["city"], "size", ["size", "city"], "text", ["maybe", "flag"], "when"], ids=str)
@pytest.mark.parametrize(("sort", "dropna"), [(True, True), (True, False), (False, False)])
def test_one_number_each_is_joined_at_once(
    serial: Pool, by: Any, sort: bool, dropna: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pandas would, and without its call for each group: there may be thousands, each of a few rows."""
    frame = table()
    options: dict[str, Any] = {"sort": sort, "dropna": dropna}
    expected = [frame.groupby(by, observed=True, **options).apply(function) for function in NUMBERS]
    few = frame.groupby(by, observed=True, **options).filter(lambda group: len(group) > 3)
    less = few.groupby(by, observed=True, **options).apply(len) if len(few) else None

    def apply(*_: Any) -> Any:
        raise AssertionError("joined group by group")

    monkeypatch.setattr(pandas.core.groupby.DataFrameGroupBy, "apply", apply)
    for function, wanted in zip(NUMBERS, expected, strict=True):
        found = frames.apply_groups(frame, by, function, pool=serial, **options)
        pandas.testing.assert_series_equal(found, wanted)

    def of_many(group: Any) -> int:
        if len(group) <= 3:
            raise ValueError("few")
        return len(group)

    if less is not None:
        found = frames.apply_groups(frame, by, of_many, pool=serial, on_error="skip", **options)
        pandas.testing.assert_series_equal(found, less)


def test_nothing_but_rows_without_a_key(pool: Pool) -> None:
    frame = pandas.DataFrame({"k": pandas.array([None, None], dtype="string"), "x": [1, 2]})
    for part in (frame, frame.iloc[:0]):
        same(frames.apply_groups(part, "k", tasks.total, pool=pool), theirs(part, "k", tasks.total))


def test_thousands_of_groups_travel_in_chunks(pool: Pool) -> None:
    frame = pandas.DataFrame({"k": numpy.arange(6000) % 3000, "x": numpy.arange(6000)})
    same(frames.apply_groups(frame, "k", tasks.total, pool=pool), frame.groupby("k")["x"].sum().rename(None))


def test_constants_and_what_setup_returned(pool: Pool) -> None:
    frame = table()
    added = frames.apply_groups(frame, "city", tasks.add, pool=pool, number=1000)
    same(added, theirs(frame, "city", tasks.total) + 1000)
    with Pool(1, backend="serial", setup=tasks.setup) as with_setup:
        times = frames.apply_groups(frame, "city", tasks.with_state, pool=with_setup)
        same(times, theirs(frame, "city", tasks.total) * 100)


def test_a_group_that_fails_is_named_by_its_key(pool: Pool) -> None:
    frame = pandas.DataFrame({"city": ["Rome", "Oslo", "Rome"], "year": [1, 2, 3], "x": [1, 13, 2]})
    with pytest.raises(ValueError, match="thirteen") as raised:
        frames.apply_groups(frame, ["city", "year"], tasks.fail_for, pool=pool, how="raise")
    assert any("group city='Oslo', year=2" in note for note in raised.value.__notes__)
    left = frames.apply_groups(frame, "city", tasks.fail_for, pool=pool, how="raise", on_error="skip")
    assert left.to_dict() == {"Rome": 2}
    only = frame.iloc[1:2]
    assert len(frames.apply_groups(only, "city", tasks.fail_for, pool=pool, how="raise", on_error="skip")) == 0


def test_a_crash_and_a_deadline_name_the_key() -> None:
    frame = pandas.DataFrame({"city": ["Rome", "Oslo", "Rome"], "x": [1, 13, 2]})
    with Pool(2) as pool:
        with pytest.raises(WorkerLost, match="group city='Oslo'"):
            frames.apply_groups(frame, "city", tasks.fail_for, pool=pool, how="exit")
        with pytest.raises(TaskTimeout, match="group city='Oslo'"):
            frames.apply_groups(frame, "city", tasks.fail_for, pool=pool, how="sleep", timeout=1)
        left = frames.apply_groups(frame, "city", tasks.fail_for, pool=pool, how="exit", on_error="skip")
        assert left.to_dict() == {"Rome": 2}


def test_what_makes_no_sense_is_refused(serial: Pool) -> None:
    frame = table()
    twice = pandas.DataFrame([[1, 2]], columns=["a", "a"])
    wrong: list[tuple[Any, Any, dict[str, Any], str]] = [
        (frame, "town", {}, "there is no column 'town'; the frame has 'city', 'size'"),
        (frame, ["city", "city"], {}, "names a column twice"),
        (frame, [], {}, "names no column"),
        (frame, frame["city"], {}, "there is no column <Series>"),
        (twice, "a", {}, "there are 2 columns 'a'"),
        ([1, 2], "a", {}, "takes a DataFrame of pandas or polars"),
        (frame["x"], "a", {}, "takes a DataFrame of pandas or polars"),
        (frame, "city", {"tmieout": 3}, "did you mean timeout"),
        (frame, "city", {"n_jobs": 3}, "the word is workers"),
        (frame, "city", {"workers": 3}, "cannot both be given"),
        (frame, "city", {"on_error": "stop"}, "on_error"),
        (frame, "city", {"on_error": "skip", "observed": False}, "cannot both be given"),
    ]
    for given_frame, by, options, message in wrong:
        with pytest.raises(UsageError, match=message):
            frames.apply_groups(given_frame, by, tasks.total, pool=serial, **options)
    with pytest.raises(UsageError, match="cannot be called"):
        frames.apply_groups(frame, "city", "sum", pool=serial)  # type: ignore[arg-type]


def test_the_pool_of_the_module_does_it() -> None:
    frame = table()
    for workers, by in itertools.product((None, 1), ("city", "size")):
        same(frames.apply_groups(frame, by, tasks.total, workers=workers), theirs(frame, by, tasks.total))


def test_the_largest_groups_begin_first(serial: Pool) -> None:
    frame = pandas.DataFrame({"k": [1, 2, 2, 3, 3, 3], "x": range(6)})
    seen: list[int] = []
    frames.apply_groups(frame, "k", lambda group: seen.append(group.name), pool=serial)
    assert seen == [3, 2, 1]
