"""Versions of installed libraries, also where an installation or a removal was cut short."""

from __future__ import annotations

from typing import Any

#: What looking at what was left may raise. The backport importlib_metadata, once a library has loaded it, is asked in
#: the place of Python's module, and has errors of its own. Python 3.12 warns, which the program may have made an error.
HALF_REMOVED = (ImportError, OSError, ValueError, KeyError, TypeError, DeprecationWarning)


def version_of(name: str | None) -> str | None:
    """Of an installed library; None where there is none of that name, or only what an installation has left of it."""
    from importlib import metadata  # the module takes its time

    try:
        facts: Any = metadata.distribution(name).metadata if name else {}
        found = facts.get("Version")  # which does not warn
    except HALF_REMOVED:
        return None
    return found if isinstance(found, str) else None


def names_by_module() -> dict[str, list[str]]:
    """Names of the libraries that each top-level module is of; reads all that is installed."""
    from importlib import metadata

    try:
        return dict(metadata.packages_distributions())
    except HALF_REMOVED:
        return {}
