"""What is left of an input whose outcomes depend on the items before them: all from one item on, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from allcores.runs.ranges import RangeSet
from allcores.runs.remaining import RemainingItems
from allcores.runs.rows import InputCheckpoint
from allcores.runs.states import Enough, State


class RemainingInOrder(RemainingItems):
    """A feed that also takes states, and commits each together with the outcome before it.

    Whoever maps its items gives their outcomes in order, and calls `take` before the outcome that a state is behind.

    Attributes:
        start: Index of its first item.
        state: What is to be known there: of each part what makes it, in the order in which it was added.
    """

    def __init__(
        self,
        source: Iterable[Any],
        settled: RangeSet,
        *,
        state: dict[int, list[bytes]],
        guard: Callable[[Iterable[Any]], Iterator[Any]] = iter,
    ) -> None:
        super().__init__(source, settled, guard=guard)
        self.start, _ = settled.hole_from(0)
        self.state = state
        self._taken: State | Enough | None = None

    def take(self, state: State) -> None:
        """Take a state: what holds behind the outcome that comes next."""
        self._taken = state

    def end(self, items: int) -> None:
        """No more input is needed: there are `items` outcomes, the next one included, and that is all of them."""
        self.total = items
        self._taken = Enough(items)

    def new_checkpoints(self, index: int) -> list[InputCheckpoint | State | Enough] | None:  # type: ignore[override]
        """What is to be committed together with the outcome of item `index`."""
        found: list[InputCheckpoint | State | Enough] = [*(super().new_checkpoints(index) or ())]
        if self._taken is not None:
            found.append(self._taken)
            self._taken = None
        return found or None
