"""A stage that workers run: hands them records, and passes on results, marks and failures in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from allcores.pipelines.fused import Fused
from allcores.pipelines.links import Link, Raised
from allcores.pipelines.marks import Failed, Mark
from allcores.pipelines.plan import Stage
from allcores.pool.segment_values import never_started, open_segment, outcomes_of
from allcores.pool.stage_stream import StageStream
from allcores.scheduler.segment import Segment
from allcores.system import deferral
from allcores.system.clock import monotonic_ns
from allcores.transport.exceptions import add_note


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
        #: all records of the source go before what it was given last
        self._whole = True
        self.given = self.failed = 0
        #: the largest number of records that wait and run; ns without one that runs, and up to when
        self.most_queued = self.idle_ns = 0
        self._looked_ns = monotonic_ns()
        self._was_idle = True

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
        self._note_queue()

    def mark(self, mark: Mark) -> None:
        """See Link."""
        if not self._finished:
            self._marks.append((self._count, mark))

    def finish(self, *, whole: bool) -> None:
        """See Link."""
        self._whole = self._whole and whole
        self.stream.end_input()

    # --- results ---

    @property
    def waits_for_input(self) -> bool:
        """To feed it may take long: it pulls a source that is slow."""
        return self.stream.pulls and self.stream.slow

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
                self._whole = False
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
        self._note_queue()

    def _note_queue(self) -> None:
        queued = self.queued
        if queued > self.most_queued:
            self.most_queued = queued

    def feed(self) -> None:
        """Give workers what is there; what it pulls itself is waited for."""
        if not self._finished:
            self.stream.feed()
            self._look()

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
        self._look()
        self._finished = True
        stream = self.stream
        whole = self._whole and not stream.stopped
        stream.close()
        self._pass_marks(self._passed)
        if stream.input_error is not None:
            self.following.mark(Raised(stream.input_error))
        else:
            self.following.finish(whole=whole)

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
        marks = self._marks
        if segment.failures:
            self._pass_each(segment)
        else:
            values, begin, following = open_segment(segment), 0, self.following
            while marks and marks[0][0] < end:
                place, mark = marks.popleft()
                stop = place - segment.start
                if stop > begin:
                    self._give_values(values[begin:stop])
                    begin = stop
                following.mark(mark)
            self._give_values(values[begin:] if begin else values)
        if marks and not self._finished:
            self._pass_marks(end)
        return not self._finished

    def _give_values(self, values: list[Any]) -> None:
        """Pass on what the function gave."""
        self._give(list(chain.from_iterable(values)) if self._gives_lists else values)

    def _pass_each(self, segment: Segment) -> None:
        out: list[Any] = []
        for outcome in outcomes_of(segment):
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
