"""The variables of the program's environment, all at one moment."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def variables() -> dict[str, str]:
    """A copy, which other threads that set and remove variables meanwhile do not disturb.

    `dict(os.environ)` takes the names first and then looks each up: one that is removed in between is a KeyError.
    """
    return decoded(dict(encoded()))


def encoded() -> dict[Any, Any]:
    """As the system has them, bytes by bytes. Not a copy: they may change at any time."""
    # The mapping below os.environ: to decode it takes ten times as long as to compare it.
    below = vars(os.environ).get("_data")
    return below if isinstance(below, dict) else dict(os.environ)


def decoded(environ: Mapping[Any, Any]) -> dict[str, str]:
    """The same as text."""
    return {os.fsdecode(name): os.fsdecode(value) for name, value in environ.items()}
