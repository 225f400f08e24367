"""Waiting for many descriptors at once: epoll on Linux, poll elsewhere.

Smaller and quicker than `selectors`, and with one thing more: a descriptor can be muted and unmuted
from another thread while the loop waits (epoll only), which is how a caller attends to its own call.
"""

from __future__ import annotations

import select
from typing import Any

from allcores.system.portable import PORTABLE

READ, WRITE = 1, 4  # EPOLLIN and POLLIN, EPOLLOUT and POLLOUT
#: whether changes from another thread reach a wait that has begun
CHANGES_REACH_WAIT = hasattr(select, "epoll") and not PORTABLE


class Poller:
    """Descriptors and what they belong to."""

    def __init__(self) -> None:
        self._poll: Any = select.epoll() if CHANGES_REACH_WAIT else select.poll()
        self._data: dict[int, Any] = {}

    def register(self, descriptor: int, data: Any) -> None:
        """Watch for reading; `data` comes back from `wait`."""
        self._data[descriptor] = data
        self._poll.register(descriptor, READ)

    def modify(self, descriptor: int, mask: int) -> None:
        """Watch for READ, WRITE, both, or (0) nothing but the end."""
        if descriptor in self._data:
            self._poll.modify(descriptor, mask)

    def unregister(self, descriptor: int) -> None:
        """Forget a descriptor; no error if it is not known."""
        if self._data.pop(descriptor, None) is not None:
            try:
                self._poll.unregister(descriptor)
            except (OSError, KeyError):
                pass  # it was closed by a hand that is not ours

    def known(self, data: Any) -> set[int]:
        """The descriptors that belong to `data`."""
        return {descriptor for descriptor, each in self._data.items() if each is data}

    def wait(self, seconds: float | None) -> list[tuple[Any, int]]:
        """What is ready, as (data, mask); [] when the time is up. A broken descriptor reads as READ."""
        if CHANGES_REACH_WAIT:
            ready = self._poll.poll(-1 if seconds is None else seconds)
        else:
            ready = self._poll.poll(None if seconds is None else seconds * 1000)
        # Copied: other threads may forget descriptors at any moment.
        data = self._data.copy() if ready else {}
        return [
            (data[descriptor], mask if mask & (READ | WRITE) else READ)
            for descriptor, mask in ready
            if descriptor in data
        ]

    def fileno(self) -> int:
        """Of the kernel's object: readable when anything is (epoll only)."""
        number: int = self._poll.fileno()
        return number

    def close(self) -> None:
        """Let go of the kernel's object."""
        if CHANGES_REACH_WAIT:
            self._poll.close()
