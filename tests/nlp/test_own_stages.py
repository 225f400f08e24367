"""Stages of a user's own: what they do wrongly costs their fields in that row, and what cannot work is told before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from allcores.errors import UsageError
from allcores.nlp import Stage, chat_pipeline
from allcores.nlp.records import Field, fitting

TEXTS = ["one", "bad", "three"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(tmp_path: Path, stages: list[Any], suffix: str = ".jsonl", **options: Any) -> list[dict[str, Any]]:
    """The rows of a run over TEXTS, as they are in its output."""
    path = tmp_path / f"out{suffix}"
    chat_pipeline(stages).run([{"text": text} for text in TEXTS], path, backend="serial", **options)
    if suffix == ".jsonl":
        return lines(path)
    table = pytest.importorskip("pyarrow.parquet").read_table(path)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def change(record: dict[str, Any]) -> dict[str, Any]:
    record["text_norm"] += "!"
    record["extra"] = 1
    record["words"].append("more")
    record["spots"][0]["end"] = 99
    if "bad" in record["text"]:
        raise ValueError("bad")
    return {"seen": record["text_norm"]}


WORDS = Stage(
    "words",
    each=lambda record: {"words": [record["text_norm"]], "spots": [{"start": 0, "end": 1}]},
    gives={"words": "list<string>", "spots": "ranges"},
)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("as_batch", [False, True])
def test_a_stage_that_changes_what_it_gets_changes_no_row(tmp_path: Path, batch: int, as_batch: bool) -> None:
    """Nor does what is behind it get the changes; a batch that runs again, one by one, has the rows as they were."""
    how: dict[str, Any] = (
        {"batch": lambda records: [change(each) for each in records]} if as_batch else {"each": change}
    )
    behind = Stage("behind", each=lambda record: {"last": record["text_norm"]}, gives={"last": "string"})
    rows = written(tmp_path, [WORDS, Stage("changes", gives={"seen": "string"}, **how), behind], batch=batch)
    assert [row["last"] for row in rows] == [row["text_norm"] for row in rows] == TEXTS
    assert [row["words"] for row in rows] == [[text] for text in TEXTS]
    assert all(row["spots"] == [{"start": 0, "end": 1}] for row in rows)
    assert [row.get("seen") for row in rows] == ["one!", None, "three!"]


class Numbers:
    """Numbers the rows, and does wrong what it is told to."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    def see(self, position: int, record: dict[str, Any]) -> None:
        if record["text"] == "bad" and self.wrong == "see":
            raise ValueError("cannot see")

    def fill(self, position: int, record: dict[str, Any]) -> None:
        if record["text"] == "bad" and self.wrong == "fill":
            raise ValueError("cannot fill")
        record["number"] = "two" if record["text"] == "bad" and self.wrong == "type" else position
        if record["text"] == "bad" and self.wrong == "name":
            record["other"] = 1


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("see", "numbers: ValueError: cannot see"),
        ("fill", "numbers: ValueError: cannot fill"),
        ("type", "numbers: TypeError: field 'number' holds whole numbers, not str"),
        ("name", "numbers: ValueError: field 'other' is not among those that the stage gives: number"),
    ],
)
def test_what_is_wrong_in_order_costs_that_row(tmp_path: Path, wrong: str, error: str, suffix: str) -> None:
    stage = Stage("numbers", in_order=Numbers, gives={"number": "int32"}, options={"wrong": wrong})
    rows = written(tmp_path, [stage], suffix)
    assert [row.get("number") for row in rows] == [0, None, 2]
    assert [row.get("error") for row in rows] == [None, error, None]
    messages = [{"text": text} for text in TEXTS]
    for given in (
        list(chat_pipeline([stage]).imap(messages, backend="serial")),
        list(chat_pipeline([stage]).steps().imap(messages, backend="serial")),
    ):
        assert [row["error"] for row in given] == [None, error, None]


def test_what_sees_in_order_is_made_before_the_work(tmp_path: Path) -> None:
    def make() -> Any:
        raise OSError("no such list")

    seen: list[str] = []

    def note(record: dict[str, Any]) -> dict[str, Any]:
        seen.append(record["text"])
        return {}

    stages = [Stage("notes", each=note, gives={"note": "string"}), Stage("late", in_order=make, gives={"n": "int32"})]
    with pytest.raises(UsageError, match=r"^stage 'late': its in_order= cannot be made: OSError: no such list$"):
        written(tmp_path, stages)
    assert not seen


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (
            [Stage("judge", each=dict, gives={"n": "int32"}, takes=("tokns",))],
            "takes tokns, .*: name one of the fields",
        ),
        ([Stage("judge", each=dict, gives={"n": "int32"}, takes=("tokens",))], "takes tokens, .*: put 'tokens' before"),
        (
            [
                Stage("unicode", each=dict, gives={"n": "int32"}, takes=("text",)),
                Stage("judge", each=dict, gives={"m": "int32"}),
            ],
            "takes text_norm, .*: let your 'unicode' give it",
        ),
    ],
)
def test_a_field_that_nothing_gives_is_refused(tmp_path: Path, stages: list[Stage], said: str) -> None:
    """All messages would be passed over, without a word."""
    pipeline = chat_pipeline(stages)
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "hello"}\n', encoding="utf-8")
    ways: list[Callable[[], Any]] = [
        lambda: pipeline.run(path, tmp_path / "out.jsonl", backend="serial"),
        lambda: pipeline.run([{"text": "hello"}], tmp_path / "out.jsonl", backend="serial"),
        lambda: list(pipeline.imap([{"text": "hello"}], backend="serial")),
    ]
    for way in ways:
        with pytest.raises(UsageError, match=f"^the stage 'judge' {said}"):
            way()
    assert not (tmp_path / "out.jsonl").exists()


def test_rows_that_were_made_before_have_what_is_taken() -> None:
    rows = list(chat_pipeline([WORDS]).imap([{"text": "hello"}], backend="serial"))
    count = Stage("count", each=lambda record: {"n": len(record["words"])}, gives={"n": "int32"}, takes=("words",))
    assert [row["n"] for row in chat_pipeline([count]).imap(rows, backend="serial")] == [1]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("float32", 1e300),
        ("spans", [{"type": "A", "start": 0, "end": 2.9}]),
        ("spans", [{"type": 3, "start": 0, "end": 2}]),
        ("spans", [{"type": "A", "start": -1, "end": 2}]),
        ("ranges", [{"start": 3, "end": 2}]),
        ("ranges", [{"start": 0, "end": 1 << 40}]),
        ("ranges", [{"start": None, "end": 1}]),
    ],
)
def test_what_a_column_cannot_hold_is_no_value_of_it(kind: Any, value: Any) -> None:
    """Parquet would have infinity, or end the run behind all of the work, and JSON something else."""
    with pytest.raises((TypeError, ValueError), match=r"^field 'x' holds "):
        fitting(Field("x", kind), value)


def test_truth_values_of_numpy_are_truth_values() -> None:
    assert fitting(Field("x", "bool"), numpy.float64(2) > 1) is True


def test_an_id_stays_one(tmp_path: Path) -> None:
    stage = Stage("names", each=lambda record: {"id": None}, gives={"id": "string"})
    rows = written(tmp_path, [stage, "conversation"])
    assert [row["id"] for row in rows] == ["item:1", "item:2", "item:3"]
    assert {row["error"] for row in rows} == {"names: ValueError: field 'id' cannot be None: other rows refer to it"}
