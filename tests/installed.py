"""Libraries that a module of tests needs, looked for without importing them.

Each process of a run imports all modules of tests, and some libraries take a second to import: `pytest.importorskip` is
for modules that use them themselves.
"""

from __future__ import annotations

import importlib.util

import pytest


def needed(*names: str) -> None:
    """Leave the module out, with the reason, unless all of these are installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed", allow_module_level=True)
