"""From steps to stages: which steps are one task, and whose workers run it. Pure, so that tables can test it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from allcores.formatting import counted
from allcores.pipelines.steps import MANY, InlineStep, On, StageOptions, Step, WorkerStep, WriteStep, one_line
from allcores.system.plain_record import record

#: place of the pool that stages share who ask for no workers of their own
SHARED = 0


@record
class Stage:
    """Steps that are run together.

    Attributes:
        number: From 1, in the order in which `explain` shows stages.
        kind: "pool": workers run it; "inline": the program does; "tee": copies of the records go into `lines`.
        name: For messages and reports.
        steps: What it does; several of a pool stage are one task.
        side: Number of the side that it belongs to; 0: none.
        pool: Place of its pool in `Plan.pools`; -1 if it has none.
        options: Of a pool stage.
        lines: Of a tee.
        overlaps: Of a pool stage: its records are of windows that have records in common, which each gets copies of.
    """

    number: int
    kind: Literal["pool", "inline", "tee"]
    name: str
    steps: tuple[Step, ...]
    side: int = 0
    pool: int = -1
    options: StageOptions = StageOptions()
    lines: tuple[Line, ...] = ()
    overlaps: bool = False


@record
class Line:
    """Stages one after the other, to an end.

    Attributes:
        stages: In order.
        sink: What `write` was given; None without it.
        side: Its number; 0 for the pipeline itself.
    """

    stages: tuple[Stage, ...]
    sink: Any
    side: int = 0


@record
class PlannedPool:
    """Workers of one or more stages.

    Attributes:
        on: Where they run.
        workers: How many.
        loaders: What is loaded once for all of them: functions with their arguments, each a first argument of steps.
        shared: It is the one for all stages that ask for none of their own.
        name: Of the stage whose own pool it is.
    """

    on: On
    workers: int
    loaders: tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...] = ()
    shared: bool = True
    name: str = ""

    @property
    def pickles(self) -> bool:
        """Records are pickled on their way to its workers, and from there."""
        return self.on not in ("threads", "serial")

    @property
    def text(self) -> str:
        """In words."""
        if self.on == "serial":
            return "the program itself"
        nouns = {name: (name.removesuffix("s"), name) for name in ("threads", "interpreters")}
        nouns["processes"] = ("process", "processes")
        # How many nodes a cluster has shows when a pool is opened on it.
        where = counted(self.workers, *nouns[self.on]) if self.on in nouns else f"the nodes of {self.on}"
        return f"{where}, {'shared' if self.shared else 'its own'}"


@record
class Plan:
    """What will run.

    Attributes:
        line: The stages.
        pools: The shared one first; it has no workers if no stage uses it.
    """

    line: Line
    pools: tuple[PlannedPool, ...]

    @property
    def may_copy(self) -> bool:
        """Records may be copied as they are pulled: they are pickled before a function of the program sees them."""
        pools = [self.pools[stage.pool] for stage in self.stages if stage.kind == "pool"]
        return bool(pools) and all(pool.pickles for pool in pools) and _unseen(self.line)

    @property
    def shares(self) -> bool:
        """A function gets the very record that others get, too, for it runs in the program, which pickles nothing."""
        return any(not self.pools[stage.pool].pickles for stage in self.stages if stage.kind == "pool")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All of them, those of sides too, by number."""
        return tuple(_all(self.line))

    @property
    def sides(self) -> tuple[Line, ...]:
        """All sides, by number."""
        return tuple(sorted(_sides(self.line), key=lambda line: line.side))

    def loaded(self, stage: Stage) -> list[int | None]:
        """For each step of a pool stage, the place of its first argument among what its pool loads."""
        loaders = self.pools[stage.pool].loaders
        return [_place(loaders, step) if isinstance(step, WorkerStep) else None for step in stage.steps]

    def place_text(self, stage: Stage) -> str:
        """Where a stage runs, in words."""
        return "the program, in order" if stage.pool < 0 else self.pools[stage.pool].text

    def text(self) -> str:
        """The plan as `explain` prints it: one line per stage."""
        rows = [("stage", "name", "runs in", "steps")]
        for stage in self.stages:
            number = f"{stage.number}" if not stage.side else f"{stage.number} (side {stage.side})"
            rows.append((number, stage.name, self.place_text(stage), _steps_text(stage)))
        for line in (self.line, *self.sides):
            if line.sink is not None:
                end = "end" if not line.side else f"end of side {line.side}"
                rows.append((end, "", "the program, in order", WriteStep(line.sink).text))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        shown = [
            "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]) for row in rows
        ]
        return "\n".join(text.rstrip() for text in shown)


def _steps_text(stage: Stage) -> str:
    text = one_line(stage.steps)
    notes = [] if len(stage.steps) < 2 else ["fused"]
    options = stage.options
    if options.timeout is not None:
        notes.append(f"timeout {options.timeout:g} s")
    if options.retries:
        notes.append(f"retries {getattr(options.retries, 'times', options.retries)}")
    if options.on_error != "raise":
        how = options.on_error
        notes.append(f"on error {how if isinstance(how, str) else getattr(how, '__name__', 'a function')}")
    if options.chunk is not None:
        notes.append(f"chunks of {options.chunk}")
    return f"{text}  [{', '.join(notes)}]" if notes else text


def _all(line: Line) -> Iterator[Stage]:
    for stage in line.stages:
        yield stage
        for side in stage.lines:
            yield from _all(side)


def _sides(line: Line) -> Iterator[Line]:
    for stage in line.stages:
        for side in stage.lines:
            yield side
            yield from _sides(side)


def _place(loaders: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], step: WorkerStep) -> int | None:
    if step.preload is None:
        return None
    for place, (load, arguments) in enumerate(loaders):
        if load is step.preload and _same(arguments, step.preload_args):
            return place
    return None


def _same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """Whether arguments are the same objects, or equal plain values: of others `==` may be anything."""
    plain = (str, int, float, bytes, bool, type(None))
    return len(first) == len(second) and all(
        one is other or (type(one) is type(other) and isinstance(one, plain) and one == other)
        for one, other in zip(first, second, strict=True)
    )


def plan(steps: Sequence[Step], *, cores: int, workers: int | None = None, backend: On = "processes") -> Plan:
    """Plan a pipeline.

    Args:
        steps: Of the pipeline.
        cores: The core budget.
        workers: Of the shared pool; None: what the stages with workers of their own leave of the budget, at least 1.
        backend: Of stages that do not say where they run. "serial" is for all of them.
    """
    planner = _Planner(backend)
    line = planner.line(steps, side=0)
    uses_shared = any(stage.pool == SHARED for stage in _all(line))
    counts = _shares([workers if uses_shared else 0, *(count for _, count, _ in planner.own)], cores)
    shared = PlannedPool(backend, 1 if backend == "serial" else counts[SHARED], tuple(planner.loaders[SHARED]))
    own = tuple(
        PlannedPool(on, 1 if on == "serial" else counts[place], tuple(planner.loaders[place]), shared=False, name=name)
        for place, (on, _, name) in enumerate(planner.own, 1)
    )
    return Plan(line, (shared, *own))


def _shares(asked: Sequence[int | None], cores: int) -> list[int]:
    """How many workers each pool gets: what it asks for; the others share what is left of the cores, at least one each.

    What does not divide goes to the first, which is the shared one.
    """
    left = cores - sum(count or 0 for count in asked)
    open_pools = [place for place, count in enumerate(asked) if count is None]
    counts = [1 if count is None else count for count in asked]
    for turn, place in enumerate(open_pools):
        share, rest = divmod(max(left, 0), len(open_pools))
        counts[place] = max(1, share + (1 if turn < rest else 0))
    return counts


class _Planner:
    def __init__(self, backend: On) -> None:
        self._backend = backend
        self._stages = 0
        self._sides = 0
        #: where pools of their own run, how many workers they ask for, and the names of their stages
        self.own: list[tuple[On, int | None, str]] = []
        self.loaders: list[list[tuple[Callable[..., Any], tuple[Any, ...]]]] = [[]]

    def line(self, steps: Sequence[Step], side: int, *, overlaps: bool = False) -> Line:
        """The stages of some steps.

        Args:
            steps: Of a pipeline, or of a side.
            side: Its number.
            overlaps: See `Stage`.
        """
        stages: list[Stage] = []
        sink: Any = None
        group: list[WorkerStep] = []
        for step in steps:
            if isinstance(step, WriteStep):
                # Rows are encoded where the records are made, or where all workers share it.
                sink = step.sink
                step = WorkerStep("map", sink.wrap(_unchanged), "write", None)
            if isinstance(step, WorkerStep) and (not group or _joins(group, step)):
                group.append(step)
                continue
            if group:
                stages.append(self._pool_stage(group, side, overlaps))
                group, overlaps = [], False
            if isinstance(step, WorkerStep):
                group = [step]
            elif isinstance(step, InlineStep):
                overlaps = overlaps or (step.kind == "window" and step.arguments[1] < step.arguments[0])
                stages.append(Stage(self._next(), "inline", step.kind, (step,), side))
            else:
                number = self._next()
                lines = []
                for each in step.sides:
                    self._sides += 1
                    lines.append(self.line(each, self._sides, overlaps=overlaps))
                stages.append(Stage(number, "tee", "tee", (step,), side, lines=tuple(lines)))
        if group:
            stages.append(self._pool_stage(group, side, overlaps))
        return Line(tuple(stages), sink, side)

    def _next(self) -> int:
        self._stages += 1
        return self._stages

    def _pool_stage(self, group: list[WorkerStep], side: int, overlaps: bool) -> Stage:
        options = next((step.options for step in group if step.options is not None), StageOptions())
        name = " → ".join(step.name for step in group if step.function is not None) or group[0].name
        pool = SHARED
        on = options.on or self._backend
        if self._backend != "serial" and (options.workers is not None or on != self._backend):
            self.own.append((on, 1 if on == "serial" else options.workers, name))
            self.loaders.append([])
            pool = len(self.own)
        loaders = self.loaders[pool]
        for step in group:
            if step.preload is not None and _place(loaders, step) is None:
                loaders.append((step.preload, step.preload_args))
        return Stage(self._next(), "pool", name, tuple(group), side, pool, options, (), overlaps)


def _unchanged(value: Any) -> Any:
    return value


def _joins(group: list[WorkerStep], step: WorkerStep) -> bool:
    """Whether a step is one task with those before it."""
    if any(each.replaces for each in group):
        # It is for what a function gives in the place of a record that failed, too: that comes out of the task before.
        return False
    if step.options is None:
        return True
    if not step.fuse:
        return False
    options = next((each.options for each in group if each.options is not None), None)
    if options is None:
        return True
    if options.on_error != "raise" and any(each.kind in MANY for each in group):
        # One of many records that fails is to cost itself, and not what else came of the same one.
        return False
    return _alike(options, step.options)


def _alike(first: StageOptions, second: StageOptions) -> bool:
    return all(
        getattr(first, name) is getattr(second, name) or getattr(first, name) == getattr(second, name)
        for name in StageOptions.__match_args__
    )


def _unseen(line: Line) -> bool:
    """No step of a line calls a function of the program's with records as they were pulled."""
    for stage in line.stages:
        if stage.kind == "pool":
            return True
        if not all(_unseen(side) for side in stage.lines):
            return False
        if any(callable(each) for step in stage.steps if isinstance(step, InlineStep) for each in step.arguments):
            return False
    return True
