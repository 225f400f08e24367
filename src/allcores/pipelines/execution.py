"""Runs a plan: one loop, on the consumer's thread, that moves records from stage to stage and waits for none of them.

Stages are served from the last to the first, so what is nearest to the consumer goes first. A stage takes no more than
the next one wants, and the source is pulled only as far as the first one wants: so the credit of each stage bounds what
is between source and consumer.
"""

from __future__ import annotations

import pickle
import sys
import weakref
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any

from allcores.errors import PoolBusy
from allcores.limits import Limits, check_limits
from allcores.pipelines.fused import Fused, FusedStep
from allcores.pipelines.links import Link, Operated, Tee
from allcores.pipelines.outputs import AlignedOutput, End, Output
from allcores.pipelines.plan import Line, Plan, Stage
from allcores.pipelines.source_reader import SourceReader
from allcores.pipelines.stage_pools import open_pool
from allcores.pipelines.stage_view import StageView
from allcores.pipelines.statistics import StageStatistics
from allcores.pipelines.steps import InlineStep, WorkerStep
from allcores.pipelines.worked import Worked
from allcores.pool.driver import Driver
from allcores.pool.pool import Pool
from allcores.pool.result_stream import BRIEF_NS, LOOK_NS, WAIT_S, wait_s
from allcores.pool.stage_stream import StageStream
from allcores.pool.statistics import Statistics
from allcores.system.bell import Bell
from allcores.system.clock import monotonic_ns
from allcores.system.interrupt_hold import InterruptHold
from allcores.system.tracebacks import hide
from allcores.transport.refilled_items import as_pulled


class Execution:
    """A plan at work: to be iterated once over what comes out of it. Also a context manager, which closes it.

    What reads it holds it, and not the other way round: dropping that, in the middle of a loop say, closes it.

    Args:
        plan: What to run.
        source: The records, and barriers.
        limits: Of all stages together: each has its share of the items and bytes.
        pool_options: Further ones, for each pool: see `Pool`.
        marks: The consumer wants marks: failures of records, rows of sides, and barriers, each in its place. Else a
            failure is raised where it stands, or skipped.
        barriers: The source has a barrier behind each record: what came of that, in sides too, is to come before it.
        progress: Show what stages do, on standard error.
        states: What in-line operators begin with, by the numbers of their stages: what barriers have noted, in order.
    """

    def __init__(
        self,
        plan: Plan,
        source: Iterable[Any],
        *,
        limits: Limits | None = None,
        pool_options: dict[str, Any] | None = None,
        marks: bool = False,
        barriers: bool = False,
        progress: bool = False,
        states: dict[int, list[bytes]] | None = None,
    ) -> None:
        check_limits(limits)
        self.plan = plan
        self._marks = marks = marks or barriers
        self._states = states
        self._bell = Bell()
        self._resources = ExitStack()
        self._closed = False
        self._stopped = False
        self._interrupted: KeyboardInterrupt | None = None
        self._hold = InterruptHold()
        self._waited_ns = BRIEF_NS
        #: when workers were given what there was
        self._fed_ns = 0
        sides = [0, *(line.side for line in plan.sides)]
        self._output = AlignedOutput(sides) if barriers and len(sides) > 1 else Output(sides, with_marks=marks)
        #: by number, in-line operators too
        self._links: dict[int, Operated | Worked] = {}
        self._worked: list[Worked] = []
        self._pools: list[Pool | None] = []
        iterator = iter(source)
        try:
            self._open_pools(plan, limits, pool_options or {})
            self._drivers: list[Driver] = []
            head = self._chain(plan.line, End(0, self._output))
            #: from the last stage to the first
            self._worked.sort(key=lambda worked: -worked.stage.number)
            for worked in self._worked:
                worked.open(iterator if worked is head else None)
                if worked.stream.driver not in self._drivers:
                    self._drivers.append(worked.stream.driver)
            if progress:
                # Once there is something to look at; and it must not keep alive what it looks at: a stream that is
                # dropped ends.
                self._resources.enter_context(StageView(partial(_statistics_of, weakref.ref(self))))
        except BaseException:
            self.close()
            raise
        if isinstance(head, Worked):
            self._source = None
        else:
            # Whose records wait in in-line steps before they are pickled; that with barriers has seen to it.
            pulled = as_pulled(iterator) if plan.may_copy and not barriers else iterator
            self._source = SourceReader(pulled, head, self._hold, marks=marks)

    # --- how it is built ---

    def _open_pools(self, plan: Plan, limits: Limits | None, options: dict[str, Any]) -> None:
        stages = [stage for stage in plan.stages if stage.kind == "pool"]
        shared = _shared_limits(limits or Limits(), max(1, len(stages)))
        for place, planned in enumerate(plan.pools):
            if any(stage.pool == place for stage in stages):
                self._pools.append(self._resources.enter_context(open_pool(plan, planned, shared, options)))
            else:
                self._pools.append(None)

    def _chain(self, line: Line, end: Link) -> Link:
        """The links of a line, built from its end; the first of them."""
        following = end
        for stage in reversed(line.stages):
            following = self._link(stage, following)
        return following

    def _link(self, stage: Stage, following: Link) -> Link:
        if stage.kind == "tee":
            sides = [self._chain(side, End(side.side, self._output)) for side in stage.lines]
            return Tee(sides, following, side=stage.side, copies=self.plan.shares)
        link: Operated | Worked
        if stage.kind == "inline":
            (step,) = stage.steps
            assert isinstance(step, InlineStep)
            operator = step.make()
            operator.saved = self._marks
            if self._states is not None and stage.number in self._states:
                operator.restore([pickle.loads(state) for state in self._states[stage.number]])
            link = Operated(stage, operator, following, with_marks=self._marks)
        else:
            fused = fused_of(self.plan, stage)
            link = Worked(stage, fused, following, self._opener(stage, fused), with_marks=self._marks)
            self._worked.append(link)
        self._links[stage.number] = link
        return link

    def _opener(self, stage: Stage, fused: Fused) -> Callable[..., StageStream]:
        pool = self._pools[stage.pool]
        assert pool is not None
        options = stage.options
        function = fused if self.plan.pools[stage.pool].pickles else fused.function
        return partial(
            StageStream,
            pool,
            function,
            self._bell,
            timeout=options.timeout,
            retries=options.retries,
            chunk=options.chunk,
            detailed=self._marks,
        )

    def pool_statistics(self) -> list[Statistics]:
        """What its pools have done so far, also after the end."""
        return [pool.statistics() for pool in self._pools if pool is not None]

    def statistics(self) -> tuple[StageStatistics, ...]:
        """What each stage has done so far, also after the end. Any thread may ask."""
        worked = sum(link.worked_ns for link in self._links.values()) or 1
        return tuple(
            StageStatistics(
                stage=stage.number,
                name=stage.name,
                runs_in=self.plan.place_text(stage),
                side=stage.side,
                taken=link.taken,
                given=link.given,
                failed=link.failed,
                queued=link.queued if isinstance(link, Worked) else 0,
                most_queued=link.most_queued if isinstance(link, Worked) else 0,
                seconds=link.worked_ns / 1e9,
                share=link.worked_ns / worked,
                idle=link.idle_ns / 1e9 if isinstance(link, Worked) else 0.0,
            )
            for stage in self.plan.stages
            if (link := self._links.get(stage.number)) is not None
        )

    # --- the consumer's side ---

    def __iter__(self) -> Generator[Any, None, None]:
        try:
            while True:
                items = self._next_items()
                if items is None:
                    return
                yield from items
        except BaseException as error:
            hide(error)
            raise
        finally:
            self._hold.release()
            self.close()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # One that was never read has no generator whose end would tell. At the program's end pools close themselves.
        if hasattr(self, "_drivers") and not is_finalizing():
            self.close()

    def __enter__(self) -> Execution:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is left, and end the workers. Idempotent."""
        if not self._closed:
            self._closed = True
            for worked in self._worked:
                worked.close()
            try:
                self._resources.close()
            except PoolBusy:
                # The end of an object that was dropped in the middle of a pool's own decision: each closes itself
                # once nobody holds it any more.
                self._resources.pop_all()

    def stop(self) -> None:
        """Pull no more and start nothing more; what runs still gives its results. Safe from any thread."""
        self._stopped = True
        for worked in self._worked:
            worked.stop()

    @property
    def whole(self) -> bool:
        """All came out that could come: it was not stopped, and nothing has raised. To be asked at the end.

        Else what stands behind the last barrier may be incomplete.
        """
        return self._output.whole

    def _next_items(self) -> list[Any] | None:
        """What comes next, as it came; None at the end. Raises what a record, or the source, has raised."""
        output = self._output
        while True:
            try:
                # Ctrl-C finds nothing in anyone's hands, so that what runs can still give its results.
                with self._hold:
                    self._turn()
                if not (output.items or output.done or self._pull()):
                    self._wait()
            except KeyboardInterrupt as interrupt:
                if self._interrupted is not None or self._hold.torn:
                    raise
                self._interrupted = interrupt
                self.stop()
            if output.items:
                items, output.items = output.items, []
                self._tell()
                return items
            if output.error is not None:
                raise output.error
            if output.done:
                if self._interrupted is not None:
                    raise self._interrupted
                self._tell()
                return None

    def _turn(self) -> None:
        """Move what is settled towards the end, until something has arrived there or nothing moves.

        Workers get what is there for them first, so that they have it while the consumer is busy with results.
        """
        output, source = self._output, self._source
        while not output.items:
            now = monotonic_ns()
            feeds = now - self._fed_ns > LOOK_NS
            moved = False
            for worked in self._worked:
                if feeds and not worked.waits_for_input:
                    if worked.stream.pulls:
                        with self._hold.lifted:
                            worked.feed()
                    else:
                        worked.feed()
                moved = worked.drain() or moved
            if feeds:
                self._fed_ns = now
            if output.items or output.done:
                return
            if source is not None:
                if self._stopped:
                    source.stop()
                elif not source.slow:
                    moved = source.pull() or moved
            if not moved:
                if feeds:
                    return
                # Nothing moves any more: perhaps because workers have nothing.
                self._fed_ns = 0

    def _pull(self) -> bool:
        """Ask for what may take its time; whether there is something to look at again."""
        for worked in self._worked:
            if worked.waits_for_input and not self._stopped:
                worked.feed()
        pumped = False
        for driver in self._drivers:
            pumped = driver.backend.pump() or pumped
        if pumped:
            return True
        source = self._source
        if source is None or not self._may_wait_for(source):
            return False
        with self._hold:
            return source.pull()

    def _may_wait_for(self, source: SourceReader) -> bool:
        """Whether a slow source is to be pulled: its records are wanted, and nobody has anything else to do.

        So if a worker of the first stage that goes on is idle, or there is no such stage.
        """
        if not source.slow or self._stopped or not source.is_wanted:
            return False
        going_on = [worked for worked in self._worked if not worked.finished]
        first = min(going_on, key=lambda worked: worked.stage.number, default=None)
        return first is None or first.stream.driver.scheduler.demand.hungry

    def _tell(self) -> None:
        """Warn of what workers have changed in vain."""
        for driver in self._drivers:
            if driver.lost_changes.untold:
                driver.lost_changes.tell()

    def _wait(self) -> None:
        """Until a stage has something to do."""
        begun = monotonic_ns()
        if len(self._drivers) == 1:
            (driver,) = self._drivers
            driver.backend.step_back()
            if self._waited_ns < BRIEF_NS or not driver.backend.wait(self._bell, self._wanted, WAIT_S):
                self._wait_for_bell()
        else:
            self._wait_for_bell()
        self._waited_ns = monotonic_ns() - begun
        self._fed_ns = 0

    def _wanted(self) -> bool:
        source = self._source
        if source is not None and self._may_wait_for(source):
            return True
        return any(worked.wants_turn() for worked in self._worked)

    def _wait_for_bell(self) -> None:
        bell = self._bell
        # Expected first, then looked: whoever rings in between is seen in what there is, or ends the wait.
        bell.expect()
        if self._source is not None and self._may_wait_for(self._source):
            return
        for worked in self._worked:
            with worked.stream.driver.lock:
                if worked.wants_turn():
                    return
        if bell.expected:
            bell.wait(wait_s(*self._drivers))


def _statistics_of(execution: weakref.ref[Execution]) -> tuple[StageStatistics, ...]:
    found = execution()
    return () if found is None else found.statistics()


def fused_of(plan: Plan, stage: Stage) -> Fused:
    """The function of a pool stage."""
    steps = []
    for step, loaded in zip(stage.steps, plan.loaded(stage), strict=True):
        assert isinstance(step, WorkerStep)
        steps.append(FusedStep(step.kind, step.function, step.text, loaded))
    return Fused(steps, name=stage.name, with_loaded=bool(plan.pools[stage.pool].loaders), copies=stage.overlaps)


def _shared_limits(limits: Limits, stages: int) -> Limits:
    from dataclasses import replace

    return replace(
        limits,
        items_in_flight=max(1, limits.items_in_flight // stages),
        bytes_in_flight=max(1, limits.bytes_in_flight // stages),
    )
