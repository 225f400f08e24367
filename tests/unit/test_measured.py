"""What `advise` and `tune` make of a command line: items and how many there are, code to paste, where files are put."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from allcores import UsageError
from allcores.advisor import advise
from allcores.advisor.measuring.sample import Sample
from allcores.advisor.model.code import code_for
from allcores.advisor.model.decision import Setting
from allcores.advisor.tuning import tune
from allcores.cli import measured
from allcores.cli.exits import CommandError
from allcores.cli.main import main

TEXT = "".join(f"zeile ä {number}\n" for number in range(300))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the command is given, with a program and an input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my-work.py").write_text("def length(line):\n    return len(line)\n")
    (tmp_path / "lines.txt").write_text(TEXT, encoding="latin-1")
    yield tmp_path
    sys.modules.pop("my-work", None)


def read(path: str) -> measured.Measured:
    reading = measured.Reading(None, "latin-1", None)
    return measured.Measured("own/my-work.py:length", (path,), (), reading, purpose="this")


@pytest.mark.parametrize(("path", "total"), [("lines.txt", 300), ("lines.txt.gz", None)])
def test_an_input_that_is_read_in_part_is_not_taken_for_all(
    path: str, total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("lines.txt.gz").write_bytes(gzip.compress(TEXT.encode("latin-1")))
    assert Sample(read(path).items).total == 300
    monkeypatch.setattr(measured, "READ_S", -1.0)
    given = read(path)
    found = Sample(given.items, total=given.total)
    assert (found.count, found.total) == (1, total)


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_function_that_computes_nothing_when_it_is_called_is_refused(kind: str, folder: Path) -> None:
    (folder / "own" / "my-work.py").write_text(f"{kind} length(line):\n    yield len(line)\n")
    with pytest.raises((UsageError, CommandError), match="does nothing by itself"):
        read("lines.txt")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # it is short, as one writes such code
@pytest.mark.parametrize("place", ["own/my-work.py", "~/my-work.py"])
def test_the_code_to_paste_finds_the_function_and_reads_the_input(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder / "own"))
    reading = measured.Reading(None, "latin-1", None)
    given = measured.Measured(f"{place}:length", ("lines.txt",), (), reading, purpose="this")
    space: dict[str, Any] = {}
    exec(code_for(Setting("serial"), given.names), space)
    assert space["results"] == [len(line) for line in TEXT.splitlines()]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize(("text", "separator"), [("a,b\n1,2\n", None), ("\ufeffa;b\n1;2\n", None), ("a%b\n1%2\n", "%")])
def test_the_code_to_paste_separates_the_fields_as_they_were_read(
    text: str, separator: str | None, folder: Path
) -> None:
    (folder / "rows.csv").write_text(text)
    reading = measured.Reading(None, "utf-8", separator)
    given = measured.Measured("own/my-work.py:length", ("rows.csv",), (), reading, purpose="this")
    space: dict[str, Any] = {}
    exec(code_for(Setting("serial"), given.names), space)
    assert space["items"] == list(given.items) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(("command", "module"), [("advise", advise), ("tune", tune)])
def test_files_are_put_where_the_command_was_given(
    command: str, module: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function may change the working folder."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")

    def named(*_: Any, **__: Any) -> Any:
        os.chdir(folder / "own")
        return SimpleNamespace(
            verdict="serial",
            save_html=lambda path: Path(path).write_text("page"),
            save_png=lambda path: Path(path).write_text("picture"),
        )

    monkeypatch.setattr(module, f"{command}_named", named)
    given = [command, "own/my-work.py:length", "lines.txt", "--encoding", "latin-1"]
    assert main([*given, "--html", "page.html", "--png", "own/picture.png"]) == 3
    assert (folder / "page.html").read_text() == "page"
    assert (folder / "own" / "picture.png").read_text() == "picture"
