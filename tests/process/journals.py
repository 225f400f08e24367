"""Journals of runs that tests begin and go on with."""

from __future__ import annotations

from typing import Any

from allcores import Journal


def journal(**options: Any) -> Journal:
    """In the working folder's `runs`; it goes on with what is there, and waits for no disk."""
    settings: dict[str, Any] = {"folder": "runs", "resume": True, "fsync": "never"}
    return Journal(**settings | options)
