"""Failures of items whose own code raises where a journal asks for their text, and those of what is gone."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process.journals import journal

import allcores
from allcores.cli.exits import Exit
from allcores.cli.main import main
from allcores.runs.index import RunIndex
from allcores.sinks.json_lines import JsonLinesFile

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(params=["serial", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[allcores.Pool]:
    with allcores.Pool(2, backend=request.param) as pool:
        yield pool


def failures(result: allcores.RunResult) -> list[dict[str, Any]]:
    run_index = RunIndex(result.journal or "")
    try:
        return [json.loads(row.record) for row in run_index.failures()]
    finally:
        run_index.close()


@dataclasses.dataclass
class Order:
    """One that is not complete: its price comes later."""

    number: int
    price: float = dataclasses.field(init=False)


class Wordless(Exception):
    """Its message cannot be had."""

    def __str__(self) -> str:
        return str(self.args[7])


class TooSlow(Exception):
    """Its attribute is called like one of ours, and JSON has no number for it."""

    def __init__(self, timeout: float) -> None:
        super().__init__("too slow")
        self.timeout = timeout

    @property
    def signal(self) -> str:
        raise RuntimeError("there was none")


class Shy:
    """Nobody may see what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def no_order(order: Order) -> int:
    if order.number == 1:
        raise ValueError("no price")
    return order.number


def wordless(number: int) -> int:
    if number == 1:
        raise Wordless(number)
    return number


def slow(number: int) -> int:
    if number == 1:
        raise TooSlow(float("inf"))
    return number


def not_shy(item: Any) -> int:
    if isinstance(item, Shy):
        raise ValueError("shy")
    return int(item)


ODD: list[tuple[Any, list[Any], str]] = [
    (no_order, [Order(0), Order(1), Order(2)], "no price"),
    (wordless, [0, 1, 2], "<its message could not be formatted: IndexError>"),
    (slow, [0, 1, 2], "too slow"),
    (not_shy, [0, Shy(), 2], "shy"),
]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("function", "items", "message"), ODD)
def test_an_item_fails_whatever_its_code_does(
    pool: allcores.Pool, function: Any, items: list[Any], message: str, kept: bool
) -> None:
    """It is one failure, with as much as can be said of it; the others are in the output."""
    result = pool.run(function, items, "out.jsonl", journal=journal() if kept else False, on_error="record")
    assert (result.ok, result.failed) == (2, 1)
    records = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [record.get("value") for record in records] == [0, None, 2]
    assert records[1]["message"] == message
    if kept:
        assert failures(result)[0]["message"] == message


def refuse_all(item: Any) -> None:
    raise ValueError("no")


def test_a_large_item_is_told_in_short(pool: allcores.Pool) -> None:
    """If its text is for people alone. What JSON has is there whole, so that it can be tried again."""
    items = [b"x" * 1_000_000, {"data": bytearray(1_000_000)}, "t" * 100_000]
    result = pool.run(refuse_all, items, "out.jsonl", journal=journal(), on_error="skip")
    first, second, third = (each["item"] for each in failures(result))
    assert first.startswith("b'xxx") and first.endswith("(1,000,000 bytes)") and len(first) < 11_000
    assert second.startswith("{'data': bytearray(b'") and second.endswith("')}") and len(second) < 11_000
    assert third == items[2]


@pytest.mark.parametrize("kept", [True, False])
def test_one_that_ends_a_run_is_raised_as_it_is(pool: allcores.Pool, kept: bool) -> None:
    """Also if its message cannot be had."""
    with pytest.raises(Wordless):
        pool.run(wordless, [0, 1, 2], "out.jsonl", journal=journal() if kept else False)


def read_good(path: str) -> str:
    text = Path(path).read_text()
    if text == "bad":
        raise ValueError(path)
    return text


def test_failures_of_what_was_mended_or_is_gone_are_forgotten(pool: allcores.Pool) -> None:
    """What `allcores runs show` and `failures` tell is about the input as it is."""
    odd = "files/e\udcff"  # the name of a file that is no text
    os.mkdir("files")
    for name, text in {"a": "good", "b": "bad", "c": "bad", "d": "bad", "e\udcff": "bad"}.items():
        Path("files", name).write_text(text)
    result = pool.run(read_good, "files/*", "out.jsonl", journal=journal(), on_error="skip")
    assert [each["message"] for each in failures(result)] == ["files/b", "files/c", "files/d", odd]
    Path("files/b").write_text("mended")
    os.remove("files/c")
    result = pool.run(read_good, "files/*", "out.jsonl", journal=journal(), on_error="skip")
    assert (result.ok, result.failed) == (2, 2)
    assert [(each["index"], each["message"]) for each in failures(result)] == [(2, "files/d"), (3, odd)]
    Path("files/c").write_text("bad")  # one that comes back has no outcome, and gets one
    result = pool.run(read_good, "files/*", "out.jsonl", journal=journal(), on_error="skip")
    assert (result.ok, result.failed) == (2, 3)
    assert {(each["index"], each["message"]) for each in failures(result)} == {(2, "files/c"), (3, "files/d"), (4, odd)}


def shouted(text: str) -> str:
    return text.upper()


@pytest.mark.parametrize("fuse", [True, False])
def test_a_file_that_has_moved_fails_in_a_pipeline(fuse: bool) -> None:
    """Its outcome has more to tell than that of a map, and is kept in another place than that of the file."""
    pipeline = allcores.Pipeline().map(read_good, on_error="skip").map(shouted, fuse=fuse).write("out.jsonl")
    os.mkdir("files")
    for name in "bcd":
        Path("files", name).write_text(f"good {name}")
    assert pipeline.run("files/*", journal=journal(), backend="serial").ok == 3
    Path("files/a").write_text("good a")
    Path("files/c").write_text("bad")
    result = pipeline.run("files/*", journal=journal(), backend="serial")
    assert (result.ok, result.failed) == (3, 1)
    assert Path("out.jsonl").read_text() == '"GOOD A"\n"GOOD B"\n"GOOD D"\n'
    assert [each["message"] for each in failures(result)] == ["files/c"]


def refuse_one(number: int) -> int:
    if number == 1:
        raise ValueError("one")
    return number


def refuse_two(number: int) -> int:
    if number == 2:
        raise ValueError("two")
    return number


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_skipped_is_no_record_of_the_output(pool: allcores.Pool, kept: bool) -> None:
    """Also where each item that returned is one; it is in the journal."""
    sink = JsonLinesFile("out.jsonl", records=True)
    result = pool.run(refuse_one, range(3), sink, journal=journal() if kept else False, on_error="skip")
    assert (result.ok, result.failed) == (2, 1)
    assert [json.loads(line)["index"] for line in Path("out.jsonl").read_text().splitlines()] == [0, 2]


@pytest.mark.parametrize("fuse", [True, False])
def test_each_stage_says_whether_its_failures_are_recorded(fuse: bool) -> None:
    """Of two stages one may record them, and the other leave them out."""
    first = allcores.Pipeline().map(refuse_one, on_error="record")
    pipeline = first.map(refuse_two, on_error="skip", fuse=fuse).write("out.jsonl")
    result = pipeline.run(range(4), journal=journal(), backend="serial")
    assert (result.ok, result.failed) == (2, 2)
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(each["index"], each.get("message")) for each in found] == [(0, None), (1, "one"), (3, None)]
    assert main(["runs", "--runs-dir", "runs", "export", "latest", "-o", "all.jsonl", "--records"]) == 0
    found = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    assert [each["kind"] for each in found] == ["ok", "failed", "failed", "ok"]


PIPELINE = """
from allcores import Pipeline

def refuse(number):
    if number in "bd":
        raise ValueError(number)
    return number

def twice(text):
    return [text, text.upper() if text != "e" else refuse("d")]

pipeline = Pipeline().map(refuse, on_error="record").flat_map(twice, on_error="skip")
"""


@pytest.mark.parametrize("output", ["-", "out.jsonl"])
def test_standard_output_has_what_a_file_has(output: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The same records, in the same order."""
    name = f"recording_to_{len(output)}"  # a module of the program's from then on
    Path(f"{name}.py").write_text(PIPELINE)
    Path("in.txt").write_text("a\nb\nc\ne\n")
    assert main(["pipe", f"{name}.py:pipeline", "in.txt", "-o", output, "-q", "--runs-dir", "runs"]) == Exit.SOME_FAILED
    text = capfd.readouterr().out if output == "-" else Path(output).read_text()
    found = [json.loads(line) for line in text.splitlines()]
    assert [(each["index"], each.get("value", each.get("message"))) for each in found] == [
        (0, "a"), (0, "A"), (1, "b"), (2, "c"), (2, "C"),
    ]  # fmt: skip
