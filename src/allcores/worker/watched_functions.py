"""Which functions of a worker are looked at for changes of globals that nobody will see, and after which chunks."""

from __future__ import annotations

import contextlib
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores.worker.lost_changes import Watch

#: After each of so many chunks of a function it is compared, then after the 32nd, 64th ...
CLOSELY_WATCHED = 16
#: ... and not any more after so many.
MOST_WATCHED = 1024
#: has no globals
BUILTIN = type(len)


def modules_of(function: Any) -> set[str]:
    """The modules of a setup or teardown function: its own, and of what it calls with arguments that it brings."""
    found = set()
    for _ in range(10):
        if function is None:
            break
        found.add(str(getattr(function, "__module__", "")))
        # A partial; and what runs the initializer of an executor, or of a pool like another library's.
        function = function.func if isinstance(function, partial) else getattr(function, "initializer", None)
    return found


class WatchedFunctions:
    """The functions that this worker knows, by number.

    Args:
        left_alone: Modules whose state setup and teardown have in their hands.
    """

    def __init__(self, left_alone: frozenset[str]) -> None:
        self._left_alone = left_alone
        #: those that have run no chunk yet
        self.unseen: set[int] = set()
        #: of the others the program's own, with what they could change and the number of their chunks
        self._watches: dict[int, tuple[Watch, int]] = {}
        #: what is compared at the end of the running chunk
        self.comparing: Watch | None = None

    def forget(self, number: int) -> None:
        """It will not be called again."""
        self.unseen.discard(number)
        self._watches.pop(number, None)

    def begin_chunk(self, number: int, function: Any) -> None:
        """A chunk of it is about to run."""
        if number in self.unseen:
            self._begin(number, function)
        elif number in self._watches:
            self._go_on(number)

    def _begin(self, number: int, function: Any) -> None:
        self.unseen.discard(number)
        if isinstance(function, (BUILTIN, type)):
            return
        from allcores.worker import lost_changes

        with contextlib.suppress(Exception):
            self.comparing = lost_changes.watch(function, self._left_alone)
            if self.comparing is not None:
                self._watches[number] = self.comparing, 1

    def _go_on(self, number: int) -> None:
        """Compare after each of the first chunks, then seldom, then never: it takes some microseconds."""
        watch, chunks = self._watches[number]
        chunks += 1
        if chunks < MOST_WATCHED:
            self._watches[number] = watch, chunks
        else:
            del self._watches[number]
        if chunks <= CLOSELY_WATCHED or not chunks & (chunks - 1):
            self.comparing = watch

    def end_chunk(self, values: list[Any]) -> tuple[str, list[str], list[str]] | None:
        """The function's name, what it has changed in vain, and drawn from; once for each function, None for nothing.

        Args:
            values: What it returned last.
        """
        watch, self.comparing = self.comparing, None
        names: list[str] = []
        drawn: list[str] = []
        if watch is not None:
            with contextlib.suppress(Exception):
                names = watch.changed(returned=any(value is not None for value in values))
                drawn = watch.drawn()
        if watch is None or not (names or drawn):
            return None
        # It is said once.
        self._watches = {number: each for number, each in self._watches.items() if each[0] is not watch}
        return watch.name, names, drawn
