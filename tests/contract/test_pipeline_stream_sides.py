"""Sides of a stream: `tee` with `imap` and `outcomes`."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract import pipeline_tasks as tasks

from allcores import JournalError, Kind, Limits, Pipeline, UsageError
from allcores.pipelines import side_outputs
from allcores.runs.spool import Spool
from allcores.sinks.base import Block
from allcores.sinks.json_lines import JsonLinesFile


@pytest.fixture(scope="module", params=("processes", "serial"))
def place(request: pytest.FixtureRequest) -> Any:
    return request.param


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sided(tmp: Path) -> Pipeline:
    """A line with two sides, of which one has a side itself."""
    inner = Pipeline().map(tasks.double).write(tmp / "inner.jsonl")
    outer = Pipeline().filter(tasks.is_even).tee(inner).map(tasks.as_text).write(tmp / "outer.jsonl")
    batches = Pipeline().batch(4).map(sum).write(tmp / "batches.jsonl")
    return Pipeline().map(tasks.increment).tee(outer, batches).map(tasks.double)


@pytest.mark.quick
def test_sides_are_written_when_the_stream_was_read_to_its_end(place: Any, tmp_path: Path) -> None:
    with sided(tmp_path).imap(range(50), workers=2, backend=place) as stream:
        first = next(stream)
        assert os.listdir(tmp_path) == []
        assert [first, *stream] == [2 * (number + 1) for number in range(50)]
    assert read(tmp_path / "outer.jsonl") == [repr(number) for number in range(2, 51, 2)]
    assert read(tmp_path / "inner.jsonl") == [2 * number for number in range(2, 51, 2)]
    assert read(tmp_path / "batches.jsonl") == [sum(range(begin, min(begin + 4, 51))) for begin in range(1, 51, 4)]


def test_a_stream_and_a_run_write_the_same(place: Any, tmp_path: Path) -> None:
    for name in ("run", "stream"):
        (tmp_path / name).mkdir()
    sided(tmp_path / "run").write(tmp_path / "run/all.jsonl").run(range(300), journal=False, workers=2, backend=place)
    found = list(sided(tmp_path / "stream").imap(range(300), workers=2, backend=place))
    assert found == read(tmp_path / "run/all.jsonl")
    for name in ("outer.jsonl", "inner.jsonl", "batches.jsonl"):
        assert (tmp_path / "stream" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_a_record_that_fails_before_the_sides_has_one_outcome(place: Any, tmp_path: Path) -> None:
    """Not one for each line that it would have gone into."""
    inner = Pipeline().write(tmp_path / "inner.jsonl")
    sides = Pipeline().tee(inner).write(tmp_path / "outer.jsonl"), Pipeline().write(tmp_path / "other.jsonl")
    line = Pipeline().map(tasks.fails_at_seven, on_error="record").tee(*sides).map(tasks.double)
    found = list(line.outcomes(range(10), workers=2, backend=place))
    assert [outcome.value for outcome in found if outcome.ok] == [2 * number for number in range(10) if number != 7]
    (failed,) = (outcome for outcome in found if not outcome.ok)
    assert (failed.index, failed.kind, failed.item) == (7, Kind.FAILED, 7)


def _source_that_raises(count: int) -> Iterator[int]:
    yield from range(count)
    raise OSError("gone")


@pytest.mark.parametrize("raises", ["source", "record"])
def test_results_from_before_an_error_come_before_it(place: Any, tmp_path: Path, raises: str) -> None:
    """Though the error is at the end of a side long before they are at theirs."""
    line = Pipeline().map(tasks.increment if raises == "source" else tasks.fails_at_seven)
    line = line.tee(Pipeline().write(tmp_path / "side.jsonl")).map(tasks.double, fuse=False, chunk=1)
    source = _source_that_raises(7) if raises == "source" else iter(range(100))
    found = []
    with line.imap(source, workers=2, backend=place) as stream, pytest.raises((OSError, ValueError)):
        for value in stream:
            found.append(value)
    assert found == [2 * (number + (raises == "source")) for number in range(7)]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("way", ["left", "closed", "stopped", "failed", "never read"])
def test_without_its_end_there_is_no_output(way: str, tmp_path: Path) -> None:
    pipeline = sided(tmp_path).map(tasks.fails_at_seven if way != "failed" else _fails)
    stream = pipeline.imap(range(5_000), backend="serial", limits=Limits(items_in_flight=20))
    if way == "left":
        with stream:
            next(stream)
    elif way == "closed":
        next(stream)
        stream.close()
    elif way == "stopped":
        next(stream)
        stream.stop()
        assert len(list(stream)) < 1_000
    elif way == "failed":
        with pytest.raises(ValueError, match="seven"):
            list(stream)
    else:
        stream.close()
    assert os.listdir(tmp_path) == []


def _fails(number: int) -> int:
    if number >= 40:
        raise ValueError("seven")
    return number


def test_outcomes_of_a_pipeline_with_sides(place: Any, tmp_path: Path) -> None:
    """What fails in a side is told, and costs its own row."""
    side = Pipeline().map(tasks.fails_at_seven, on_error="record").write(tmp_path / "side.jsonl")
    pipeline = Pipeline().tee(side).map(tasks.double)
    found = list(pipeline.outcomes(range(20), workers=2, backend=place))
    assert [outcome.value for outcome in found if outcome.ok] == [2 * number for number in range(20)]
    (failed,) = [outcome for outcome in found if not outcome.ok]
    assert (failed.kind, failed.item) == (Kind.FAILED, 7) and "fails_at_seven" in str(failed.error.__notes__)
    assert read(tmp_path / "side.jsonl") == [number for number in range(20) if number != 7]


def test_a_line_that_ends_early_leaves_sides_whole(tmp_path: Path) -> None:
    pipeline = Pipeline().tee(Pipeline().write(tmp_path / "side.jsonl")).islice(3)
    assert list(pipeline.imap(range(100), backend="serial")) == [0, 1, 2]
    assert read(tmp_path / "side.jsonl") == list(range(100))


@pytest.mark.parametrize("way", ["imap", "outcomes", "run"])
def test_what_fails_behind_the_end_of_the_line_is_told(way: str, place: Any, tmp_path: Path) -> None:
    """Its side wants that record still: it is not missing there without a word, and nobody waits for ever."""
    side = Pipeline().write(tmp_path / "side.jsonl")
    line = Pipeline().map(tasks.fails_at_seven).tee(side).map(tasks.double, fuse=False).islice(3)
    if way == "outcomes":
        found = list(line.outcomes(range(20), workers=2, backend=place))
        assert [outcome.value for outcome in found if outcome.ok] == [0, 2, 4]
        assert [outcome.item for outcome in found if not outcome.ok] == [7]
        assert read(tmp_path / "side.jsonl") == [number for number in range(20) if number != 7]
        return
    with pytest.raises(ValueError, match="seven"):
        if way == "imap":
            list(line.imap(range(20), workers=2, backend=place))
        else:
            line.write(tmp_path / "out.jsonl").run(range(20), journal=False, workers=2, backend=place)
    assert os.listdir(tmp_path) == []


def test_rows_wait_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any number of rows a few are in memory, and the source is read no further than the consumer is."""
    monkeypatch.setattr(side_outputs, "MOST_ROWS", 8)
    counts: list[int] = []
    added = Spool.add

    def add(self: Spool, entry: Any) -> None:
        assert isinstance(entry, Block)
        counts.append(entry.count)
        added(self, entry)

    monkeypatch.setattr(Spool, "add", add)
    read_so_far = given = most = 0

    def source() -> Iterator[int]:
        nonlocal read_so_far
        for number in range(5_000):
            read_so_far += 1
            yield number

    pipeline = Pipeline().tee(Pipeline().map(tasks.double).write(tmp_path / "side.jsonl")).map(tasks.increment)
    for _ in pipeline.imap(source(), backend="threads", workers=2, limits=Limits(items_in_flight=60, depth=1)):
        given += 1
        most = max(most, read_so_far - given)
    assert given == sum(counts) == 5_000 and max(counts) == 8
    assert most < 400
    assert read(tmp_path / "side.jsonl") == [2 * number for number in range(5_000)]


def named(number: int) -> tuple[str, bytes]:
    return f"{number % 4}.txt", b"x"


def test_what_cannot_work_is_said_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("1\n2\n")
    side = Pipeline().write("a.jsonl")
    with pytest.raises(UsageError, match="two parts of the pipeline"):
        Pipeline().tee(side, Pipeline().write("./a.jsonl")).imap([1])
    with pytest.raises(UsageError, match="no folder gone"):
        Pipeline().tee(Pipeline().write("gone/a.jsonl")).imap([1])
    for source in ("in.txt", iter(["in.txt"])):
        with pytest.raises(UsageError, match="is an input, and would be overwritten"):
            list(Pipeline().tee(Pipeline().write(JsonLinesFile("in.txt"))).imap(source, backend="serial"))
    assert Path("in.txt").read_text() == "1\n2\n" and os.listdir() == ["in.txt"]


def test_a_name_that_comes_twice_ends_the_stream(tmp_path: Path) -> None:
    pipeline = Pipeline().tee(Pipeline().map(named).write(f"{tmp_path}/out/"))
    with pytest.raises(TypeError, match=r"gave the name '.*/0\.txt', which an earlier row has"):
        list(pipeline.imap(range(9), backend="serial"))
    assert os.listdir(tmp_path) == []


def test_a_time_limit_while_a_side_is_written_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TimeoutError is an OSError, too; there is no output then."""

    def handler(number: int, frame: Any) -> None:
        raise TimeoutError("time is up")

    def slow(self: Spool, entry: Any) -> None:
        signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(Spool, "add", slow)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        pipeline = Pipeline().tee(Pipeline().write(tmp_path / "side.jsonl"))
        with pytest.raises(TimeoutError, match="time is up"):
            list(pipeline.imap(range(2_000), backend="serial"))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Spool, entry: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Spool, "add", full)
    pipeline = Pipeline().tee(Pipeline().write(tmp_path / "side.jsonl"))
    with pytest.raises(JournalError, match=r"cannot write .*side\.jsonl, a side of the pipeline: No space left"):
        list(pipeline.imap(range(2_000), backend="serial"))
    assert os.listdir(tmp_path) == []
