"""What the consumer of a pipeline takes: what comes out of its line, and of its sides."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from allcores.pipelines.links import Link, Raised
from allcores.pipelines.marks import Barrier, Failed, Mark, Sided

#: What one side may be ahead of the others, elements, where they wait for each other at barriers. Larger: memory.
#: Smaller: stages of the quicker side stand still more often.
MOST_WAITING = 1_024


class Output:
    """What the consumer takes: what comes out of the line and of its sides.

    Args:
        sides: Their numbers; 0 is the line itself.
        with_marks: Marks are for the consumer; else a failure is raised where it stands.
    """

    def __init__(self, sides: Iterable[int], *, with_marks: bool) -> None:
        self._open = set(sides)
        self._with_marks = with_marks
        self.items: list[Any] = []
        #: to be raised behind `items`
        self.error: BaseException | None = None
        #: what the source has raised, known from a side: what came before it is still on its way along the line
        self._raised: BaseException | None = None
        #: failures that are on their way along the line, too, and have come from a side before
        self._ahead: deque[Failed] = deque()
        #: all came that could come; else something was stopped, or has raised
        self.whole = True

    @property
    def done(self) -> bool:
        """Nothing more will come."""
        return self.error is not None or not self._open

    def full(self, side: int) -> bool:
        """Whether it has enough of one side for now."""
        return bool(self.items)

    def add(self, side: int, values: list[Any]) -> None:
        """Take records of the line, or rows of a side."""
        if side:
            self.items.extend(Sided(side, value) for value in values)
        elif self.items:
            self.items += values
        else:
            self.items = values

    def mark(self, side: int, mark: Mark) -> None:
        """Take a mark."""
        if isinstance(mark, Raised):
            self._raised = mark.error
            self.end(side, whole=False)
        elif isinstance(mark, Failed):
            if side and mark.on_line and not mark.told and 0 in self._open:
                self._ahead.append(mark)
                while self._ahead and self._ahead[0].told:
                    self._ahead.popleft()
            else:
                self._tell(mark)
        elif self._with_marks and not (isinstance(mark, Barrier) and side):
            self.items.append(mark)

    def _tell(self, failed: Failed) -> None:
        """A failure, if it was not told yet: it comes from each line that the record would have gone into."""
        if failed.told:
            return
        failed.told = True
        if self._with_marks:
            self.items.append(failed)
        elif self.error is None:
            self.error, self.whole = failed.error, False

    def end(self, side: int, *, whole: bool) -> None:
        """One side has come to its end."""
        self._open.discard(side)
        self.whole = self.whole and whole
        if 0 in self._open:
            return
        while self._ahead:
            self._tell(self._ahead.popleft())
        if self._raised is not None and self.error is None:
            self.error = self._raised


class AlignedOutput(Output):
    """The same where the source has barriers: what came of a record comes before its barrier, from all sides.

    Each side waits for the slowest one.
    """

    def __init__(self, sides: Iterable[int]) -> None:
        every = tuple(sides)
        super().__init__(every, with_marks=True)
        self._waiting: dict[int, deque[Any]] = {side: deque() for side in every}
        #: barriers in each of these
        self._barriers = dict.fromkeys(every, 0)
        #: sides that ended before all had come: no barrier passes without theirs, for rows may be missing before it
        self._cut: set[int] = set()

    def full(self, side: int) -> bool:
        """See Output."""
        if not all(self._barriers[cut] for cut in self._cut):
            return bool(self.items)  # nothing can pass any more: who waited for room would never come to an end
        return bool(self.items) or len(self._waiting[side]) >= MOST_WAITING

    def add(self, side: int, values: list[Any]) -> None:
        """See Output."""
        self._waiting[side].extend(values if not side else [Sided(side, value) for value in values])

    def mark(self, side: int, mark: Mark) -> None:
        """See Output."""
        self._waiting[side].append(mark)
        if isinstance(mark, Barrier):
            self._barriers[side] += 1
            self._align()
        elif isinstance(mark, Raised):
            self.end(side, whole=False)

    def end(self, side: int, *, whole: bool) -> None:
        """See Output."""
        super().end(side, whole=whole)
        if not whole:
            self._cut.add(side)
        self._align()

    def _align(self) -> None:
        """Pass on what is complete: up to a barrier that has come from all sides but those that want no more."""
        while any(self._barriers.values()) and all(self._barriers[side] for side in self._open | self._cut):
            barrier: Barrier | None = None
            for side, waiting in self._waiting.items():
                while waiting:
                    element = waiting.popleft()
                    if isinstance(element, Barrier):
                        self._barriers[side] -= 1
                        barrier = element
                        break
                    self._pass(element)
            self.items.append(barrier)
        if not self._open:
            for waiting in self._waiting.values():
                while waiting and not isinstance(waiting[0], Barrier):
                    self._pass(waiting.popleft())

    def _pass(self, element: Any) -> None:
        if isinstance(element, Raised):
            self.error, self.whole = element.error, False
        elif isinstance(element, Failed):
            self._tell(element)
        else:
            self.items.append(element)


class End(Link):
    """The end of a line, or of a side."""

    def __init__(self, side: int, output: Output) -> None:
        self._side = side
        self._output = output
        self._finished = False

    @property
    def full(self) -> bool:
        """See Link."""
        return self._output.full(self._side)

    @property
    def done(self) -> bool:
        """See Link."""
        return self._finished or self._output.done

    def put(self, values: list[Any]) -> None:
        """See Link."""
        self._output.add(self._side, values)

    def mark(self, mark: Mark) -> None:
        """See Link."""
        if not self._finished:
            self._output.mark(self._side, mark)

    def finish(self, *, whole: bool) -> None:
        """See Link."""
        if not self._finished:
            self._finished = True
            self._output.end(self._side, whole=whole)
