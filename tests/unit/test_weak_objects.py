"""system/weak_objects.py: what is known as long as it is there, while other threads come and go."""

from __future__ import annotations

import ast
import gc
import sys
import threading
import weakref
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import allcores
from allcores.pool import driver
from allcores.shared_memory import forked_copies
from allcores.system.weak_objects import WeakObjects


class Some:
    """An object."""

    def close(self) -> None:
        """As a driver."""

    def part(self) -> list[Any]:
        """As an arena."""
        return []


def test_what_is_gone_is_known_no_longer() -> None:
    those, first, second = WeakObjects[Some](), Some(), Some()
    those.add(first)
    those.add(first)
    those.add(second)
    assert {*those.all()} == {first, second}
    those.discard(first)
    those.discard(first)
    assert those.all() == [second]
    del second
    gc.collect()
    assert those.all() == []
    those.add(first)
    those.clear()
    assert those.all() == []


PLACES: dict[str, tuple[Any, str, Any]] = {
    "pools at the end": (driver, "_drivers", driver._close_all),
    "blocks at a fork": (forked_copies, "_arenas", forked_copies._before),
}


@pytest.mark.parametrize("where", PLACES)
def test_one_that_another_thread_adds_meanwhile_is_no_error(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other thread comes by whenever this one is in Python code of the table."""
    kept = [Some(), Some()]
    module, name, go_through = PLACES[where]
    those = type(getattr(module, name))()
    monkeypatch.setattr(module, name, those)
    for each in list(kept):
        those.add(each)

    def add() -> None:
        kept.append(Some())
        those.add(kept[-1])

    def look(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_filename in FILES and len(kept) < 20:
            other = threading.Thread(target=add)
            other.start()
            other.join()

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        go_through()
    finally:
        sys.setprofile(before)


FILES = {weakref.WeakSet.__iter__.__code__.co_filename, WeakObjects.all.__code__.co_filename}


@pytest.mark.quick
def test_no_set_of_weak_references_is_gone_through() -> None:
    """Those that are, are `WeakObjects`."""
    found: list[str] = []
    for path in Path(allcores.__file__).parent.rglob("*.py"):
        source = path.read_text()
        if "WeakSet(" not in source:
            continue
        tree = ast.parse(source)
        names = {
            ast.unparse(node.target).rpartition(".")[2]
            for node in ast.walk(tree)
            if isinstance(node, ast.AnnAssign) and node.value is not None and "WeakSet(" in ast.unparse(node.value)
        }
        for node in ast.walk(tree):
            iterated = [node.iter] if isinstance(node, (ast.For, ast.comprehension)) else []
            found += [
                f"{path.name}: {ast.unparse(each)}" for each in iterated if any(n in ast.unparse(each) for n in names)
            ]
    assert not found
