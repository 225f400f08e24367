"""Groups of polars frames: the result is polars' own, whatever runs the function."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract import frame_tasks as tasks
from tests.process.waiting import Watcher, begin_records, wait_full_strength

import allcores
from allcores import NotSupported, Pool, UsageError, frames

polars: Any = pytest.importorskip("polars")
testing: Any = pytest.importorskip("polars.testing")
allcores_polars: Any = pytest.importorskip("allcores.adapters.polars")

PROCESSES = ("template", "spawn")
LIBRARY = "polars"


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    """polars opens descriptors at its first use, and keeps them."""
    frames.apply_groups(table(), "city", tasks.doubled, workers=1)
    theirs(table(), "city", tasks.doubled)
    allcores.close()


@pytest.fixture(scope="module", params=("template", "spawn", "threads", "serial"))
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def workers(place: str) -> Iterator[Pool | None]:
    """Processes live through all tests. What they keep open is theirs."""
    if place not in PROCESSES:
        yield None
        return
    watcher = Watcher()
    with Pool(2, start_method=place, observers=[watcher]) as pool:
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
    number = 30
    begin = datetime.datetime(2024, 3, 30)
    return polars.DataFrame(
        {
            "city": ["Rome", "Oslo", None, "Bonn", "Rome"] * 6,
            "size": polars.Series(["s", "m", "s"] * 10, dtype=polars.Enum(["l", "m", "s"])),
            "kind": polars.Series(["q", None, "p"] * 10, dtype=polars.Categorical),
            "x": [each % 7 for each in range(number)],
            "real": polars.Series([each / 7 for each in range(number)], dtype=polars.Float32),
            "when": polars.Series(
                [begin + datetime.timedelta(hours=each) for each in range(number)]
            ).dt.replace_time_zone("Europe/Paris", non_existent="null", ambiguous="earliest"),
            "list": [[each] * (each % 3) for each in range(number)],
            "struct": [{"a": each, "b": str(each)} for each in range(number)],
            "bytes": [b"x" * each for each in range(number)],
        }
    )


def theirs(frame: Any, by: Any, function: Any) -> Any:
    return frame.group_by(by, maintain_order=True).map_groups(function)


@pytest.mark.parametrize("by", ["city", ["city"], "size", ["kind", "city"]], ids=str)
def test_the_result_is_that_of_polars(pool: Pool, by: Any) -> None:
    for function in (tasks.rows, tasks.head, tasks.doubled, tasks.write_polars):
        frame = table()
        testing.assert_frame_equal(
            frames.apply_groups(frame, by, function, pool=pool), theirs(frame.clone(), by, function)
        )
        testing.assert_frame_equal(frame, table())  # it was not written to


def test_values_and_dicts_stand_beside_their_keys(pool: Pool) -> None:
    frame = polars.DataFrame({"k": ["b", None, "a", "b"], "x": [1, 2, 3, 4]})
    assert frames.apply_groups(frame, "k", tasks.counted, pool=pool).rows() == [
        ("b", 2, 4),
        (None, 1, 2),
        ("a", 1, 3),
    ]
    sums = frames.apply_groups(frame, "k", tasks.total, pool=pool, sort=True, dropna=True)
    assert sums.columns == ["k", "value"]
    assert sums.rows() == [("a", 3), ("b", 5)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_frame_is_grouped_as_polars_does(serial: Pool, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 12))
    kinds = {
        "text": st.sampled_from(["a", "ü", None]),
        "number": st.sampled_from([3, -2, None]),
        "real": st.sampled_from([0.5, float("nan"), None]),
        "day": st.sampled_from([datetime.date(2024, 1, 1), datetime.date(2023, 1, 1), None]),
    }
    schema = {"text": polars.String, "number": polars.Int8, "real": polars.Float64, "day": polars.Date}
    by = data.draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=2, unique=True))
    columns = {name: data.draw(st.lists(kinds[name], min_size=length, max_size=length)) for name in by}
    frame = polars.DataFrame({**columns, "x": range(length)}, schema_overrides={name: schema[name] for name in by})
    for function in (tasks.rows, tasks.head, tasks.doubled):
        testing.assert_frame_equal(frames.apply_groups(frame, by, function, pool=serial), theirs(frame, by, function))
    dropped = frames.apply_groups(frame, by, tasks.rows, pool=serial, dropna=True, sort=True)
    expected = frame.drop_nulls(by).sort(by, maintain_order=True)
    testing.assert_frame_equal(dropped, expected)


def test_an_empty_frame_gives_an_empty_one(serial: Pool) -> None:
    frame = table().clear()
    testing.assert_frame_equal(frames.apply_groups(frame, "city", tasks.rows, pool=serial), frame)


@pytest.mark.parametrize("kind", ["Int128", "UInt128", "Float16"])
def test_a_column_of_a_type_that_arrow_does_not_have(pool: Pool, kind: str) -> None:
    """polars has more types than pyarrow reads: such a frame travels as polars writes it."""
    if not hasattr(polars, kind):
        pytest.skip("this polars does not have it")
    frame = table().with_columns(large=polars.col("x").cast(getattr(polars, kind)))
    for by in ("city", "large"):
        found = frames.apply_groups(frame, by, tasks.rows, pool=pool)
        testing.assert_frame_equal(found, theirs(frame, by, tasks.rows))
    testing.assert_frame_equal(allcores_polars.map_batches(frame, tasks.rows, rows=7, pool=pool), frame)


def test_rows_are_read_where_they_lie() -> None:
    """Workers do not copy the shared rows: an array of a group's column points into memory of the pool."""
    frame = polars.DataFrame({"k": [1, 2] * 5000, "x": range(10_000)})
    with Pool(1) as pool:
        assert frames.apply_groups(frame, "k", addresses, pool=pool)["inside"].to_list() == [True, True]


def addresses(group: Any) -> dict[str, bool]:
    """Whether the numbers of a group are in shared memory, as this process's table of mappings has it."""
    at = group["x"].to_numpy(allow_copy=False).__array_interface__["data"][0]
    with open("/proc/self/maps") as lines:
        for line in lines:
            start, end = (int(each, 16) for each in line.split()[0].split("-"))
            if start <= at < end:
                return {"inside": "memfd" in line}
    return {"inside": False}


def test_a_group_that_fails_is_named_by_its_key(pool: Pool) -> None:
    frame = polars.DataFrame({"city": ["Rome", "Oslo", "Rome"], "x": [1, 13, 2]})
    with pytest.raises(ValueError, match="thirteen") as raised:
        frames.apply_groups(frame, "city", tasks.fail_for, pool=pool, how="raise")
    assert any("group city='Oslo'" in note for note in raised.value.__notes__)
    left = frames.apply_groups(frame, "city", tasks.fail_for, pool=pool, how="raise", on_error="skip")
    assert left.rows() == [("Rome", 2)]


def test_what_makes_no_sense_is_refused(serial: Pool) -> None:
    frame = polars.DataFrame({"k": [1, 2], "x": [13, 2]})
    wrong: list[tuple[Any, str, dict[str, Any], str]] = [
        (frame.lazy(), "k", {}, "collect"),
        (frame, "town", {}, "there is no column 'town'"),
        (frame, "k", {"observed": True}, "observed= is for frames of pandas"),
        (frame, "k", {"group_keys": False}, "group_keys= is for frames of pandas"),
    ]
    for given_frame, by, options, message in wrong:
        with pytest.raises(UsageError, match=message):
            frames.apply_groups(given_frame, by, tasks.total, pool=serial, **options)
    with pytest.raises(UsageError, match=r"different kinds of results.*DataFrame for group k=1 and int for group k=2"):
        frames.apply_groups(frame, "k", lambda group: group if 13 in group["x"] else 3, pool=serial)
    with pytest.raises(UsageError, match="'k' is in the group's key"):
        frames.apply_groups(frame, "k", lambda group: {"k": 1}, pool=serial)
    objects = frame.with_columns(polars.Series("o", [object(), object()], dtype=polars.Object))
    with pytest.raises(NotSupported, match="column 'o' holds Python objects"):
        frames.apply_groups(objects, "k", tasks.total, pool=serial)


@pytest.mark.filterwarnings("ignore:start_method='fork':RuntimeWarning")
def test_fork_is_refused() -> None:
    """The threads of polars are not forked along: it would wait for them without end."""
    with Pool(1, start_method="fork") as pool, pytest.raises(NotSupported, match="threads are not forked along"):
        frames.apply_groups(table(), "city", tasks.rows, pool=pool)


def test_a_key_may_be_called_as_the_column_of_values() -> None:
    frame = polars.DataFrame({"value": [2, 1, 2], "other": [1, 2, 3]})
    with Pool(backend="serial") as pool:
        found = frames.apply_groups(frame, "value", len, pool=pool)
        assert found.columns == ["value", "value_right"] and found.rows() == [(2, 2), (1, 1)]
        assert frames.apply_groups(frame, ["value", "other"], len, pool=pool, sort=True).rows()[0] == (1, 2, 1)


def test_a_result_that_makes_no_frame_is_told_as_it_comes() -> None:
    """And not once hours of work are done."""
    calls: list[int] = []

    def again(group: Any) -> dict[str, Any]:
        calls.append(len(group))
        return {"k": 1}

    with Pool(backend="serial") as pool, pytest.raises(UsageError, match="'k' is in the group's key"):
        frames.apply_groups(polars.DataFrame({"k": range(100)}), "k", again, pool=pool, chunk=1)
    assert len(calls) < 100
