"""Pulls the source of a pipeline whose first step is no stage with workers: those pull it themselves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from allcores.pipelines.links import Link, Raised
from allcores.pipelines.marks import Mark
from allcores.system import deferral
from allcores.system.clock import monotonic_ns
from allcores.system.interrupt_hold import InterruptHold

#: A pull of the source that takes longer than this is a slow one, which is waited for only if a worker is idle, ns.
SLOW_PULL_NS = 2_000_000


class SourceReader:
    """Pulls records and barriers for a first link that does not do so itself."""

    def __init__(self, iterator: Iterator[Any], head: Link, hold: InterruptHold, *, marks: bool) -> None:
        self._iterator: Iterator[Any] | None = iterator
        self._head = head
        self._hold = hold
        self._marks = marks
        self._stride = 1
        self.slow = False

    def stop(self) -> None:
        """Pull nothing more."""
        if self._iterator is not None:
            self._iterator = None
            self._head.finish(whole=False)

    @property
    def is_wanted(self) -> bool:
        """A pull would do something: there is more, as far as is known, and the first link has not enough."""
        return self._iterator is not None and (self._head.done or not self._head.full)

    def pull(self) -> bool:
        """Pull some, unless the first link has enough; whether anything was done."""
        iterator, head = self._iterator, self._head
        if iterator is None:
            return False
        if head.done:
            self._iterator = None
            return True
        if head.full:
            return False
        stride = min(self._stride, max(1, head.room))
        items: list[Any] = []
        begun = monotonic_ns()
        error: BaseException | None = None
        try:
            with self._hold.lifted:
                items.extend(islice(iterator, stride))
        except KeyboardInterrupt:
            self._put(items)
            raise
        except BaseException as raised:
            if deferral.raised_by_handler(raised):
                raise
            error = raised
        taken = monotonic_ns() - begun
        self.slow = taken > SLOW_PULL_NS
        ended = len(items) < stride
        self._stride = min(self._stride * 4, 1 << 16) if taken < SLOW_PULL_NS // 4 else max(1, self._stride // 4)
        self._put(items)
        if error is not None:
            self._iterator = None
            head.mark(Raised(error))
        elif ended:
            self._iterator = None
            head.finish(whole=True)
        return True

    def _put(self, items: list[Any]) -> None:
        if not self._marks:
            if items:
                self._head.put(items)
            return
        values: list[Any] = []
        for item in items:
            if isinstance(item, Mark):
                if values:
                    self._head.put(values)
                    values = []
                self._head.mark(item)
            else:
                values.append(item)
        if values:
            self._head.put(values)
