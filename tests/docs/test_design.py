"""The pages on the design name files and functions: all of them exist."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, name

SOURCE = ROOT / "src/allcores"
DESIGN = sorted((ROOT / "docs/design").glob("*.md"))
_NAMED = re.compile(r"`(?P<file>(?:[a-z_]+/)*[a-z_]+\.py)`|`(?P<function>\w+(?:\.\w+)*)\(\)`")


def named_files(text: str) -> list[str]:
    """Files of the package that a page names, as `room/file.py`."""
    return [found["file"] for found in _NAMED.finditer(text) if found["file"]]


def named_functions(text: str) -> Iterator[tuple[str, str]]:
    """(file, function) of a page that names the file and then its functions, as `Class.method()`.

    A file counts until another one is named, at most until the end of its step.
    """
    for step in re.split(r"\n(?=\d+\. |\n|#)", text):
        file = ""
        for found in _NAMED.finditer(step):
            if found["file"]:
                file = found["file"]
            elif file:
                yield file, found["function"]


@pytest.mark.parametrize("page", DESIGN, ids=name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    files = named_files(page.read_text())
    assert [file for file in files if not (SOURCE / file).is_file() and not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("room", sorted(SOURCE.rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_files_that_a_room_names_are_in_it(room: Path) -> None:
    text = ast.get_docstring(ast.parse(room.read_text(encoding="utf-8"))) or ""
    there = {path.name for path in room.parent.rglob("*.py")}
    assert set(re.findall(r"(?<![\w/.])[a-z_]+\.py\b", text)) - there == set()


def test_functions_on_the_way_of_an_item_exist() -> None:
    """Whoever renames or moves one of them is led to the page, which then has to tell the way as it is now."""
    steps = list(named_functions((ROOT / "docs/design/one-items-way.md").read_text()))
    assert len(steps) > 50
    missing = []
    for file, function in steps:
        module = importlib.import_module("allcores." + file.removesuffix(".py").replace("/", "."))
        try:
            found = reduce(getattr, function.split("."), module)
        except AttributeError:
            missing.append(f"{file}: {function}()")
        else:
            assert callable(found), function
    assert missing == []


def test_a_function_is_looked_for_in_the_file_that_stands_before_it() -> None:
    text = "1. `a/b.py`: `one()`.\n2. `two()`, `c.py`: `Three.four()`,\n   `five()`.\n"
    assert list(named_functions(text)) == [("a/b.py", "one"), ("c.py", "Three.four"), ("c.py", "five")]
