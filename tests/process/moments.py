"""Faults at named moments of a program that keeps a journal."""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter
from typing import Any


def hook_for(settings: dict[str, Any]) -> Any:
    """Kills or fills at a named moment."""
    passed: Counter[str] = Counter()

    def hook(name: str) -> None:
        passed[name] += 1
        if settings["kill"] and settings["kill"][0] == name and passed[name] > settings["kill"][1]:
            os.kill(os.getpid(), signal.SIGKILL)
        if settings["full"] and settings["full"][0] == name and passed[name] > settings["full"][1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return hook
