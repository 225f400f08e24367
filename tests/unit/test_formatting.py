"""formatting.py: sizes, times, paces and counts as people read them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import allcores
from allcores.formatting import (
    axis_text,
    clock_text,
    counted,
    kind_text,
    pace_text,
    percent_text,
    precise_seconds_text,
    seconds_text,
    size_text,
    with_article,
)

SOURCE = Path(allcores.__file__).parent


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KB"),
        (1536, "1.5 KB"),
        (1024**2 - 1, "1 MB"),
        (8 * 1024**3, "8 GB"),
        (int(7.9 * 1024**3), "7.9 GB"),
        (5000 * 1024**4, "5000 TB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    """Sizes are shown in powers of 1024, with one decimal where it says something."""
    assert size_text(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.44, "0.4 s"), (12.9, "12 s"), (185, "3:05"), (7800, "2:10:00")])
def test_times_that_run(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


@pytest.mark.parametrize(
    ("pace", "text"), [(0, "0 items/s"), (0.25, "4.0 s/item"), (4.21, "4.2 items/s"), (1234, "1,234 items/s")]
)
def test_paces(pace: float, text: str) -> None:
    assert pace_text(pace) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.424, "0.42 s"), (12.34, "12.3 s"), (184.7, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_how_long_something_took(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.5e-7, "850 ns"), (0.00141, "1.41 ms"), (0.9999, "1.00 s"), (12.34, "12.3 s"), (184.7, "3 min 05 s")],
)
def test_times_with_three_digits(seconds: float, text: str) -> None:
    assert precise_seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0"), (0.02, "20 ms"), (1.5, "1.5 s"), (750, "12:30"), (7500, "2:05:00")]
)
def test_times_on_an_axis(seconds: float, text: str) -> None:
    assert axis_text(seconds) == text


def test_shares_and_counts() -> None:
    assert [percent_text(part) for part in (0, 0.42, 97.3)] == ["0 %", "0.4 %", "97 %"]
    assert [counted(1, "worker"), counted(1234, "worker")] == ["1 worker", "1,234 workers"]
    assert counted(2, "retry", "retries") == "2 retries"


def sizes_by_hand(tree: ast.AST) -> Iterator[int]:
    """Lines where a number in a text is followed by a unit of sizes, and not put there by `size_text`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for value, text in pairwise(node.values):
                unit = isinstance(text, ast.Constant) and re.match(r"\s?[KMGT]i?B\b", str(text.value))
                if unit and isinstance(value, ast.FormattedValue):
                    yield value.lineno


def test_sizes_are_written_in_one_way() -> None:
    """Decimal and binary units side by side would make a limit look overrun, or kept, that is not."""
    assert list(sizes_by_hand(ast.parse('f"it used {used / 1e6:,.0f} MB"; f"{size_text(3)} MB"; f"{name}: MB"'))) == [
        1,
        1,
    ]
    found = {
        str(path.relative_to(SOURCE)): lines
        for path in SOURCE.rglob("*.py")
        # Parsing all takes seconds.
        if re.search(r"[KMGT]i?B\b", text := path.read_text(encoding="utf-8"))
        and (lines := list(sizes_by_hand(ast.parse(text))))
    }
    assert found == {}


def test_kinds_have_their_article() -> None:
    """An int, a list."""
    assert [kind_text(value) for value in (1, [], object(), {}, ...)] == [
        "an int",
        "a list",
        "an object",
        "a dict",
        "an ellipsis",
    ]
    assert with_article("ndarray") == "an ndarray" and with_article("uuid") == "a uuid"
