"""The secret by which the processes of a program know each other in `multiprocessing`: managers' proxies, listeners.

Workers are no children of multiprocessing's making, so they would have a key each of their own. The parent's goes to
them through their private pipes; no other process sees it.
"""

from __future__ import annotations

import sys

#: what this process was given, for when it imports multiprocessing
_given: bytes | None = None


def current() -> bytes | None:
    """This process's key; None while it has none, for nothing here has asked for one."""
    process = sys.modules.get("multiprocessing.process")
    try:
        return bytes(process.current_process().authkey) if process is not None else _given
    except AttributeError:  # in the middle of its import
        return _given


def adopt(key: bytes) -> None:
    """From now on this process's key is `key`."""
    global _given
    _given = key
    process = sys.modules.get("multiprocessing.process")
    if process is not None and hasattr(process, "_current_process"):
        process.current_process().authkey = key


def given() -> bytes | None:
    """What this process was given."""
    return _given
