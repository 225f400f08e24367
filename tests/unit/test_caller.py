"""Warnings that name the program's line."""

from __future__ import annotations

import re
import threading
import types
import warnings
from pathlib import Path

import pytest

import allcores
from allcores.system import caller

SOURCES = sorted(Path(allcores.__file__).parent.rglob("*.py"))


def inside(depth: int, name: str = "pool/pool.py") -> types.FunctionType:
    """A function of a file of ours that warns from `depth` calls further inside."""
    code = "def go(depth):\n    return go(depth - 1) if depth else warn('said')\n"
    names = {"warn": caller.warn}
    exec(compile(code, str(Path(allcores.__file__).parent / name), "exec"), names)
    go = names["go"]
    assert isinstance(go, types.FunctionType)
    return go


@pytest.mark.parametrize("depth", [0, 1, 7])
def test_the_innermost_line_outside_is_named(depth: int) -> None:
    with pytest.warns(RuntimeWarning, match="said") as caught:
        inside(depth)(depth)
    assert [warning.filename for warning in caught] == [__file__]


def test_on_a_thread_of_ours_it_is_our_line() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=inside(1), args=(1,))
        thread.start()
        thread.join()
    assert [Path(warning.filename).name for warning in caught] == ["pool.py"]


def test_on_a_thread_of_the_programs_it_is_its_line() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=lambda: inside(1)(1))
        thread.start()
        thread.join()
    assert [warning.filename for warning in caught] == [__file__]


def test_nobody_counts_frames() -> None:
    """A number is wrong as soon as a function is put between."""
    counting = [path.name for path in SOURCES if re.search(r"stacklevel=\d", path.read_text(encoding="utf-8"))]
    assert counting == []
