"""Names that items give to the files of a folder, over rows, failures, and an input that changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.process.journals import journal

import allcores
from allcores import Pipeline
from allcores.runs import directory, remaining_by_key
from allcores.runs.index import RunIndex

ITEMS = 20


pytestmark = pytest.mark.usefixtures("here")


def two(number: int) -> list[int]:
    return [number * 10, number * 10 + 1]


def test_of_an_item_with_a_name_that_is_taken_the_other_rows_are_there() -> None:
    """Also of one that has failed in part before."""

    def named(part: int) -> tuple[str, str]:
        if part == 171:
            raise ValueError("no")
        return f"{part}.txt" if part % 10 else f"{part // 10 % 15}-0.txt", "text"

    side = Pipeline().write("side.jsonl")
    pipeline = Pipeline().flat_map(two).tee(side).map(named, on_error="skip").write("out/")
    result = pipeline.run(range(ITEMS), journal=journal(), backend="serial")
    assert (result.ok, result.failed) == (15, 5)
    assert len(Path("side.jsonl").read_text().splitlines()) == 2 * ITEMS
    assert set(os.listdir("out")) == {
        ".allcores", *(f"{n}-0.txt" for n in range(15)), *(f"{10 * n + 1}.txt" for n in range(ITEMS) if n != 17)
    }  # fmt: skip
    (known,) = directory.known_runs(str(Path("runs").resolve()))
    run_index = RunIndex(known.folder)
    found = [json.loads(row.record) for row in run_index.failures()]
    run_index.close()
    assert [each["index"] for each in found] == [15, 16, 17, 18, 19]
    assert found[2]["message"] == "no" and "gave the name" in found[2]["more_failures"][0]["message"]


def test_what_is_tried_again_may_give_the_names_that_it_gave() -> None:
    """An item that failed in part has rows already."""

    def named(part: int) -> tuple[str, str]:
        if part == 71 and not os.path.exists("mended"):
            raise ValueError("no")
        return f"{part}.txt", "text"

    pipeline = Pipeline().flat_map(two).map(named, on_error="skip", fuse=False).write("out/")
    assert pipeline.run(range(ITEMS), journal=journal(), backend="serial").failed == 1
    Path("mended").touch()
    result = pipeline.run(range(ITEMS), journal=journal(retry_failed=True), backend="serial")
    assert (result.ok, result.failed, len(os.listdir("out"))) == (ITEMS, 0, 2 * ITEMS + 1)


@pytest.mark.parametrize("blocks", [500, 1])
def test_a_name_of_what_is_not_in_the_input_any_more_is_free(monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    """Of a file that has changed, or is gone; however far the input was read by then. One that a file has is not."""
    monkeypatch.setattr(remaining_by_key, "BLOCK", blocks)
    for folder in "de":
        os.mkdir(folder)
    for name in "bcd":
        Path("e", name).write_text(name)

    def named(path: str) -> tuple[str, str]:
        return f"{os.path.basename(path)}.txt", Path(path).read_text()

    with allcores.Pool(backend="serial") as serial:
        serial.run(named, "?/*", "out/", journal=journal())
        Path("e/c").write_text("changed")
        os.rename("e/d", "d/d")
        serial.run(named, "?/*", "out/", journal=journal())
        found = {path.name: path.read_text() for path in Path("out").glob("*.txt")}
        assert found == {"b.txt": "b", "c.txt": "changed", "d.txt": "d"}
        Path("d/b").write_text("another")
        with pytest.raises(TypeError, match=r"gave the name 'b\.txt'"):
            serial.run(named, "?/*", "out/", journal=journal())
