"""`progress=True`: a bar for one map, in terminals and notebooks, and nothing elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import allcores
from allcores import Pool, UsageError
from allcores.pool.pool import driver_of

pytest.importorskip("rich")


def double(number: int) -> int:
    if number == 7:
        raise ValueError("no sevens")
    return 2 * number


def whole(number: int) -> int:
    return number


def total(left: int, right: int) -> int:
    return left + right


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error is taken for one."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the outputs of its cell hold, one after the other, each in its last state."""
    cells: list[str] = []

    class Handle:
        def __init__(self) -> None:
            self.place = len(cells)
            cells.append("")

        def update(self, data: dict[str, str], *, raw: bool) -> None:
            assert raw
            cells[self.place] = data["text/plain"]

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        handle = Handle()
        handle.update(data, raw=raw)
        return handle

    module: Any = ModuleType("IPython.display")
    module.display = display
    package: Any = ModuleType("IPython")
    package.display = module
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    return cells


async def _read(stream: Any) -> None:
    async for _ in stream:
        pass


METHODS: dict[str, Callable[[Any], Any]] = {
    "map": lambda pool: pool.map(whole, range(30), progress="pages"),
    "imap": lambda pool: list(pool.imap(whole, range(30), progress="pages")),
    "imap_unordered": lambda pool: list(pool.imap_unordered(whole, range(30), progress="pages")),
    "starmap": lambda pool: pool.starmap(total, zip(range(30), range(30), strict=True), progress="pages"),
    "outcomes": lambda pool: list(pool.outcomes(whole, range(30), progress="pages")),
    "reduce": lambda pool: pool.reduce(whole, range(30), total, progress="pages"),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_shows_a_bar(method: str, terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Pool(1, backend="threads", logs=False) as pool:
        METHODS[method](pool)
        shown = capsys.readouterr().err
        assert "pages" in shown
        assert "30/30" in shown
        pool.map(whole, range(10))
        assert capsys.readouterr().err == "", "that of one map"
        assert not driver_of(pool).observed, "its observer is gone"


def test_async_streams_and_runs(terminal: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async def read() -> None:
        with Pool(1, backend="threads", logs=False) as pool:
            await _read(pool.aimap(whole, range(30), progress="pages"))

    asyncio.run(read())
    assert "30/30" in capsys.readouterr().err
    allcores.run(whole, range(30), tmp_path / "out.jsonl", journal=False, progress="rows")
    assert "rows" in capsys.readouterr().err


@pytest.mark.quick
def test_of_the_module_with_processes(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert allcores.map(double, range(20), progress=True, on_error="skip") == [2 * n for n in range(20) if n != 7]
    shown = capsys.readouterr().err
    assert "items" in shown
    assert "20/20" in shown
    assert "1 failed" in shown


def test_a_stream_that_is_left_leaves_no_bar_behind(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Pool(1, backend="threads", logs=False) as pool:
        for _ in pool.imap(whole, iter(range(10_000)), progress=True):
            break
        stream = pool.imap(whole, [1], progress=True)
        del stream
        assert not driver_of(pool).observed
        unread = pool.imap(whole, [1], progress=True)
        with pytest.raises(TypeError):
            pool.imap(whole, 5, progress=True)  # type: ignore[call-overload]
    assert not driver_of(pool).observed
    del unread


def test_nothing_is_shown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error is no terminal: not even an observer is there."""
    with Pool(1, backend="threads", logs=False) as pool:
        stream = pool.imap(whole, range(30), progress=True)
        assert not driver_of(pool).observed
        assert len(list(stream)) == 30
    assert capsys.readouterr() == ("", "")


def test_a_notebook_keeps_a_line_of_text(notebook: list[str]) -> None:
    with Pool(1, backend="threads") as pool:
        pool.map(double, range(20), progress="pages", on_error="skip")
        pool.map(whole, iter(range(5)), progress=True)
    assert len(notebook) == 2
    assert notebook[0].startswith("pages  " + "━" * 30 + "  20/20  ")
    assert "1 failed" in notebook[0]
    assert notebook[1].startswith("items  ")
    assert "5/5" in notebook[1]
    assert not any("\x1b" in cell or "[red]" in cell for cell in notebook)


def test_what_is_neither_true_nor_a_text() -> None:
    pool: Any
    with Pool(1, backend="threads") as pool:
        with pytest.raises(UsageError, match="progress=3 must be True, False, or the text"):
            pool.map(whole, [1], progress=3)
        with pytest.raises(allcores.UnknownOption, match="the word is progress"):
            pool.map(whole, [1], desc="pages")
