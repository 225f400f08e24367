"""A time limit of the program, by SIGALRM: what its handler raises is raised, and is no fault of a file.

Most raise TimeoutError, which is an OSError: it looks like what reading and writing raise, too.
"""

from __future__ import annotations

import gzip
import itertools
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.installed import late
from tests.process.alarms import At

from allcores import Outcome, slices
from allcores.nlp import ChatSource
from allcores.outcome import Kind
from allcores.sinks.json_stream import JsonLinesSink, OutputError
from allcores.sources.files import Files
from allcores.sources.open import from_inputs

np = late("numpy")
h5py = late("h5py")
pyarrow = late("pyarrow")
parquet = late("pyarrow.parquet")


def out_of_time() -> None:
    raise TimeoutError("out of time")


def lost_moments(door: Callable[[], Any], at_most: int = 3_000) -> list[tuple[str, int, str]]:
    """Where what the handler raises does not arrive: each line is tried once."""
    lost: list[tuple[str, int, str]] = []
    tried = set()
    for number in itertools.count(1):
        at = At(number)
        try:
            with at:
                door()
        except TimeoutError as error:
            raised = str(error) == "out of time"
        except Exception:
            raised = False
        else:
            raised = False
        if at.where is None:
            return lost
        # What closes a file that nobody wants any more tells nothing of it, nor does what the collector calls.
        if not raised and at.where not in tried and at.where[2] not in ("drop", "_collected"):
            lost.append(at.where)
        tried.add(at.where)
        assert number < at_most
    raise AssertionError


def rows_of_a_query(path: str) -> list[Any]:
    """A signal comes while it is executed."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from allcores.sources.sql import SqlQuery

    def ring(*_: Any) -> None:
        signal.raise_signal(signal.SIGALRM)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", ring)
    try:
        return list(SqlQuery("sqlite://", "SELECT 1 AS one ORDER BY 1"))
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", ring)


READING: dict[str, Callable[[str], list[Any]]] = {
    "lines": lambda path: list(from_inputs([path], format="lines")),
    "jsonl": lambda path: list(from_inputs([path], format="jsonl")),
    "csv": lambda path: list(from_inputs([path], format="csv")),
    "chat": lambda path: list(ChatSource(path, format="jsonl")),
    "table of chat": lambda path: list(ChatSource(path, format="csv", names={"text": "1"})),
    "json of chat": lambda path: list(ChatSource(path, format="json")),
    "query": rows_of_a_query,
}


@pytest.mark.parametrize("how", READING)
def test_a_time_limit_while_an_input_is_waited_for_is_no_fault_of_the_file(on_alarm: Any, how: str) -> None:
    """It is what the program raised, and not a sentence that the file cannot be read."""

    def over() -> None:
        raise TimeoutError("time is up")

    on_alarm(over)
    reader, writer = os.pipe()
    try:
        os.write(writer, b"1\n2\n")
        if how != "query":
            signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(TimeoutError, match=r"^time is up$"):
            READING[how](f"/dev/fd/{reader}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.close(reader)
        os.close(writer)


FILES: dict[str, Callable[[], Any]] = {
    "a.txt": lambda: Path("a.txt").write_text("one\ntwo\n"),
    "a.txt.gz": lambda: Path("a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n")),
    "a.jsonl": lambda: Path("a.jsonl").write_text('{"a": 1}\n{"a": 2}\n'),
    "a.csv": lambda: Path("a.csv").write_text("a,b\n1,2\n3,4\n"),
    "a.npy": lambda: np.save("a.npy", np.arange(100.0)),
    "a.h5": lambda: h5_file("a.h5"),
    "a.parquet": lambda: parquet.write_table(pyarrow.table({"a": [1, 2, 3]}), "a.parquet", row_group_size=2),
}


def h5_file(name: str) -> None:
    with h5py.File(name, "w") as file:
        file["x"] = np.arange(100.0)


def each_slice(made: Iterable[slices.Slice]) -> list[Any]:
    return [each.load() for each in made]


READ: list[tuple[str, Callable[[str], Any]]] = [
    *((name, lambda name: list(from_inputs([name]))) for name in FILES if name != "a.npy" and name != "a.h5"),
    ("a.txt", lambda name: list(Files("*.txt"))),
    ("a.txt", lambda name: list(ChatSource(name))),
    ("a.txt", lambda name: each_slice(slices.lines(name, slice_bytes=4))),
    ("a.npy", lambda name: each_slice(slices.npy(name, rows=50))),
    ("a.npy", lambda name: each_slice(slices.memmap(name, "u1", rows=500))),
    ("a.h5", lambda name: each_slice(slices.hdf5(name, rows=50))),
    ("a.parquet", lambda name: each_slice(slices.parquet(name))),
]


# What is opened in a line is closed by the garbage collector if a signal comes before the next one has it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", range(len(READ)))
def test_a_time_limit_at_any_line_of_reading(on_alarm: Any, here: Path, number: int) -> None:
    on_alarm(out_of_time)
    name, read = READ[number]
    FILES[name]()
    assert lost_moments(lambda: read(name)) == []


def test_a_time_limit_while_a_line_is_written(on_alarm: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing follows what may be a part of a line."""
    on_alarm(out_of_time)
    with monkeypatch.context() as patched:
        patched.setattr("allcores.sinks.json_stream.FLUSH_CHARACTERS", 1)
        sink = JsonLinesSink.open("out.jsonl")
        patched.setattr(os, "write", lambda *_: signal.raise_signal(signal.SIGALRM))
        with pytest.raises(TimeoutError, match=r"^out of time$"):
            sink.write(Outcome(0, Kind.OK, value="1"))
    with pytest.raises(OutputError, match=r"out\.jsonl: out of time"):
        sink.close()
    assert Path("out.jsonl").read_text() == ""
