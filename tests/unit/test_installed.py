"""Modules of tests are left out where an extra's library is not installed; any other error is told."""

from __future__ import annotations

import sys

import pytest
from tests import installed


def test_what_is_absent_is_found_behind_other_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "LIBRARIES", {"no_such_library", "json"})
    missing = ModuleNotFoundError("no", name="no_such_library.part")
    outer = ImportError("a module of tests")
    outer.__cause__ = missing
    assert installed.absent(outer) == "no_such_library"
    assert installed.absent(ModuleNotFoundError("no", name="other")) is None
    assert installed.absent(ModuleNotFoundError("no", name="json.nothing")) is None
    assert installed.absent(ImportError("cannot import name")) is None


def test_a_late_module_is_imported_when_something_of_it_is_used() -> None:
    """Not as pytest looks whether it is a fixture, which it does for each name in a module of tests."""
    late = installed.late("this")
    assert not hasattr(late, "_fixture_function_marker")
    assert "this" not in sys.modules
