"""What backends have in common whose events are minded by one thread of their own: threads, and nodes of a cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from allcores.backends.base import Host, start_thread
from allcores.errors import BrokenPool
from allcores.system.clock import monotonic_ns

if TYPE_CHECKING:
    from allcores.scheduler.map_state import Chunk
    from allcores.system.bell import Bell

#: how long the minder, when a callback on its thread waits, sleeps between two looks, ns
PUMP_NS = 5_000_000


class MindedBackend:
    """One thread, the minder, waits for what comes first: an event, or the host's next timer."""

    sleeps_until: int | None = None
    _host: Host | None = None
    _minder: threading.Thread | None = None
    _closing = False

    def _mind_once(self, until_ns: int | None) -> None:
        """Wait for an event, or until the next timer or `until_ns`, and see to it. On the minder's thread."""
        raise NotImplementedError

    def wake(self) -> None:
        """See Backend. Any thread, also in a signal's handler."""
        raise NotImplementedError

    def wake_by(self, when_ns: int) -> None:
        """See Backend."""
        # Read once: the minder, which wakes up at any time, sets it without a lock.
        until_ns = self.sleeps_until
        if until_ns is not None and when_ns < until_ns:
            self.sleeps_until = None
            self.wake()

    def _start_minder(self, host: Host) -> None:
        """Start the minder. Raises BrokenPool if no thread can be had."""
        self._host = host
        self._minder = threading.Thread(target=self._mind, name=f"allcores-{host.name}", daemon=True)
        try:
            start_thread(self._minder, host.begun)
        except BrokenPool:
            self._minder = None
            raise

    def _mind(self) -> None:
        host = self._host
        assert host is not None
        while not self._closing:
            try:
                self._mind_once(None)
            except Exception as error:  # a mistake of ours: nobody is left waiting
                host.fail(error)
                break
        host.finish()

    def pump(self) -> bool:
        """See Backend."""
        return self._is_minder() and self._go_on(None)

    def _is_minder(self) -> bool:
        return threading.current_thread() is self._minder

    def _go_on(self, until_ns: int | None) -> bool:
        """A callback on the minder's thread waits: meanwhile it goes on minding. False if it is over."""
        if self._closing:
            return False
        soon = monotonic_ns() + PUMP_NS
        self._mind_once(soon if until_ns is None else min(soon, until_ns))
        return True

    def attend(self, chunk: Chunk, until_ns: int | None, done: Callable[[], bool]) -> None:
        """See Backend."""
        while self._is_minder() and not done() and (until_ns is None or monotonic_ns() < until_ns):
            if not self._go_on(until_ns):
                return

    def wait(self, bell: Bell, wanted: Callable[[], bool], seconds: float) -> bool:
        """See Backend."""
        return False

    def pump_due_ns(self) -> int | None:
        """See Backend: its own thread sees to it."""
        return None

    def step_back(self) -> None:
        """See Backend."""

    def resolves_here(self) -> bool:
        """See Backend."""
        return self._closing or self._is_minder()
