"""What is installed: whose a file is, and versions of libraries, also where a removal of one was cut short.

Workers import this module, so it is light.
"""

from __future__ import annotations

import functools
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: where the standard library is
_LIBRARY = os.path.dirname(os.__file__) + os.sep

#: What looking at what was left may raise. The backport importlib_metadata, once a library has loaded it, is asked in
#: the place of Python's module, and has errors of its own. Python 3.12 warns, which the program may have made an error.
HALF_REMOVED = (ImportError, OSError, ValueError, KeyError, TypeError, DeprecationWarning)


@functools.lru_cache(maxsize=1_000)
def is_installed(file: str) -> bool:
    """Whether a file is of Python's library, or of an installed one, and not of the program's own."""
    parts = file.split(os.sep)
    return file.startswith(_LIBRARY) or "site-packages" in parts or "dist-packages" in parts


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
