"""Runs a plan: one loop, on the consumer's thread, that moves records from stage to stage and waits for none of them.

Stages are served from the last to the first, so what is nearest to the consumer goes first. A stage takes no more than
the next one wants, and the source is pulled only as far as the first one wants: so the credit of each stage bounds what
is between source and consumer.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import Any

from allcores.limits import Limits
from allcores.pipelines.fused import Fused, FusedStep, load_all
from allcores.pipelines.links import AlignedOutput, End, Link, Operated, Output, Raised, Tee, Worked
from allcores.pipelines.marks import Mark
from allcores.pipelines.plan import Line, Plan, PlannedPool, Stage
from allcores.pipelines.statistics import StageStatistics
from allcores.pipelines.steps import InlineStep, WorkerStep
from allcores.pool.driver import Driver
from allcores.pool.pool import Pool
from allcores.pool.result_stream import BRIEF_NS, WAIT_S
from allcores.pool.stage_stream import StageStream
from allcores.system import deferral
from allcores.system.bell import Bell
from allcores.system.clock import monotonic_ns
from allcores.system.tracebacks import hide

#: A pull of the source that takes longer than this is a slow one, which is waited for only if a worker is idle, ns.
SLOW_PULL_NS = 2_000_000


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
        states: dict[int, list[bytes]] | None = None,
    ) -> None:
        self.plan = plan
        self._marks = marks = marks or barriers
        self._states = states
        self._bell = Bell()
        self._resources = ExitStack()
        self._closed = False
        self._stopped = False
        self._interrupted: KeyboardInterrupt | None = None
        self._waited_ns = BRIEF_NS
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
        except BaseException:
            self.close()
            raise
        self._source = None if isinstance(head, Worked) else _Source(iterator, head, marks=marks)

    # --- how it is built ---

    def _open_pools(self, plan: Plan, limits: Limits | None, options: dict[str, Any]) -> None:
        stages = [stage for stage in plan.stages if stage.kind == "pool"]
        shared = _shared_limits(limits or Limits(), max(1, len(stages)))
        for place, planned in enumerate(plan.pools):
            if any(stage.pool == place for stage in stages):
                self._pools.append(self._resources.enter_context(_pool(planned, shared, options)))
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
            return Tee([self._chain(side, End(side.side, self._output)) for side in stage.lines], following)
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
        function = fused if self.plan.pools[stage.pool].on == "processes" else fused.function
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
            self.close()

    def __del__(self) -> None:
        # One that was never read has no generator whose end would tell. At the program's end pools close themselves.
        if hasattr(self, "_drivers") and not sys.is_finalizing():
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
            self._resources.close()

    def stop(self) -> None:
        """Pull no more and start nothing more; what runs still gives its results. Safe from any thread."""
        self._stopped = True
        if self._source is not None:
            self._source.stop()
        for worked in self._worked:
            worked.stop()

    def _next_items(self) -> list[Any] | None:
        """What comes next, as it came; None at the end. Raises what a record, or the source, has raised."""
        output = self._output
        while True:
            try:
                if self._turn():
                    items, output.items = output.items, []
                    return items
                if output.error is not None:
                    raise output.error
                if output.done:
                    if self._interrupted is not None:
                        raise self._interrupted
                    return None
                if not self._feed():
                    self._wait()
            except KeyboardInterrupt as interrupt:
                if self._interrupted is not None:
                    raise
                self._interrupted = interrupt
                self.stop()

    def _turn(self) -> bool:
        """Move what is settled towards the end; whether something has arrived there."""
        output = self._output
        if output.items:
            return True
        moved = True
        while moved:
            moved = False
            for worked in self._worked:
                moved = worked.drain() or moved
                if output.items:
                    return True
            if output.done:
                return False
            if not moved and self._source is not None and not self._source.slow:
                moved = self._source.pull()
                if output.items:
                    return True
        return False

    def _feed(self) -> bool:
        """Give workers what is there; whether there is something to look at again."""
        for worked in self._worked:
            if not worked.finished:
                worked.stream.feed()
        pumped = False
        for driver in self._drivers:
            pumped = driver.backend.pump() or pumped
        if pumped:
            return True
        source = self._source
        return source is not None and source.slow and (not self._drivers or self._hungry()) and source.pull()

    def _hungry(self) -> bool:
        return any(driver.scheduler.demand.hungry for driver in self._drivers)

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

    def _wanted(self) -> bool:
        return any(worked.wants_turn() for worked in self._worked)

    def _wait_for_bell(self) -> None:
        bell = self._bell
        # Expected first, then looked: whoever rings in between is seen in what there is, or ends the wait.
        bell.expect()
        for worked in self._worked:
            with worked.stream.driver.lock:
                if worked.wants_turn():
                    return
        if bell.expected:
            bell.wait(WAIT_S)


class _Source:
    """Pulls records and barriers for a first link that does not do so itself."""

    def __init__(self, iterator: Iterator[Any], head: Link, *, marks: bool) -> None:
        self._iterator: Iterator[Any] | None = iterator
        self._head = head
        self._marks = marks
        self._stride = 1
        self.slow = False

    def stop(self) -> None:
        """Pull nothing more."""
        if self._iterator is not None:
            self._iterator = None
            self._head.finish()

    def pull(self) -> bool:
        """Pull some, unless the first link has enough; whether anything was done."""
        iterator, head = self._iterator, self._head
        if iterator is None or head.full:
            return False
        if head.done:
            self._iterator = None
            return True
        stride = min(self._stride, max(1, head.room))
        items: list[Any] = []
        begun = monotonic_ns()
        error: BaseException | None = None
        try:
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
            head.finish()
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


def fused_of(plan: Plan, stage: Stage) -> Fused:
    """The function of a pool stage."""
    steps = []
    for step, loaded in zip(stage.steps, plan.loaded(stage), strict=True):
        assert isinstance(step, WorkerStep)
        steps.append(FusedStep(step.kind, step.function, step.text, loaded))
    return Fused(steps, name=stage.name, with_loaded=bool(plan.pools[stage.pool].loaders))


def _pool(planned: PlannedPool, limits: Limits, options: dict[str, Any]) -> Pool:
    if planned.loaders:
        options = {**options, "preload": load_all, "preload_args": planned.loaders}
    if planned.on != "processes":
        options = {name: value for name, value in options.items() if name != "start_method"}
    return Pool(planned.workers, backend=planned.on, limits=limits, **options)


def _shared_limits(limits: Limits, stages: int) -> Limits:
    from dataclasses import replace

    return replace(
        limits,
        items_in_flight=max(1, limits.items_in_flight // stages),
        bytes_in_flight=max(1, limits.bytes_in_flight // stages),
    )
