"""Libraries that a module of tests needs, looked for without importing them.

Each process of a run imports all modules of tests, and some libraries take a second to import: `pytest.importorskip` is
for modules that use them as they are imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import pytest

#: What extras bring, as it is imported: a module of tests that imports one of them is left out where it is not
#: installed. Of anything else that cannot be imported an error is told.
# fmt: off
LIBRARIES = {
    "celery", "click", "coverage", "cronsim", "dask", "distributed", "flask", "ftfy", "h5py", "jinja2", "joblib",
    "jsonschema", "matplotlib", "numpy", "onnxruntime", "opentelemetry", "pandas", "polars", "prometheus_client",
    "psycopg", "pyarrow", "pydantic", "pydantic_core", "pyte", "ray", "rensa", "rich", "rq", "sklearn", "spacy",
    "sqlalchemy", "tokenizers", "waitress", "yaml", "zstandard",
}
# fmt: on


def absent(error: BaseException | None) -> str | None:
    """The library of an extra whose absence is why a module could not be imported."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name is not None:
            top = error.name.partition(".")[0]
            if top in LIBRARIES and top not in sys.modules and importlib.util.find_spec(top) is None:
                return top
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


def installed(*names: str) -> bool:
    """Whether all of these are."""
    return all(importlib.util.find_spec(name) is not None for name in names)


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
        if name.startswith("_"):  # pytest asks of each name in a module of tests whether it is a fixture
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


def late(name: str) -> Any:
    """A module of a library that is imported when a test uses it; the module of tests is left out if it is not here."""
    needed(name.partition(".")[0])
    return _Late(name)
