"""Bad records of an input that are left out are counted, also where no journal keeps them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from allcores import Pipeline, Pool
from allcores.cli.main import main
from allcores.sources.chain import Chain
from allcores.sources.text_files import JsonLines, Lines


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setitem(sys.modules, "left_out_work", sys)
    monkeypatch.delitem(sys.modules, "left_out_work")
    Path("left_out_work.py").write_text(
        "from allcores import Pipeline\nstr = str\npipeline = Pipeline().map(str).enumerate().map(list)\n"
    )
    Path("in.jsonl").write_text("1\n{oops\n3\n")


@pytest.mark.parametrize(
    "words",
    [
        ("run", "left_out_work.py:str"),
        ("run", "left_out_work.py:str", "-o", "out.jsonl", "--no-journal"),
        ("run", "left_out_work.py:str", "-o", "out.jsonl", "--unordered"),
        ("pipe", "left_out_work.py:pipeline"),
        ("pipe", "left_out_work.py:pipeline", "-o", "out.jsonl", "--no-journal"),
    ],
    ids=" ".join,
)
def test_the_summary_counts_them(capfd: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    options = ("--bad-records", "skip", "--backend", "serial", "--no-progress")
    code = main([*words, "in.jsonl", *options])
    shown = capfd.readouterr().err
    assert code == 0 and "1 bad record left out\n" in shown, shown


@pytest.mark.parametrize("many", [False, True])
def test_so_does_the_result(many: bool) -> None:
    source: Any = JsonLines("in.jsonl", bad_records="skip")
    if many:
        Path("in.txt").write_bytes(b"\xff\nline\n\xfe\n")
        source = Chain([source, Lines("in.txt", bad_records="skip")])
    with Pool(backend="serial") as pool:
        result = pool.run(str, source, "out.jsonl", journal=False)
    assert (result.ok, result.skipped) == ((3, 3) if many else (2, 1))
    assert Pipeline().write("p.jsonl").run(source, journal=False, backend="serial").skipped == result.skipped
