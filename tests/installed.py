"""Libraries that a module of tests needs, looked for without importing them.

Each process of a run imports all modules of tests, and some libraries take a second to import: `pytest.importorskip` is
for modules that use them as they are imported.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest


def needed(*names: str) -> None:
    """Leave the module out, with the reason, unless all of these are installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed", allow_module_level=True)


class _Late:
    """A module that is imported when something of it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


def late(name: str) -> Any:
    """A module of a library that is imported when a test uses it; the module of tests is left out if it is not here."""
    needed(name.partition(".")[0])
    return _Late(name)
