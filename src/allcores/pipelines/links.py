"""What stands between two stages: takes records and marks in order, and passes on what comes of them.

A link that is `full` wants nothing for now; one that is `done` wants nothing any more. Whoever puts asks before.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

from allcores.errors import UsageError
from allcores.outcome import Kind
from allcores.pipelines.copies import copied
from allcores.pipelines.marks import Barrier, Failed, Mark
from allcores.pipelines.operators import Batch, Enumerate, Operator
from allcores.pipelines.plan import Stage
from allcores.system import deferral
from allcores.system.clock import monotonic_ns
from allcores.transport.exceptions import add_note

#: Records that are pulled from the source at once, at most, where no stage with workers says how many it wants. Larger:
#: memory, for records may be large. Smaller: each turn of the loop costs some microseconds.
MOST_PULLED = 64


class Raised(Mark):
    """The source has raised: it is raised again behind all that came before."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Link:
    """Base of them."""

    @property
    def full(self) -> bool:
        """It has enough for now."""
        return False

    @property
    def room(self) -> int:
        """How many records it wants, about; at least one, unless it is full."""
        return MOST_PULLED

    @property
    def done(self) -> bool:
        """Whatever is put is dropped."""
        return False

    def put(self, values: list[Any]) -> None:
        """Take records."""
        raise NotImplementedError

    def mark(self, mark: Mark) -> None:
        """Take a mark."""
        raise NotImplementedError

    def finish(self, *, whole: bool) -> None:
        """No more will be put.

        Args:
            whole: All has come; else what comes of incomplete groups of records is not wanted.
        """
        raise NotImplementedError


class Operated(Link):
    """An in-line operator."""

    def __init__(self, stage: Stage, operator: Operator, following: Link, *, with_marks: bool) -> None:
        self.stage = stage
        self.operator = operator
        self._next = following
        self._with_marks = with_marks
        #: it never raises
        self._safe = type(operator) is Enumerate or (type(operator) is Batch and operator.plain)
        self._finished = False
        #: records in and out
        self.taken = self.given = self.failed = 0
        #: time in the operator, ns
        self.worked_ns = 0

    @property
    def full(self) -> bool:
        """See Link."""
        return self._next.full

    @property
    def room(self) -> int:
        """See Link."""
        operator = self.operator
        room, wanted = self._next.room * operator.per_record - operator.waiting, operator.wanted
        return room if wanted is None else min(room, wanted)

    @property
    def done(self) -> bool:
        """See Link."""
        return self._finished or self._next.done

    def put(self, values: list[Any]) -> None:
        """See Link."""
        if self.done:
            return
        if self._safe:
            self.taken += len(values)
            begun = monotonic_ns()
            out = self.operator.feed_all(values)
            self.worked_ns += monotonic_ns() - begun
            self._give(out)
        else:
            self._put_each(values)
        if self.operator.ended:
            self.finish(whole=True)

    def _put_each(self, values: list[Any]) -> None:
        operator = self.operator
        feed = operator.feed
        out: list[Any] = []
        begun = monotonic_ns()
        for value in values:
            before = len(out)
            self.taken += 1
            try:
                out.extend(feed(value))
            except Exception as error:
                if deferral.raised_by_handler(error):
                    raise
                del out[before:]
                self.worked_ns += monotonic_ns() - begun
                self._give(out)
                out = []
                self._fail(error, value)
                if self._finished:
                    return
                begun = monotonic_ns()
            if operator.ended:
                break
        self.worked_ns += monotonic_ns() - begun
        self._give(out)

    def _fail(self, error: Exception, value: Any) -> None:
        stage = self.stage
        self.failed += 1
        add_note(error, f"allcores: in stage {stage.number} of the pipeline ({stage.name}), record {self.taken - 1}")
        self._next.mark(Failed(stage.number, stage.name, self.taken - 1, Kind.FAILED, error, value, "raise"))
        if not self._with_marks:
            self._finished = True

    def _give(self, values: list[Any]) -> None:
        if values:
            self.given += len(values)
            self._next.put(values)

    def mark(self, mark: Mark) -> None:
        """See Link."""
        if self._finished:
            return
        if isinstance(mark, Barrier) and mark.states is not None:
            mark.states[self.stage.number] = self._state()
        self._next.mark(mark)

    def _state(self) -> bytes:
        """What the operator holds; as bytes, for it goes on before anyone writes them."""
        try:
            return pickle.dumps(self.operator.state())
        except Exception as error:
            stage = self.stage
            raise UsageError(
                f"what stage {stage.number} of the pipeline ({stage.name}) holds cannot be kept in the journal"
                f" ({type(error).__name__}: {error}): let its records be plain data, or run it with journal=False"
            ) from error

    def finish(self, *, whole: bool) -> None:
        """See Link."""
        if self._finished:
            return
        self._finished = True
        if whole:
            self._give(list(self.operator.finish()))
        self._next.finish(whole=whole)


class Tee(Link):
    """Copies of all records, into each side and onwards.

    Args:
        sides: The first links of the sides.
        following: What comes next.
        side: Number of the side that the tee itself is in; 0: none.
        copies: Each side gets records of its own: a function that changes one would change that of the others.
    """

    def __init__(self, sides: Iterable[Link], following: Link, *, side: int = 0, copies: bool = False) -> None:
        self._side = side
        self._following = following
        self._copies = copies
        self._all = (*sides, following)

    @property
    def full(self) -> bool:
        """See Link."""
        # One that wants nothing any more must not hold up the others.
        return any(link.full for link in self._all if not link.done)

    @property
    def room(self) -> int:
        """See Link."""
        return min((link.room for link in self._all if not link.done), default=1)

    @property
    def done(self) -> bool:
        """See Link."""
        return all(link.done for link in self._all)

    def put(self, values: list[Any]) -> None:
        """See Link."""
        for link in self._all:
            if not link.done:
                own = self._copies and link is not self._following
                link.put(list(map(copied, values)) if own else list(values))

    def mark(self, mark: Mark) -> None:
        """See Link."""
        if isinstance(mark, Failed) and not self._side:
            mark.on_line = True
        # A failure, too: any of them may want nothing more before it arrives at its end. The output tells it once.
        for link in self._all:
            link.mark(mark)

    def finish(self, *, whole: bool) -> None:
        """See Link."""
        for link in self._all:
            link.finish(whole=whole)
