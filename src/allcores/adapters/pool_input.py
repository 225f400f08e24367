"""The input of a map of a `multiprocessing` drop-in, pulled on a thread of its own: it may make that wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from allcores.system.bell import Bell
from allcores.transport.refilled_items import as_pulled

#: stands behind the last item of an input
END = object()


class Puller:
    """Pulls an input that may make its thread wait, on a thread of its own.

    Args:
        items: The input.
        chunk: Items that belong together: those of a part that is not complete when the input raises are dropped.
        told: Called when there are items.
        bell: Expected while whoever takes the items waits for some.
        late: Whether a worker waits for items, asked while the bell is expected.

    Attributes:
        arrived: What was pulled; items are taken from the left. Those that the input has given before it makes its
            thread wait are there already.
        error: What the input has raised.
    """

    def __init__(
        self, items: Iterable[Any], chunk: int, told: Callable[[], None], bell: Bell, late: Callable[[], bool]
    ) -> None:
        self.arrived: deque[Any] = deque()
        self.error: BaseException | None = None
        self._wanted = 1
        self._more = threading.Event()
        self._told = told
        self._bell = bell
        self._late = late
        self._stopped = False
        try:
            threading.Thread(target=self._pull, args=(items, chunk), name="allcores-pool-input", daemon=True).start()
        except BaseException:  # of a signal's handler: it runs already, and nobody would end it
            self.stop()
            raise

    def want(self, count: int) -> None:
        """Have more items pulled, until so many have not been taken."""
        missing = count - len(self.arrived)
        if missing > 0 and not self._wanted:
            self._wanted = missing
            self._more.set()

    def stop(self) -> None:
        """Pull no more."""
        self._stopped = True
        self._more.set()

    def _pull(self, items: Iterable[Any], chunk: int) -> None:
        try:
            source = as_pulled(items)
            if chunk > 1:
                source = _whole_parts(source, chunk)
            source = chain(self._noted(source), (END,))
            while not self._stopped:
                wanted = self._wanted
                if wanted:
                    self.arrived.extend(islice(source, wanted))
                    self._wanted = 0
                    self._told()
                else:
                    self._more.wait()
                    self._more.clear()
        except BaseException as error:
            self.error = error
            self.arrived.append(END)
            self._told()

    def _noted(self, source: Iterator[Any]) -> Iterator[Any]:
        """The same items; what has arrived is told of before the next one is waited for."""
        bell, late, told = self._bell, self._late, self._told
        for item in source:
            yield item
            if bell.expected and late():
                told()


def _whole_parts(source: Iterator[Any], chunk: int) -> Iterator[Any]:
    while part := list(islice(source, chunk)):
        yield from part
