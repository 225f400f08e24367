"""Modules of the program that are loaded anew are known by their names."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from allcores.system import reloads

NAME = "allcores_tests_reloaded"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / f"{NAME}.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    made = importlib.import_module(NAME)
    monkeypatch.setitem(sys.modules, NAME, made)
    return made


def test_the_same_object_until_one_is_loaded_anew(module: ModuleType) -> None:
    first = reloads.current()
    assert reloads.current() is first
    before = first.get(NAME, 0)
    importlib.reload(module)
    second = reloads.current()
    assert second is not first and second[NAME] == before + 1
    assert reloads.current() is second


def test_also_where_it_was_taken_out_and_imported_again(module: ModuleType) -> None:
    first = reloads.current()
    del sys.modules[NAME]
    assert reloads.current() is first
    importlib.import_module(NAME)
    assert reloads.current()[NAME] == first.get(NAME, 0) + 1


def test_two_threads_that_look_at_the_same_time_both_know(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that comes to its end last has begun before the other found it."""
    before, is_own = reloads.current().get(NAME, 0), reloads._is_own
    others: list[reloads.Reloads] = []

    def look_later(name: str, module: object) -> bool:
        if threading.current_thread() is threading.main_thread() and not others:
            other = threading.Thread(target=lambda: others.append(reloads.current()))
            other.start()
            other.join()
        return is_own(name, module)

    importlib.reload(module)
    monkeypatch.setattr(reloads, "_is_own", look_later)
    assert reloads.current()[NAME] == before + 1
    assert [each[NAME] for each in others] == [before + 1]
    assert reloads.current()[NAME] == before + 1


def test_what_is_installed_is_left_alone() -> None:
    first = reloads.current()
    importlib.reload(json)
    assert reloads.current() is first


def test_what_stands_among_modules_and_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """No code of it is called."""

    class Odd:
        def __getattr__(self, name: str) -> object:
            raise AssertionError

    class OddModule(ModuleType):
        def __getattribute__(self, name: str) -> object:
            raise AssertionError

    first = reloads.current()
    monkeypatch.setitem(sys.modules, "allcores_tests_odd", Odd())
    monkeypatch.setitem(sys.modules, "allcores_tests_odd_module", OddModule("odd"))
    monkeypatch.setitem(sys.modules, "allcores_tests_none", None)
    assert reloads.current() is first
