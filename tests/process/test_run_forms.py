"""What of an earlier run can be gone on with, and what not; exports into another kind of output."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process.journals import journal

import allcores
from allcores.cli.main import main
from allcores.sources.text_files import JsonLines

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def pool() -> Iterator[allcores.Pool]:
    with allcores.Pool(backend="serial") as pool:
        yield pool


def text(item: Any) -> str:
    number = item["n"] if isinstance(item, dict) else item
    if number == 5 and not os.path.exists("mended"):
        raise ValueError("not now")
    return f"text {number}"


@pytest.mark.parametrize(("before", "now"), [("out/", "out"), ("out", "out/")])
def test_contents_of_files_and_lines_are_not_mixed(pool: allcores.Pool, before: str, now: str) -> None:
    """A slash more or less is another output, whose outcomes are kept in another form: that cannot be accepted."""
    with pytest.raises(ValueError, match="not now"):
        pool.run(text, range(10), before, journal=journal())
    Path("mended").touch()
    for options in ({}, {"accept_changes": True}):
        with pytest.raises(allcores.RunChanged, match=r"(?s)FolderOfFiles.*another form.*runs export") as raised:
            pool.run(text, range(10), now, journal=journal(**options))
        assert "accept" not in str(raised.value)
    assert not os.path.exists("out")
    pool.run(text, range(10), before, journal=journal())
    if before == "out":
        assert [json.loads(line) for line in Path("out").read_text().splitlines()] == [f"text {n}" for n in range(10)]
    else:
        assert Path("out/00000009.txt").read_text() == "text 9"


def test_rows_of_a_pipeline_and_values_are_not_mixed(pool: allcores.Pool) -> None:
    """An item of one has one line in the journal, an item of the other any number of rows."""
    with pytest.raises(ValueError, match="not now"):
        allcores.Pipeline().map(text).write("out.jsonl").run(range(10), journal=journal(), backend="serial")
    with pytest.raises(allcores.RunChanged, match="another form"):
        pool.run(text, range(10), "out.jsonl", journal=journal(accept_changes=True))


def test_outcomes_of_keys_are_not_taken_for_those_of_places(pool: allcores.Pool) -> None:
    """The third item of the journal need not be the third of the input."""
    Path("mended").touch()
    rows = [{"n": n} for n in range(4)]
    pool.run(text, rows, "out.jsonl", journal=journal(key="n"))
    pool.run(text, [{"n": 9}, *rows], "out.jsonl", journal=journal(key="n"))
    with pytest.raises(allcores.RunChanged, match="of keys or paths"):
        pool.run(text, [{"n": 9}, *rows], "out.jsonl", journal=journal(accept_changes=True))


def both_cases(number: int) -> dict[str, int]:
    return {"a": number, "A": -number} if number else {"a": 0}


def test_names_that_are_one_column_are_no_value_less(pool: allcores.Pool, capsys: pytest.CaptureFixture[str]) -> None:
    """An export of rows that SQLite cannot hold says so; it would have one of two values."""
    pool.run(both_cases, range(3), "out.jsonl", journal=journal())
    assert main(["runs", "--runs-dir", "runs", "export", "latest", "-o", "out.db"]) != 0
    assert "'a' and 'A', which are one column in SQLite" in capsys.readouterr().err
    assert main(["runs", "--runs-dir", "runs", "export", "latest", "-o", "out.csv"]) == 0
    assert Path("out.csv").read_text().splitlines() == ["a,A", "0,", "1,-1", "2,-2"]


def test_bad_records_that_were_left_out_stay_so(pool: allcores.Pool) -> None:
    """Items behind them have other numbers where they are none: that cannot be accepted, the other way round it can."""
    Path("in.jsonl").write_text('{"n": 1}\nno JSON\n{"n": 5}\n{"n": 6}\n')
    skipping = JsonLines("in.jsonl", bad_records="skip")
    pool.run(text, skipping, "out.jsonl", journal=journal(), on_error="skip")
    Path("mended").touch()
    again = {"retry_failed": True, "accept_changes": True}
    with pytest.raises(allcores.RunChanged, match="--bad-records skip"):
        pool.run(text, "in.jsonl", "out.jsonl", journal=journal(**again), on_error="skip")
    pool.run(text, skipping, "out.jsonl", journal=journal(retry_failed=True), on_error="skip")
    assert Path("out.jsonl").read_text() == '"text 1"\n"text 5"\n"text 6"\n'
    with pytest.raises(allcores.UsageError, match="line 2: not JSON"):
        pool.run(text, "in.jsonl", "second.jsonl", journal=journal())
    result = pool.run(text, skipping, "second.jsonl", journal=journal(accept_changes=True))
    assert (result.ok, result.skipped) == (3, 1)
