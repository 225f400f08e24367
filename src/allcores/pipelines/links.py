"""What stands between two stages: takes records and marks in order, and passes on what comes of them.

A link that is `full` wants nothing for now; one that is `done` wants nothing any more. Whoever puts asks before.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from allcores.outcome import Kind
from allcores.pipelines.fused import Fused
from allcores.pipelines.marks import Barrier, Failed, Mark, Sided
from allcores.pipelines.operators import Batch, Enumerate, Operator
from allcores.pipelines.plan import Stage
from allcores.pool.stage_stream import StageStream, all_outcomes, failures_of, never_started, values_of
from allcores.scheduler.map_state import Segment
from allcores.system import deferral
from allcores.system.clock import monotonic_ns
from allcores.transport.exceptions import add_note

#: Records that are pulled from the source at once, at most, where no stage with workers says how many it wants. Larger:
#: memory, for records may be large. Smaller: each turn of the loop costs some microseconds.
MOST_PULLED = 64
#: What one side may be ahead of the others, elements, where they wait for each other at barriers. Larger: memory.
#: Smaller: stages of the quicker side stand still more often.
MOST_WAITING = 1_024


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

    def finish(self) -> None:
        """No more will be put."""
        raise NotImplementedError


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
            self.error = mark.error
        elif self._with_marks:
            if not isinstance(mark, Barrier) or not side:
                self.items.append(mark)
        elif isinstance(mark, Failed):
            self.error = mark.error

    def end(self, side: int) -> None:
        """One side has come to its end."""
        self._open.discard(side)


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

    def full(self, side: int) -> bool:
        """See Output."""
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
            self.end(side)

    def end(self, side: int) -> None:
        """See Output."""
        super().end(side)
        self._align()

    def _align(self) -> None:
        """Pass on what is complete: up to a barrier that has come from all sides that are still open."""
        while any(self._barriers.values()) and all(self._barriers[side] for side in self._open):
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
                while waiting:
                    self._pass(waiting.popleft())

    def _pass(self, element: Any) -> None:
        if isinstance(element, Raised):
            self.error = element.error
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
        self._output.mark(self._side, mark)

    def finish(self) -> None:
        """See Link."""
        if not self._finished:
            self._finished = True
            self._output.end(self._side)


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
        return self._next.room * self.operator.per_record

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
            self.finish()

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
            # As bytes: the operator goes on before anyone writes them.
            mark.states[self.stage.number] = pickle.dumps(self.operator.state())
        self._next.mark(mark)

    def finish(self) -> None:
        """See Link."""
        if self._finished:
            return
        self._finished = True
        self._give(list(self.operator.finish()))
        self._next.finish()


class Tee(Link):
    """Copies of all records, into each side and onwards."""

    def __init__(self, sides: Iterable[Link], following: Link) -> None:
        self._all = (*sides, following)

    @property
    def full(self) -> bool:
        """See Link."""
        return any(link.full for link in self._all)

    @property
    def room(self) -> int:
        """See Link."""
        return min(link.room for link in self._all)

    @property
    def done(self) -> bool:
        """See Link."""
        return all(link.done for link in self._all)

    def put(self, values: list[Any]) -> None:
        """See Link."""
        for link in self._all:
            if not link.done:
                link.put(list(values))

    def mark(self, mark: Mark) -> None:
        """See Link."""
        for link in self._all:
            link.mark(mark)

    def finish(self) -> None:
        """See Link."""
        for link in self._all:
            link.finish()


class Worked(Link):
    """A stage that workers run.

    Args:
        stage: What is run.
        fused: Its function.
        following: Where its results go.
        open_stream: Begins its map, given what it pulls itself, or None.
        with_marks: A failure is a mark, whatever the stage says; else what is to be raised ends the stage.
    """

    def __init__(
        self,
        stage: Stage,
        fused: Fused,
        following: Link,
        open_stream: Callable[..., StageStream],
        *,
        with_marks: bool,
    ) -> None:
        self.stage = stage
        self.following = following
        self._gives_lists = fused.gives_lists
        self._open_stream = open_stream
        self._with_marks = with_marks
        self._stream: StageStream | None = None
        #: marks, and how many records go before each
        self._marks: deque[tuple[int, Mark]] = deque()
        #: records that were put, and those whose results were passed on
        self._count = self._passed = 0
        self._finished = False
        self.given = self.failed = 0
        #: the largest number of records that wait and run; ns without one that runs, and up to when
        self.most_queued = self.idle_ns = 0
        self._looked_ns = 0
        self._was_idle = False

    def open(self, items: Iterable[Any] | None) -> None:
        """Begin; with what it pulls itself, if anything."""
        self._stream = self._open_stream(items=None if items is None else self._without_marks(items))

    def _without_marks(self, items: Iterable[Any]) -> Iterable[Any]:
        return self._stripped(items) if self._with_marks else items

    def _stripped(self, items: Iterable[Any]) -> Iterable[Any]:
        for item in items:
            if isinstance(item, Mark):
                self._marks.append((self._count, item))
            else:
                self._count += 1
                yield item

    @property
    def stream(self) -> StageStream:
        """Its map."""
        assert self._stream is not None
        return self._stream

    # --- input ---

    @property
    def full(self) -> bool:
        """See Link."""
        return self.stream.full

    @property
    def room(self) -> int:
        """See Link."""
        return self.stream.room

    @property
    def done(self) -> bool:
        """See Link."""
        return self._finished or self.following.done

    def put(self, values: list[Any]) -> None:
        """See Link."""
        self._count += len(values)
        self.stream.put(values)

    def mark(self, mark: Mark) -> None:
        """See Link."""
        self._marks.append((self._count, mark))

    def finish(self) -> None:
        """See Link."""
        self.stream.end_input()

    # --- results ---

    @property
    def finished(self) -> bool:
        """Nothing more will come of it."""
        return self._finished

    def drain(self) -> bool:
        """Pass on what is settled, as far as it is wanted; whether there was anything."""
        if self._finished:
            return False
        self._look()
        stream, following = self.stream, self.following
        if following.done:
            self.cancel()
            return True
        moved = self._pass_marks(self._passed) if self._marks else False
        while not following.full:
            segment = stream.take()
            if segment is None:
                break
            moved = True
            if stream.stopped and never_started(segment):
                # Values have no index of their own: none may follow a gap.
                self._end()
                return True
            if not self._pass_on(segment):
                return True
            if self.done:
                self.cancel()
                return True
        if stream.over and not following.full:
            self._end()
            return True
        return moved

    def _look(self) -> None:
        """Note what there is to do, for the report."""
        now = monotonic_ns()
        if self._was_idle:
            self.idle_ns += now - self._looked_ns
        self._looked_ns = now
        stream = self.stream
        self._was_idle = stream.pulled == stream.settled
        queued = self.queued
        if queued > self.most_queued:
            self.most_queued = queued

    @property
    def queued(self) -> int:
        """Records that were put and have no result yet."""
        stream = self.stream
        return stream.pulled - stream.settled + stream.waiting

    @property
    def taken(self) -> int:
        """Records that were put, ever."""
        return self.stream.pulled + self.stream.waiting

    @property
    def worked_ns(self) -> int:
        """Time in its function, ns, of all workers together."""
        return self.stream.worked_ns

    def _end(self) -> None:
        """All is passed on."""
        self._finished = True
        stream = self.stream
        stopped = stream.stopped
        stream.close()
        if not stopped:
            self._pass_marks(self._count)
        if stream.input_error is not None:
            self.following.mark(Raised(stream.input_error))
        else:
            self.following.finish()

    def cancel(self) -> None:
        """Nobody wants what it gives."""
        self._finished = True
        self.close()

    def close(self) -> None:
        """End its map. Idempotent."""
        if self._stream is not None:
            self._stream.close()

    def stop(self) -> None:
        """Start nothing more."""
        if self._stream is not None and not self._finished:
            self._stream.stop()

    def wants_turn(self) -> bool:
        """Whether it has something to pass on or to begin; with the lock of its driver held."""
        if self._finished:
            return False
        if self.following.full:
            return self.stream.may_begin()
        return self.stream.wants_turn()

    def _pass_marks(self, place: int) -> bool:
        """Pass the marks that stand before the record of this place."""
        marks = self._marks
        moved = False
        while marks and marks[0][0] <= place:
            self.following.mark(marks.popleft()[1])
            moved = True
        return moved

    def _pass_on(self, segment: Segment) -> bool:
        """Pass on what was settled; False if it has ended the stage."""
        self._passed = end = segment.start + segment.count
        if not failures_of(segment) and not (self._marks and self._marks[0][0] < end):
            values = values_of(segment)
            if self._gives_lists:
                values = list(chain.from_iterable(values))
            self._give(values)
        else:
            self._pass_each(segment)
        if self._marks and not self._finished:
            self._pass_marks(end)
        return not self._finished

    def _pass_each(self, segment: Segment) -> None:
        out: list[Any] = []
        for outcome in all_outcomes(segment):
            if self._marks and self._marks[0][0] <= outcome.index:
                self._give(out)
                out = []
                self._pass_marks(outcome.index)
            error = outcome.error
            if error is None:
                value: Any = outcome.value
                if self._gives_lists:
                    out.extend(value)
                else:
                    out.append(value)
                continue
            self.failed += 1
            policy = self.stage.options.on_error
            if callable(policy):
                try:
                    out.append(policy(outcome.item, error))
                    continue
                except Exception as raised:
                    if deferral.raised_by_handler(raised):
                        raise
                    error, policy = raised, "raise"
            if policy == "skip" and not self._with_marks:
                continue
            self._give(out)
            out = []
            stage = self.stage
            add_note(error, f"allcores: in stage {stage.number} of the pipeline ({stage.name}), record {outcome.index}")
            failed = Failed(
                stage.number, stage.name, outcome.index, outcome.kind, error, outcome.item, policy,
                attempts=outcome.attempts, seconds=outcome.seconds, worker=outcome.worker,
            )  # fmt: skip
            self.following.mark(failed)
            if not self._with_marks:
                self.cancel()
                return
        self._give(out)

    def _give(self, values: list[Any]) -> None:
        if values:
            self.given += len(values)
            self.following.put(values)
