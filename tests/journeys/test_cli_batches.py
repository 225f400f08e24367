"""`allcores run --batch` as a shell sees it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.process.scripts import Ended
from tests.process.warm import Interpreter

from allcores.cli.exits import Exit

Run = Callable[..., Ended]

WORK = """
import os

def double(items):
    assert type(items) is list
    return [2 * int(item) for item in items]

def sizes(items):
    return [len(items)] * len(items)

def picky(items):
    for item in items:
        if int(item) % 10 == 3 and not os.path.exists("mended"):
            raise ValueError("three")
        yield int(item)

def short(items):
    return items[1:]

def unwritable(items):
    return [{1, 2} if item == "3" else item for item in items]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "numbers.txt").write_text("".join(f"{n}\n" for n in range(30)))
    return tmp_path


@pytest.fixture
def run(folder: Path, warm: Interpreter) -> Run:
    """`python -m allcores run` with words, in the folder."""
    run = functools.partial(warm.run, folder=folder, environ={"ALLCORES_HOME": str(folder / "home")})
    return functools.partial(run, "run")


@pytest.mark.parametrize("batch", ["8", "auto"])
@pytest.mark.parametrize("output", ["-", "out.jsonl"])
def test_each_item_has_a_line(run: Run, folder: Path, batch: str, output: str) -> None:
    done = run("work.py:double", "numbers.txt", "--batch", batch, "-o", output)
    assert done.code == Exit.OK, done.err
    lines = done.lines if output == "-" else (folder / output).read_text().splitlines()
    assert lines == [str(2 * number) for number in range(30)]


def test_a_batch_has_as_many_items_as_were_asked_for(run: Run) -> None:
    sizes = [int(line) for line in run("work.py:sizes", "numbers.txt", "--batch", "16", "--workers", "1").lines]
    # A batch is not held back for an input that is slow, as a file is where a busy machine stops its reader.
    assert len(sizes) == 30 and max(sizes) == 16


@pytest.mark.parametrize("output", ["-", "out.jsonl"])
def test_failures_are_recorded_item_by_item(run: Run, folder: Path, output: str) -> None:
    words = ("work.py:picky", "numbers.txt", "--batch", "16", "--on-error", "record", "-o", output)
    done = run(*words)
    assert done.code == Exit.SOME_FAILED, done.err
    text = done.out if output == "-" else (folder / output).read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert [record["index"] for record in records if record["kind"] == "failed"] == [3, 13, 23]
    assert [record["value"] for record in records if record["kind"] == "ok"] == [n for n in range(30) if n % 10 != 3]


def test_a_value_that_is_no_json_fails_alone(run: Run) -> None:
    done = run("work.py:unwritable", "numbers.txt", "--batch", "16", "--on-error", "skip")
    assert (done.code, len(done.lines)) == (Exit.SOME_FAILED, 29)


@pytest.mark.parametrize("words", [(), ("-o", "out.jsonl"), ("-o", "out.jsonl", "--no-journal")])
@pytest.mark.parametrize("on_error", ["raise", "skip", "record"])
def test_too_few_results_end_the_command(run: Run, folder: Path, words: tuple[str, ...], on_error: str) -> None:
    """Whatever becomes of items that fail: it is the function that is wrong."""
    done = run("work.py:short", "numbers.txt", "--batch", "16", "--on-error", on_error, *words)
    assert done.code == Exit.STOPPED, done.err
    # Of 16 or 14 items, whichever is done first; of fewer where a busy machine has stopped the reader of the file.
    told = re.search(r"short\(\) was given a batch of (\d+) items?, and returned list of (\d+)", done.err)
    assert told is not None, done.err
    given, returned = map(int, told.groups())
    assert returned == given - 1 and given <= 16
    assert "Traceback" not in done.err
    assert not (folder / "out.jsonl").exists()


def test_a_run_goes_on_in_batches(run: Run, folder: Path) -> None:
    words = ("work.py:picky", "numbers.txt", "--batch", "16", "--on-error", "skip", "-o", "out.jsonl")
    assert run(*words).code == Exit.SOME_FAILED
    (folder / "mended").touch()
    done = run(*words, "--resume", "--retry-failed")
    assert done.code == Exit.OK, done.err
    assert (folder / "out.jsonl").read_text().splitlines() == [str(number) for number in range(30)]


@pytest.mark.parametrize("batch", ["0", "-3", "many", "1.5"])
def test_a_size_that_makes_no_sense_is_refused(run: Run, batch: str) -> None:
    done = run("work.py:double", "numbers.txt", "--batch", batch)
    assert done.code == Exit.USAGE
    assert f"{batch!r} is neither a whole number, 1 or more, nor auto" in done.err
